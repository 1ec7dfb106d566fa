"""Reverse steps x_t → x_{t-1} and the way back, each a function over arrays.

``i`` counts the steps of the respaced schedule from 0; ``x`` and ``x0`` are float32 of any one shape.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mdiff_client.sampling.plan import ImagePlan
from mdiff_core import NoiseSchedule

Array = npt.NDArray[np.floating]


def implied_noise(schedule: NoiseSchedule, x: Array, x0: Array, i: int) -> Array:
    """The ε that makes ``x`` of ``x0``: the inverse of :meth:`NoiseSchedule.predicted_x0`."""
    alpha_bar = schedule.alpha_bar[i].item()
    eps: Array = (x - alpha_bar**0.5 * x0) / (1 - alpha_bar) ** 0.5
    return eps


def reverse_step(
    plan: ImagePlan,
    schedule: NoiseSchedule,
    x: Array,
    x0: Array,
    i: int,
    draw: Callable[[], Array],
    v: Array | None = None,
) -> Array:
    """The step that the plan asks for; ``draw`` gives standard normal noise, where the step adds any."""
    z = draw() if i > 0 and (plan.sampler == "ddpm" or plan.eta > 0) else np.zeros((), x.dtype)
    if plan.sampler == "ddpm":
        return ddpm_step(schedule, x, x0, i, z, v)
    return ddim_step(schedule, x, x0, i, z, plan.eta)


def ddpm_step(schedule: NoiseSchedule, x: Array, x0: Array, i: int, z: Array, v: Array | None = None) -> Array:
    """Ancestral sampling (Micro3Diff, Algorithm 1, line 7) with variance β_t, or the learned one (Düreth et al. eq. 5).

    ``z`` is standard normal and unused at the last step.
    """
    mean = schedule.posterior_mean(x, implied_noise(schedule, x, x0, i), i)
    if i == 0:
        return mean
    variance = schedule.beta[i].item() if v is None else schedule.learned_variance(v, i)
    sample: Array = mean + variance**0.5 * z
    return sample


def ddim_step(schedule: NoiseSchedule, x: Array, x0: Array, i: int, z: Array, eta: float) -> Array:
    """DDIM (Song et al. 2021, eq. 12) with σ = η √β̃_t (eq. 16)."""
    previous, variance = schedule.alpha_bar_previous[i].item(), eta**2 * schedule.posterior_variance[i].item()
    direction = max(0.0, 1 - previous - variance) ** 0.5
    sample: Array = previous**0.5 * x0 + direction * implied_noise(schedule, x, x0, i) + variance**0.5 * z
    return sample


def renoise(schedule: NoiseSchedule, x_previous: Array, i: int, z: Array) -> Array:
    """Back from x_{t-1} to x_t (Micro3Diff eq. 21).

    On a respaced schedule 1 − β_i is ᾱ_t / ᾱ_s, so this goes back over the skipped steps too.
    """
    beta = schedule.beta[i].item()
    x: Array = (1 - beta) ** 0.5 * x_previous + beta**0.5 * z
    return x
