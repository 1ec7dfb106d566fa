"""The sampling loop: Algorithm 1 of Micro3Diff, its respaced forms, and the plans that work with few steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt

from mdiff_client.denoisers import Denoiser
from mdiff_client.sampling.anchors import Anchor, Anchors
from mdiff_client.sampling.calibration import gaussian_model, phase_references, slice_thicknesses
from mdiff_client.sampling.chain import Chain
from mdiff_client.sampling.condition import UNCONDITIONAL, Condition
from mdiff_client.sampling.noise import Noise
from mdiff_client.sampling.plan import SamplingPlan
from mdiff_client.sampling.planes import MultiPlane, Plane
from mdiff_client.sampling.thick_slices import PLAIN, Thickness
from mdiff_core.contract import PLANES


def sample(
    denoiser: Denoiser | Sequence[Plane],
    plan: SamplingPlan,
    seed: int,
    volume: int = 0,
    on_evaluation: Callable[[], object] = lambda: None,
    condition: Condition = UNCONDITIONAL,
    anchors: Sequence[Anchor] = (),
) -> npt.NDArray[np.float32]:
    """Sample one volume.

    Args:
        denoiser: the network; or those of the planes normal to z, y and x, of images of the same size and phases.
        plan: how to sample, and what size.
        seed: of the library of volumes, 0 … 2⁶⁴-1.
        volume: number of this volume in the library.
        on_evaluation: called after each network evaluation, for progress.
        condition: what the volume is asked to be.
        anchors: slices that are known.

    Returns:
        x_0, float32 [C, Z, Y, X], data range [-1, 1]. The same arguments give the same volume, however many images the
        denoiser takes at once, as far as its answer about an image does not depend on the others, and numpy's BLAS runs
        on the same number of threads (the command line sets it to one).

    Raises:
        UsageError: plan, condition or anchors ask for more than the models' contracts offer.
        UnavailableError, PermanentError: from the denoiser.
    """
    planes = list(denoiser) if isinstance(denoiser, Sequence) else planes_of(denoiser)
    contracts = [plane.denoiser.contract for plane in planes]
    shape = (contracts[0].channels, *plan.shape(contracts[0]))
    fixed = Anchors(anchors, shape, plan.periodic)
    training = contracts[0].schedule.build()
    schedule = plan.schedule(training)
    sigmas = schedule.sigma.tolist()
    fractions, correlations = None, [np.ones(1)] * len(schedule)
    thicknesses: Iterable[Thickness] = itertools.repeat(PLAIN)
    if plan.tilt or plan.thick_slices:
        references = phase_references(contracts, condition)
        fractions = tuple(of.fraction for of in references)
        model = gaussian_model(references, contracts[0].cube[0])
        if plan.thick_slices:
            thicknesses = slice_thicknesses(model, plan, training)
        if anchors:
            correlations = [model.correlation(sigma) for sigma in sigmas]
    noise = Noise(seed, volume)
    learned = contracts[0].prediction == "epsilon+variance" and plan.sampler == "ddpm"
    chain = Chain(noise, shape, plan, schedule, learned=learned)
    calls = ThreadPoolExecutor(max(plane.denoiser.calls_at_once for plane in planes))
    try:
        multi = MultiPlane(planes, condition, plan, shape, fractions, fixed, calls, on_evaluation, learned=learned)
        for this, thickness in zip(plan.asked(training), thicknesses, strict=False):
            shift, alpha_bar = noise.shift(this.i, this.repeat, shape[1:]), schedule.alpha_bar[this.i].item()
            meanwhile = partial(chain.scale_and_noise, this)
            multi.ask(chain.x, alpha_bar, this.axes, thickness, shift, correlations[this.i], meanwhile)
            chain.add_prediction(multi, this)
    finally:
        # A call that is still under way ends with the denoiser's connection.
        calls.shutdown(wait=False, cancel_futures=True)
    return chain.x


def planes_of(denoiser: Denoiser) -> list[Plane]:
    """One network for all planes, with the class of each where its contract names one."""
    return [Plane(denoiser, denoiser.contract.planes.get(plane)) for plane in PLANES]
