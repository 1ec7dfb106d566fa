"""What a plan takes from the material: its phase fractions, and how thick the slices are at each noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mdiff_client.sampling.condition import Condition
from mdiff_client.sampling.plan import SamplingPlan
from mdiff_client.sampling.reverse import noise_kept
from mdiff_client.sampling.thick_slices import GaussianModel, Look, Thickness
from mdiff_core import Descriptors, ModelContract, NoiseSchedule, UsageError


def phase_references(contracts: Sequence[ModelContract], condition: Condition) -> tuple[Descriptors, ...]:
    """Of each phase, in the order of their labels: the mean over the planes' models.

    Raises:
        UsageError: a model without them.
    """
    of_planes = {}
    for contract in contracts:
        if not contract.phases or not all(phase.name in contract.references for phase in contract.phases):
            raise UsageError(
                f"model {contract.name}: this plan needs phases with reference curves in the contract: use --plan plain"
            )
        references = contract.references_at(condition.fractions)
        of_planes[contract.name] = [references[phase.name] for phase in contract.phases]
    if len(of_planes) == 1:
        return tuple(*of_planes.values())
    return tuple(Descriptors.mean(of_phase) for of_phase in zip(*of_planes.values(), strict=True))


@lru_cache(maxsize=8)  # the same for every volume of a run
def gaussian_model(references: tuple[Descriptors, ...], n: int) -> GaussianModel:
    """The Gaussian field with the mean covariance of the phases, on a grid of ``n`` voxels an edge."""
    return GaussianModel(np.mean([_autocovariance(of) for of in references], axis=0), n)


@lru_cache(maxsize=8)
def slice_thicknesses(model: GaussianModel, plan: SamplingPlan, training: NoiseSchedule) -> tuple[Thickness, ...]:
    """Thickness of the slices at each pass of a plan: the plan's share of the width that is best for the field, and the
    gain for the planes as they were last asked."""
    schedule = plan.schedule(training)
    sigmas = schedule.sigma.tolist()
    widths = [plan.share(sigma) * model.width(sigma) for sigma in sigmas]
    averaged = plan.planes in ("average", "lagged")
    looks: dict[int, Look] = {}
    found = []
    for i, _, again, axes in plan.asked(training):
        if not averaged:
            looks.clear()
        for axis in axes:
            weight = plan.ratio[axis] / sum(plan.ratio) if averaged else 1.0
            looks[axis] = Look(axis, sigmas[i], widths[i], 1.0, weight)
        found.append(Thickness(widths[i], model.gain(sigmas[i], list(looks.values()))))
        kept = noise_kept(plan, schedule, i, again=again)
        looks = {axis: dataclasses.replace(look, kept=kept * look.kept) for axis, look in looks.items()}
    return tuple(found)


def _autocovariance(of: Descriptors) -> npt.NDArray[np.float64]:
    """Of a channel that is 1 in a phase and -1 elsewhere.

    S2 is the moment of a field of 0 and 1, which are half as far apart. Where it was measured at another fraction,
    S2(0), the phase is taken to be correlated alike.
    """
    s2 = np.array(of.s2)
    autocovariance: npt.NDArray[np.float64] = (
        4 * of.fraction * (1 - of.fraction) * (s2 - s2[0] ** 2) / (s2[0] - s2[0] ** 2)
    )
    return autocovariance
