"""Training objectives."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]


def add_noise(x0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε (Ho et al. 2020, eq. 4). ``alpha_bar`` [B] is ᾱ of each image's step."""
    a = alpha_bar[:, None, None, None]
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def simple_loss(denoise: Denoise, x0: Tensor, t: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """L_simple = E‖ε − ε_θ(x_t, t)‖² (Ho et al. 2020, eq. 14; Micro3Diff eq. 15 with λ = 1).

    Args:
        denoise: ε_θ.
        x0: clean images [B, C, H, W].
        t: their steps [B].
        noise: standard normal, like ``x0``.
        alpha_bar: ᾱ of the whole schedule [T].
    """
    prediction = denoise(add_noise(x0, noise, alpha_bar[t]), t)
    return torch.mean((noise - prediction.float()) ** 2)
