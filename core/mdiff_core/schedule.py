"""The noise schedule of a diffusion model, its respacing, and the Gaussian posterior.

Steps are counted from 0: ``t = 0 … T-1`` stands for the papers' ``t = 1 … T``, and ``alpha_bar`` before the first step
is 1. All arithmetic is float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mdiff_core.errors import UsageError

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class NoiseSchedule:
    """Variances β_t of the forward process q(x_t | x_{t-1}) (Düreth et al. eq. 1; Micro3Diff eq. 8).

    ``betas`` [T]: each in (0, 1). ``timesteps`` [T]: the step of the trained model that each entry stands for; they
    differ from 0 … T-1 only after :meth:`respaced`.

    Raises:
        UsageError: a β outside (0, 1), or timesteps that do not increase.
    """

    betas: tuple[float, ...]
    timesteps: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.betas or not all(0 < beta < 1 for beta in self.betas):
            raise UsageError("a noise schedule needs at least one beta, each between 0 and 1")
        if len(self.timesteps) != len(self.betas) or any(
            b <= a for a, b in zip(self.timesteps, self.timesteps[1:], strict=False)
        ):
            raise UsageError("a noise schedule needs one timestep for each beta, in increasing order")

    @classmethod
    def linear(cls, steps: int, beta_first: float = 1e-4, beta_last: float = 2e-2) -> NoiseSchedule:
        """β evenly spaced from ``beta_first`` to ``beta_last`` (Ho et al. 2020, section 4)."""
        _check_steps(steps)
        return cls(tuple(np.linspace(beta_first, beta_last, steps).tolist()), tuple(range(steps)))

    @classmethod
    def cosine(cls, steps: int, offset: float = 0.008, beta_max: float = 0.999) -> NoiseSchedule:
        """ᾱ follows a squared cosine, β capped at ``beta_max`` (Nichol & Dhariwal 2021, eq. 17)."""
        _check_steps(steps)
        time = np.linspace(0, 1, steps + 1)
        alpha_bar = np.cos((time + offset) / (1 + offset) * np.pi / 2) ** 2
        betas = np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], beta_max)
        return cls(tuple(betas.tolist()), tuple(range(steps)))

    def __len__(self) -> int:
        return len(self.betas)

    @cached_property
    def beta(self) -> Floats:
        """β_t [T]."""
        return np.asarray(self.betas, dtype=np.float64)

    @cached_property
    def alpha_bar(self) -> Floats:
        """ᾱ_t = Π α_s [T] (Micro3Diff eqs. 18-19; Düreth et al. eq. 6)."""
        product: Floats = np.cumprod(1 - self.beta, dtype=np.float64)
        return product

    @cached_property
    def alpha_bar_previous(self) -> Floats:
        """ᾱ_{t-1} [T]; 1 before the first step."""
        return np.concatenate([[1.0], self.alpha_bar[:-1]])

    @cached_property
    def sigma(self) -> Floats:
        """Noise-to-signal ratio σ_t = √((1 − ᾱ_t) / ᾱ_t) [T], increasing in t."""
        return np.sqrt((1 - self.alpha_bar) / self.alpha_bar)

    @cached_property
    def posterior_variance(self) -> Floats:
        """β̃_t [T], the variance of q(x_{t-1} | x_t, x_0) (Düreth et al. eq. 7)."""
        variance: Floats = (1 - self.alpha_bar_previous) / (1 - self.alpha_bar) * self.beta
        return variance

    @cached_property
    def log_posterior_variance(self) -> Floats:
        """log β̃_t [T]; the first, −∞ by eq. 7, is clipped to the second (Nichol & Dhariwal 2021)."""
        variance = self.posterior_variance
        clipped: Floats = np.concatenate([variance[1:2] if len(self) > 1 else self.beta[:1], variance[1:]])
        return np.log(clipped)

    def learned_variance(self, v: Array, t: int) -> Array:
        """Σ = exp(v log β_t + (1 − v) log β̃_t) for the interpolation v in [0, 1] (Düreth et al. eq. 5)."""
        log_beta, log_posterior = np.log(self.beta[t]).item(), self.log_posterior_variance[t].item()
        variance: Array = np.exp(v * log_beta + (1 - v) * log_posterior)
        return variance

    def predicted_x0(self, x_t: Array, eps: Array, t: int) -> Array:
        """x̂_0 = (x_t − √(1−ᾱ_t) ε) / √ᾱ_t, the inverse of the closed-form forward step."""
        alpha_bar = self.alpha_bar[t].item()
        x0: Array = (x_t - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5
        return x0

    def nearest(self, sigma: Floats) -> npt.NDArray[np.int64]:
        """The steps whose noise-to-signal ratios are nearest to each of ``sigma`` on a log scale."""
        levels = np.log(self.sigma)
        steps: npt.NDArray[np.int64] = np.searchsorted((levels[1:] + levels[:-1]) / 2, np.log(sigma))
        return steps

    def respaced(self, timesteps: int | Sequence[int]) -> NoiseSchedule:
        """The same ᾱ at fewer steps: β'_i = 1 − ᾱ_{s_i} / ᾱ_{s_{i−1}} (Nichol & Dhariwal 2021, section 4).

        ``timesteps``: how many, evenly spaced over 0 … T-1, or the steps themselves in increasing order.

        Raises:
            UsageError: fewer than one step, more than T, or steps outside 0 … T-1.
        """
        if isinstance(timesteps, int):
            if not 1 <= timesteps <= len(self):
                raise UsageError(f"cannot take {timesteps} steps of {len(self)}: ask for 1 to {len(self)}")
            chosen = np.linspace(len(self) - 1, 0, timesteps).round().astype(int)[::-1]
        else:
            chosen = np.asarray(timesteps, dtype=int)
            if chosen.size == 0 or chosen.min() < 0 or chosen.max() >= len(self):
                raise UsageError(f"steps must lie between 0 and {len(self) - 1}")
        alpha_bar = self.alpha_bar[chosen]
        betas = 1 - alpha_bar / np.concatenate([[1.0], alpha_bar[:-1]])
        return NoiseSchedule(tuple(betas.tolist()), tuple(int(self.timesteps[i]) for i in chosen))


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise UsageError(f"a noise schedule needs at least one step, not {steps}")
