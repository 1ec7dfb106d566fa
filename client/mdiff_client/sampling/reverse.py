"""Reverse steps x_t → x_{t-1}: each is a line x ← a·x + b·x̂₀ + c·z, and the way back to x_t makes another of it.

``i`` counts the steps of the respaced schedule from 0. Arithmetic on the coefficients is float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mdiff_client.sampling.plan import ImagePlan
from mdiff_core import NoiseSchedule

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class ReverseStep:
    """x ← ``state``·x + ``x0``·x̂₀ + ``before``·x̂₀ of the step before + z, of variance ``variance``.

    A learned variance is an array of x's shape.
    """

    state: float
    x0: float
    variance: float | Array = 0.0
    before: float = 0.0

    def renoised(self, schedule: NoiseSchedule, i: int) -> ReverseStep:
        """The step, and back from x_{t-1} to x_t (Micro3Diff eq. 21), whose noises are one.

        On a respaced schedule 1 − β_i is ᾱ_t / ᾱ_s, so this goes back over the skipped steps too.
        """
        beta = schedule.beta[i].item()
        scale = (1 - beta) ** 0.5
        return ReverseStep(scale * self.state, scale * self.x0, (1 - beta) * self.variance + beta, scale * self.before)


def reverse_step(
    plan: ImagePlan, schedule: NoiseSchedule, i: int, v: Array | None = None, *, again: bool = False
) -> ReverseStep:
    """The step that the plan asks for, or that and back ``again``.

    ``v`` is the network's, where the variance is learned.
    """
    step = _reverse_step(plan, schedule, i, v)
    return step.renoised(schedule, i) if again else step


def _reverse_step(plan: ImagePlan, schedule: NoiseSchedule, i: int, v: Array | None) -> ReverseStep:
    if plan.sampler == "ddpm":
        return ddpm_step(schedule, i, v)
    if plan.sampler == "dpm-solver++":
        return dpm_solver_step(schedule, i)
    below, churn = plan.churn
    if i > 0 and schedule.sigma[i] < below:
        return churned_step(schedule, i, churn)
    return ddim_step(schedule, i, plan.eta)


def noise_kept(plan: ImagePlan, schedule: NoiseSchedule, i: int, *, again: bool) -> float:
    """Share of the noise of x_t, in standard deviations, that is left after a step, or after a step and back."""
    step = reverse_step(plan, schedule, i, again=again)
    left = 1 - (schedule.alpha_bar if again else schedule.alpha_bar_previous)[i].item()
    assert isinstance(step.variance, float)
    return max(0.0, 1 - step.variance / left) ** 0.5 if left > 0 else 0.0


def ddpm_step(schedule: NoiseSchedule, i: int, v: Array | None = None) -> ReverseStep:
    """Ancestral sampling (Micro3Diff, Algorithm 1, line 7) with variance β_t, or the learned one (Düreth et al. eq. 5).

    The mean is that of q(x_{t-1} | x_t, x̂₀) (Ho et al. 2020, eq. 7); the last step adds no noise.
    """
    beta, alpha_bar = schedule.beta[i].item(), schedule.alpha_bar[i].item()
    previous = schedule.alpha_bar_previous[i].item()
    variance = 0.0 if i == 0 else beta if v is None else schedule.learned_variance(v, i)
    return ReverseStep(
        (1 - beta) ** 0.5 * (1 - previous) / (1 - alpha_bar), previous**0.5 * beta / (1 - alpha_bar), variance
    )


def ddim_step(schedule: NoiseSchedule, i: int, eta: float) -> ReverseStep:
    """DDIM (Song et al. 2021, eq. 12) with σ = η √β̃_t (eq. 16)."""
    return _ddim(schedule, i, eta**2 * schedule.posterior_variance[i].item())


def churned_step(schedule: NoiseSchedule, i: int, churn: float) -> ReverseStep:
    """DDIM that keeps (σ_{t-1}/σ_t)^κ of the noise in x_t, κ = ``churn``, and draws the rest anew.

    For κ = 1 that is η = 1: σ_{t-1}/σ_t is the share of the old noise in q(x_{t-1} | x_t, x_0).
    """
    kept = (schedule.sigma[i - 1] / schedule.sigma[i]).item() ** churn
    return _ddim(schedule, i, (1 - kept**2) * (1 - schedule.alpha_bar[i - 1].item()))


def _ddim(schedule: NoiseSchedule, i: int, variance: float) -> ReverseStep:
    """Of any variance up to 1 − ᾱ_{t-1}: the marginal of x_{t-1} stays the same."""
    alpha_bar, previous = schedule.alpha_bar[i].item(), schedule.alpha_bar_previous[i].item()
    state = (max(0.0, 1 - previous - variance) / (1 - alpha_bar)) ** 0.5
    return ReverseStep(state, previous**0.5 - state * alpha_bar**0.5, variance)


def dpm_solver_step(schedule: NoiseSchedule, i: int) -> ReverseStep:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, Algorithm 2); the first and the last step are DDIM's."""
    first = ddim_step(schedule, i, 0.0)
    if i in (0, len(schedule) - 1):
        return first
    log_snr = -np.log(schedule.sigma)
    # Half of 1/r_i: how far x̂₀ is extrapolated from that of the step before.
    ahead = 0.5 * ((log_snr[i - 1] - log_snr[i]) / (log_snr[i] - log_snr[i + 1])).item()
    return ReverseStep(first.state, (1 + ahead) * first.x0, 0.0, -ahead * first.x0)
