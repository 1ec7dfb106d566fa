"""The sampling loop: Algorithm 1 of Micro3Diff, its respaced forms, and the plans that work with few steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt

from mdiff_client.denoisers import Denoiser
from mdiff_client.sampling.condition import UNCONDITIONAL, Condition
from mdiff_client.sampling.noise import Noise, Purpose
from mdiff_client.sampling.plan import SamplingPlan
from mdiff_client.sampling.planes import MultiPlane
from mdiff_client.sampling.reverse import renoise, reverse_step
from mdiff_client.sampling.thick_slices import PLAIN, GaussianModel, Thickness
from mdiff_core import Descriptors, ModelContract, UsageError


def sample(
    denoiser: Denoiser,
    plan: SamplingPlan,
    seed: int,
    volume: int = 0,
    on_evaluation: Callable[[], object] = lambda: None,
    condition: Condition = UNCONDITIONAL,
) -> npt.NDArray[np.float32]:
    """Sample one volume: a cube with the edge of the network's images.

    Args:
        denoiser: the network; it sees batches of all slices of one plane.
        plan: how to sample.
        seed: of the library of volumes, 0 … 2⁶⁴-1.
        volume: number of this volume in the library.
        on_evaluation: called after each network evaluation, for progress.
        condition: what the volume is asked to be.

    Returns:
        x_0, float32 [C, Z, Y, X], data range [-1, 1]. The same arguments give the same volume.

    Raises:
        UsageError: plan or condition ask for more than the model's contract offers.
        UnavailableError, PermanentError: from the denoiser.
    """
    contract = denoiser.contract
    training = contract.schedule.build()
    schedule = plan.schedule(training)
    size = contract.cube
    fractions, thicknesses = None, (PLAIN,) * len(schedule)
    if plan.tilt or plan.thick_slices:
        references = _references(contract, condition)
        fractions = tuple(of.fraction for of in references)
    if plan.thick_slices:
        sigmas = tuple(schedule.sigma.tolist())
        thicknesses = _thicknesses(references, sigmas, size[0], plan.thick_slices)
    planes = MultiPlane(denoiser, condition, plan, training, fractions, on_evaluation)
    noise = Noise(seed, volume)
    shape = (contract.channels, *size)

    taken = itertools.count()
    x: npt.NDArray[np.floating] = noise.normal(Purpose.START, 0, 0, shape)
    for i in reversed(range(len(schedule))):
        passes = plan.passes(schedule.sigma[i].item())
        for repeat in range(passes):
            # Algorithm 1 turns to the next plane with the step; the lagged average with every pass.
            turn = i if plan.planes == "turn" else next(taken)
            shift = noise.shift(i, repeat, size) if plan.roll else (0, 0, 0)
            prediction = planes.predict(x, schedule.alpha_bar[i].item(), turn, thicknesses[i], shift)
            draw = partial(noise.normal, Purpose.REVERSE, i, repeat, shape)
            following = reverse_step(plan, schedule, x, prediction.x0, i, draw, prediction.v)
            if repeat + 1 < passes and i > 0:
                x = renoise(schedule, following, i, noise.normal(Purpose.RENOISE, i, repeat, shape))
        x = following
    return x.astype(np.float32)


def _references(contract: ModelContract, condition: Condition) -> tuple[Descriptors, ...]:
    """Of each phase, in the order of their labels."""
    if not contract.phases or not all(phase.name in contract.references for phase in contract.phases):
        raise UsageError(
            f"model {contract.name}: this plan needs phases with reference curves in the contract: use --plan paper"
        )
    references = contract.references_at(condition.fractions)
    return tuple(references[phase.name] for phase in contract.phases)


@lru_cache(maxsize=8)  # the same for every volume of a run
def _thicknesses(
    references: tuple[Descriptors, ...], sigmas: tuple[float, ...], n: int, share: float
) -> tuple[Thickness, ...]:
    model = GaussianModel(np.mean([_autocovariance(of) for of in references], axis=0), n)
    return tuple(model.thickness(sigma, share) for sigma in sigmas)


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
