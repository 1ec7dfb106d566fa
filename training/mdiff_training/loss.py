"""Training objectives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mdiff_core import NoiseSchedule

Predict = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]

_HALF_LEVEL = 1 / 255
"""Half the distance of two grey levels of an 8-bit image scaled to [-1, 1]."""


@dataclass(frozen=True)
class Objective:
    """What training minimizes, for each image of a batch.

    L_simple = ‖ε − ε_θ(x_t, t)‖², the mean over pixels (Ho et al. 2020, eq. 14); of a network that gives the velocity
    √ᾱ ε − √(1−ᾱ) x_0 the same of that, which weighs the error of ε by 1/ᾱ (Salimans & Ho 2022, section 4). Where the
    variance is learned, L_hybrid = L_simple + λ L_vlb (Nichol & Dhariwal 2021, eq. 16): L_vlb teaches Σ (Düreth et al.
    eq. 5) alone, the gradient stops at the mean. As in improved-diffusion, the terms of L_vlb are in **bits per
    dimension**, and a step stands for the sum over all T of them: λ T L_t is what is added. L_T has no parameters and
    is left out.

    Attributes:
        schedule: the noise schedule of training.
        learned_variance: whether the network gives v.
        vlb_weight: λ.
        velocity: whether the network gives the velocity, not ε.
    """

    schedule: NoiseSchedule
    learned_variance: bool
    vlb_weight: float = 0.001
    velocity: bool = False

    def terms(self, predict: Predict, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """The loss of each image [B], to be averaged, or weighted first where the steps were not drawn evenly.

        Args:
            predict: x_t and t to ε_θ or the velocity and, where it is learned, v in [0, 1]; of any precision.
            x0: clean images [B, C, H, W] in [-1, 1].
            t: their steps [B], int64, on the device of ``x0``.
            noise: standard normal, like ``x0``.
        """
        signal, spread, *variational = self._coefficients(x0)[:, t, None, None, None]
        output, v = predict(signal * x0 + spread * noise, t)
        error = output.to(x0.dtype) - (signal * noise - spread * x0 if self.velocity else noise)
        simple = error.square().mean(dim=(1, 2, 3))
        if not self.learned_variance:
            return simple
        assert v is not None, "the objective of a learned variance needs a network that gives v"
        of_noise = (signal * error if self.velocity else error).detach()
        return simple + self.vlb_weight * len(self.schedule) * self._vlb(x0, t, of_noise, v, *variational)

    @cached_property
    def _tables(self) -> dict[tuple[torch.device, torch.dtype], Tensor]:
        return {}

    def _coefficients(self, like: Tensor) -> Tensor:
        """√ᾱ_t, √(1−ᾱ_t), log β_t/β̃_t, and the weight of (ε − ε_θ)² in (μ̃ − μ_θ)²/β̃_t [4, T], worked out in float64.

        Kept for each device and type: to copy them there at every step would make the host wait for the device.
        """
        place = like.device, like.dtype
        if place not in self._tables:
            beta, alpha_bar, low = self.schedule.beta, self.schedule.alpha_bar, self.schedule.log_posterior_variance
            weight = beta**2 / ((1 - beta) * (1 - alpha_bar)) * np.exp(-low)
            rows = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar), np.log(beta) - low, weight
            self._tables[place] = torch.from_numpy(np.stack(rows)).to(like)
        return self._tables[place]

    def _vlb(self, x0: Tensor, t: Tensor, error: Tensor, v: Tensor, range_: Tensor, weight: Tensor) -> Tensor:
        """L_t [B] in bits per dimension: L_0 where t is 0, else L_{t-1} of the papers."""
        v = v.to(x0.dtype)
        terms = torch.where(
            t[:, None, None, None] == 0, self._decoder(x0, error, v), _divergence(error, v, range_, weight)
        )
        return terms.mean(dim=(1, 2, 3)) / math.log(2)

    def _decoder(self, x0: Tensor, error: Tensor, v: Tensor) -> Tensor:
        """L_0 = −log p_θ(x_0 | x_1), the mass of a grey level (Ho et al. 2020, eq. 13), in nats, like ``x0``.

        The outermost levels reach to infinity. The logarithms of the tails are exact, where improved-diffusion cuts
        probabilities off at 1e-12.
        """
        schedule = self.schedule
        beta, low = schedule.beta[0].item(), schedule.log_posterior_variance[0].item()
        off = (beta / (1 - beta)) ** 0.5 * error  # x_0 − μ_θ
        inverse = torch.exp(-0.5 * (low + v * (math.log(beta) - low)))
        below, above = _log_normal_cdf((_HALF_LEVEL + off) * inverse), _log_normal_cdf((_HALF_LEVEL - off) * inverse)
        # The level's mass lies between two points of one tail, taken on the side where neither is near 1.
        far = _log_normal_cdf((-_HALF_LEVEL - off.abs()) * inverse)
        near = torch.minimum(below, above)
        inside = near + torch.log(-torch.expm1(far - near))
        return -torch.where(x0 < -0.999, below, torch.where(x0 > 0.999, above, inside))


def _divergence(error: Tensor, v: Tensor, range_: Tensor, weight: Tensor) -> Tensor:
    """KL(q(x_{t-1} | x_t, x_0) ‖ p_θ(x_{t-1} | x_t)) for every pixel, in nats (Nichol & Dhariwal 2021, eq. 6).

    With log Σ/β̃ = v log β/β̃ and means that differ by the error of the noise alone:
    ½ (log Σ/β̃ − 1 + β̃/Σ + (μ̃ − μ_θ)²/Σ).
    """
    wider = v * range_
    return 0.5 * (wider + torch.expm1(-wider) + weight * error.square() * torch.exp(-wider))


def _log_normal_cdf(x: Tensor) -> Tensor:
    cdf: Tensor = torch.special.log_ndtr(x)
    return cdf
