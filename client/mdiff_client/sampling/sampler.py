"""The sampling loop: Algorithm 1 of Micro3Diff, its respaced forms, and the plans that work with few steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mdiff_client.denoisers import Denoiser
from mdiff_client.sampling.noise import Noise, Purpose
from mdiff_client.sampling.plan import SamplingPlan
from mdiff_client.sampling.planes import MultiPlane
from mdiff_client.sampling.reverse import ddim_step, ddpm_step, renoise
from mdiff_client.sampling.thick_slices import PLAIN, GaussianModel, Thickness
from mdiff_core import ModelContract, UsageError


def sample(
    denoiser: Denoiser,
    plan: SamplingPlan,
    seed: int,
    volume: int = 0,
    on_evaluation: Callable[[], object] = lambda: None,
) -> npt.NDArray[np.float32]:
    """Sample one volume: a cube with the edge of the network's images.

    Args:
        denoiser: the network; it sees batches of all slices of one plane.
        plan: how to sample.
        seed: of the library of volumes, 0 … 2⁶⁴-1.
        volume: number of this volume in the library.
        on_evaluation: called after each network evaluation, for progress.

    Returns:
        x_0, float32 [C, Z, Y, X], data range [-1, 1]. The same arguments give the same volume.

    Raises:
        UsageError: the plan asks for more than the model's contract offers.
        UnavailableError, PermanentError: from the denoiser.
    """
    contract = denoiser.contract
    training = contract.schedule.build()
    schedule = plan.schedule(training)
    size = contract.cube
    mean = _reference_mean(contract) if plan.tilt or plan.thick_slices else None
    thicknesses = (PLAIN,) * len(schedule)
    if plan.thick_slices:
        s2 = contract.references[contract.phases[1].name].s2
        thicknesses = _thicknesses(s2, tuple(schedule.sigma.tolist()), size[0], plan.thick_slices)
    planes = MultiPlane(denoiser, plan, training, mean, on_evaluation)
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
            z = noise.normal(Purpose.REVERSE, i, repeat, shape)
            if plan.sampler == "ddpm":
                following = ddpm_step(schedule, x, prediction.x0, i, z, prediction.v)
            else:
                following = ddim_step(schedule, x, prediction.x0, i, z, plan.eta)
            if repeat + 1 < passes and i > 0:
                x = renoise(schedule, following, i, noise.normal(Purpose.RENOISE, i, repeat, shape))
        x = following
    return x.astype(np.float32)


def _reference_mean(contract: ModelContract) -> float:
    if len(contract.phases) != 2 or contract.phases[1].name not in contract.references:
        raise UsageError(
            f"model {contract.name}: this plan needs two phases with reference curves in the contract: use --plan paper"
        )
    return 2 * contract.references[contract.phases[1].name].fraction - 1


@lru_cache(maxsize=8)  # the same for every volume of a run
def _thicknesses(s2: tuple[float, ...], sigmas: tuple[float, ...], n: int, share: float) -> tuple[Thickness, ...]:
    # S2 is the moment of a field of 0 and 1; the network's field is -1 and 1, twice as far apart.
    model = GaussianModel(4 * (np.array(s2) - s2[0] ** 2), n)
    return tuple(model.thickness(sigma, share) for sigma in sigmas)
