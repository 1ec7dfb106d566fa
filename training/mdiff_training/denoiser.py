"""A trained network as a denoiser: ε, whatever the U-Net itself was taught to give."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mdiff_core import NoiseSchedule
from mdiff_training.unet import UNet, UNetConfig


class Denoiser(nn.Module):
    """ε_θ(x_t, t[, label, fractions]), and v where the variance is learned.

    Of a network that gives the velocity √ᾱ ε − √(1−ᾱ) x_0, ε is √ᾱ velocity + √(1−ᾱ) x_t (Salimans & Ho 2022,
    appendix D).

    Args:
        network: with the weights to use.
        schedule: of its training.
    """

    signal: Tensor
    spread: Tensor

    def __init__(self, network: UNet, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.network = network
        alpha_bar = torch.from_numpy(schedule.alpha_bar)
        self.register_buffer("signal", alpha_bar.sqrt().float(), persistent=False)
        self.register_buffer("spread", (1 - alpha_bar).sqrt().float(), persistent=False)

    @property
    def config(self) -> UNetConfig:
        """Shape of the network."""
        return self.network.config

    def forward(
        self, x: Tensor, t: Tensor, label: Tensor | None = None, fractions: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """As :meth:`UNet.forward`, with ``eps`` in place of the velocity."""
        output, v = self.network(x, t, label, fractions)
        if not self.config.velocity:
            return output, v
        return self.signal[t, None, None, None] * output + self.spread[t, None, None, None] * x, v
