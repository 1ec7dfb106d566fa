"""What a plan takes from the material: its phase fractions, and how thick the slices are at each noise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mdiff_client.sampling.condition import Condition
from mdiff_client.sampling.thick_slices import GaussianModel, Thickness
from mdiff_core import Descriptors, ModelContract, UsageError


def phase_references(contracts: Sequence[ModelContract], condition: Condition) -> tuple[Descriptors, ...]:
    """Of each phase, in the order of their labels: the mean over the planes' models.

    Raises:
        UsageError: a model without them.
    """
    of_planes = {}
    for contract in contracts:
        if not contract.phases or not all(phase.name in contract.references for phase in contract.phases):
            raise UsageError(
                f"model {contract.name}: this plan needs phases with reference curves in the contract: use --plan paper"
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
def slice_thicknesses(
    model: GaussianModel, sigmas: tuple[float, ...], shares: tuple[float, ...]
) -> tuple[Thickness, ...]:
    """Thickness of the slices at each σ, with a share of the width that is best for the field."""
    return tuple(model.thickness(sigma, share) for sigma, share in zip(sigmas, shares, strict=True))


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
