"""The denoiser: a U-Net over 2D images with time and class embedding.

The layout follows Nichol & Dhariwal 2021 (residual blocks with scale-and-shift normalization, attention at chosen
levels, a skip from every block), which is also what Düreth et al. 2023 train. A pixel-unshuffle stem lets a compact
network see the whole image at a fraction of the arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mdiff_core import UsageError


@dataclass(frozen=True)
class UNetConfig:
    """Shape of the network.

    Attributes:
        channels: image channels C.
        base_channels: width of the finest level.
        multipliers: width of each level over ``base_channels``; each level halves the image.
        blocks: residual blocks a level (one more on the way up).
        attention: for each level, whether its blocks are followed by self-attention; the middle always is.
        head_channels: channels of one attention head; 0: an equal share of the level for each of ``heads``.
        heads: number of heads; 0: as many as fill the level.
        norm_groups: groups of the group normalization.
        pixel_unshuffle: stem factor; 1 is a plain stem.
        labels: number of labels of the class embedding, the null class included; 0: the network takes no label.
        fractions: how many phase fractions the network is told; 0: none.
        velocity: the network gives the velocity √ᾱ ε − √(1−ᾱ) x_0 (Salimans & Ho 2022), not ε. At high noise a small
            error of ε is a large one of x̂_0, above all of its mean; the velocity is there all but −x_0.
        learned_variance: also predict v, the variance interpolation (Düreth et al. eq. 5).
        dropout: probability inside the residual blocks.
        scale_shift: the embedding scales and shifts the second normalization of a block; if not, it is added before.
        resblock_updown: residual blocks change the resolution between levels (Dhariwal & Nichol 2021), not
            convolutions.
        timestep_scale: t is embedded times this; 1000/T keeps the range that improved-diffusion embeds.

    Raises:
        UsageError: sizes that are not positive, lists of different length, or widths that the groups, the heads or 2 do
            not divide.
    """

    channels: int = 1
    base_channels: int = 32
    multipliers: tuple[int, ...] = (1, 2, 3)
    blocks: int = 1
    attention: tuple[bool, ...] = (False, False, True)
    head_channels: int = 32
    heads: int = 0
    norm_groups: int = 8
    pixel_unshuffle: int = 2
    labels: int = 0
    fractions: int = 0
    velocity: bool = False
    learned_variance: bool = False
    dropout: float = 0.0
    scale_shift: bool = True
    resblock_updown: bool = False
    timestep_scale: float = 1.0

    def __post_init__(self) -> None:
        if min(self.heads, self.head_channels, self.labels, self.fractions) < 0:
            raise UsageError("heads, head_channels, labels and fractions of a network must not be negative")
        sizes = (self.channels, self.base_channels, self.blocks, self.heads + self.head_channels, self.norm_groups)
        if not self.multipliers or min(*sizes, self.pixel_unshuffle, *self.multipliers) < 1:
            raise UsageError("the sizes of a network must be positive, and it needs at least one level")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout {self.dropout} is not a probability below 1")
        if not 0 < self.timestep_scale < math.inf:
            raise UsageError(f"timestep_scale {self.timestep_scale} is not a positive number")
        if self.base_channels % 2:
            raise UsageError(f"base_channels {self.base_channels} is odd: cosines and sines of the step share them")
        if len(self.attention) != len(self.multipliers):
            raise UsageError(f"attention names {len(self.attention)} levels, multipliers {len(self.multipliers)}")
        for multiplier, attends in zip(self.multipliers, (*self.attention[:-1], True), strict=True):
            width = multiplier * self.base_channels
            if width % self.norm_groups:
                raise UsageError(f"{width} channels do not split into {self.norm_groups} normalization groups")
            if attends and not (self.heads and self.head_channels) and width % (self.heads or self.head_channels):
                raise UsageError(
                    f"{width} channels do not split into {self.heads or 'attention'} heads of "
                    f"{self.head_channels or 'equal'} channels"
                )

    def heads_of(self, width: int) -> tuple[int, int]:
        """Number of attention heads in a level of ``width`` channels, and channels of each."""
        return self.heads or width // self.head_channels, self.head_channels or width // self.heads

    @property
    def stride(self) -> int:
        """Image sizes must be multiples of this."""
        return int(self.pixel_unshuffle * 2 ** (len(self.multipliers) - 1))


def timestep_embedding(t: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding [B, width] of steps [B] (Vaswani et al. 2017), cosines first."""
    half = width // 2
    frequencies = torch.exp(-math.log(10_000) / half * torch.arange(half, dtype=torch.float32, device=t.device))
    angles = t.to(torch.float32)[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class ResidualBlock(nn.Module):
    """Two convolutions, the second after the embedding; ``resample`` changes the resolution before the first."""

    def __init__(
        self, inputs: int, outputs: int, embedding: int, config: UNetConfig, resample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.scale_shift = config.scale_shift
        self.resample = resample or nn.Identity()
        self.norm_in = nn.GroupNorm(config.norm_groups, inputs)
        self.conv_in = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.embedding = nn.Linear(embedding, 2 * outputs if config.scale_shift else outputs)
        self.norm_out = nn.GroupNorm(config.norm_groups, outputs)
        self.dropout = nn.Dropout(config.dropout)
        self.conv_out = _zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Features [B, inputs, H, W] and embedding [B, E] to [B, outputs, H, W], resampled."""
        h = self.conv_in(self.resample(functional.silu(self.norm_in(x))))
        shift = self.embedding(functional.silu(embedding))[:, :, None, None]
        if self.scale_shift:
            scale, shift = shift.chunk(2, dim=1)
            h = self.norm_out(h) * (1 + scale) + shift
        else:
            h = self.norm_out(h + shift)
        result: Tensor = self.skip(self.resample(x)) + self.conv_out(self.dropout(functional.silu(h)))
        return result


class SelfAttention(nn.Module):
    """Multi-head self-attention over all pixels, added to its input."""

    def __init__(self, width: int, config: UNetConfig) -> None:
        super().__init__()
        self.heads, self.head_channels = config.heads_of(width)
        inner = self.heads * self.head_channels
        self.norm = nn.GroupNorm(config.norm_groups, width)
        self.qkv = nn.Conv2d(width, 3 * inner, 1)
        self.project = _zeroed(nn.Conv2d(inner, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, width, H, W] to the same shape."""
        height, length = x.shape[-2:]
        q, k, v = self.qkv(self.norm(x)).reshape(-1, 3, self.heads, self.head_channels, height * length).unbind(1)
        h = functional.scaled_dot_product_attention(q.mT, k.mT, v.mT).mT
        result: Tensor = x + self.project(h.reshape(-1, self.heads * self.head_channels, height, length))
        return result


class Stage(nn.Module):
    """One residual block and, where the level attends, self-attention."""

    def __init__(self, inputs: int, outputs: int, embedding: int, attends: bool, config: UNetConfig) -> None:
        super().__init__()
        self.block = ResidualBlock(inputs, outputs, embedding, config)
        self.attention = SelfAttention(outputs, config) if attends else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Features [B, inputs, H, W] and embedding [B, E] to [B, outputs, H, W]."""
        result: Tensor = self.attention(self.block(x, embedding))
        return result


class Upsample(nn.Module):
    """Nearest-neighbour doubling and a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, width, H, W] to [B, width, 2H, 2W]."""
        result: Tensor = self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return result


class FractionEmbedding(nn.Module):
    """Phase fractions as an embedding, with a learned one for "not told"."""

    def __init__(self, fractions: int, width: int) -> None:
        super().__init__()
        self.told = nn.Sequential(nn.Linear(fractions, width), nn.SiLU(), nn.Linear(width, width))
        self.untold = nn.Parameter(torch.zeros(width))

    def forward(self, fractions: Tensor) -> Tensor:
        """Fractions [B, P], all of them negative where they are not told, to [B, width]."""
        result: Tensor = torch.where(fractions[:, :1] < 0, self.untold, self.told(fractions))
        return result


class UNet(nn.Module):
    """ε_θ(x_t, t[, label, fractions]), or the velocity, and v where the variance is learned."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = [multiplier * config.base_channels for multiplier in config.multipliers]
        embedding = 4 * config.base_channels
        self.time = nn.Sequential(
            nn.Linear(config.base_channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.label = nn.Embedding(config.labels, embedding) if config.labels else None
        self.fractions = FractionEmbedding(config.fractions, embedding) if config.fractions else None
        pixels = config.pixel_unshuffle**2
        self.stem = nn.Conv2d(config.channels * pixels, widths[0], 3, padding=1)

        width, skips = widths[0], [widths[0]]
        self.down = nn.ModuleList()
        for level, outputs in enumerate(widths):
            stages = nn.ModuleList()
            for _ in range(config.blocks):
                stages.append(Stage(width, outputs, embedding, config.attention[level], config))
                width = outputs
                skips.append(width)
            last = level == len(widths) - 1
            if not last:
                skips.append(width)
            shrink = nn.Identity() if last else _shrink(width, embedding, config)
            self.down.append(nn.ModuleDict({"stages": stages, "shrink": shrink}))

        self.middle_in = Stage(width, width, embedding, True, config)
        self.middle_out = Stage(width, width, embedding, False, config)

        self.up = nn.ModuleList()
        for level, outputs in reversed(list(enumerate(widths))):
            stages = nn.ModuleList()
            for _ in range(config.blocks + 1):
                stages.append(Stage(width + skips.pop(), outputs, embedding, config.attention[level], config))
                width = outputs
            grow = _grow(width, embedding, config) if level else nn.Identity()
            self.up.append(nn.ModuleDict({"stages": stages, "grow": grow}))

        self.norm = nn.GroupNorm(config.norm_groups, width)
        self.head = _zeroed(
            nn.Conv2d(width, config.channels * (2 if config.learned_variance else 1) * pixels, 3, padding=1)
        )

    def forward(
        self, x: Tensor, t: Tensor, label: Tensor | None = None, fractions: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Predict the noise, or the velocity.

        Args:
            x: noisy images [B, C, H, W], H and W multiples of ``config.stride``.
            t: steps [B], int64, counted from 0.
            label: labels [B], int64, where the network has classes.
            fractions: phase fractions [B, P], -1 for "not told", where the network takes them.

        Returns:
            ``eps``, or the velocity, [B, C, H, W], and ``v`` of the same shape, unscaled in [0, 1] where the network
            has learned to interpolate, or None.
        """
        embedding = self.time(timestep_embedding(t * self.config.timestep_scale, self.config.base_channels))
        if self.label is not None:
            embedding = embedding + self.label(label)
        if self.fractions is not None:
            embedding = embedding + self.fractions(fractions)
        h = self.stem(functional.pixel_unshuffle(x, self.config.pixel_unshuffle))
        skips = [h]
        for level in self.down:
            for stage in _children(level, "stages"):
                h = stage(h, embedding)
                skips.append(h)
            if not isinstance(level["shrink"], nn.Identity):  # type: ignore[index]
                h = _resampled(level["shrink"], h, embedding)  # type: ignore[index]
                skips.append(h)
        h = self.middle_out(self.middle_in(h, embedding), embedding)
        for level in self.up:
            for stage in _children(level, "stages"):
                h = stage(torch.cat([h, skips.pop()], dim=1), embedding)
            h = _resampled(level["grow"], h, embedding)  # type: ignore[index]
        h = functional.pixel_shuffle(self.head(functional.silu(self.norm(h))), self.config.pixel_unshuffle)
        if not self.config.learned_variance:
            return h, None
        eps, v = h.chunk(2, dim=1)
        return eps, (v + 1) / 2


def _shrink(width: int, embedding: int, config: UNetConfig) -> nn.Module:
    if config.resblock_updown:
        return ResidualBlock(width, width, embedding, config, nn.AvgPool2d(2))
    return nn.Conv2d(width, width, 3, stride=2, padding=1)


def _grow(width: int, embedding: int, config: UNetConfig) -> nn.Module:
    if config.resblock_updown:
        return ResidualBlock(width, width, embedding, config, nn.Upsample(scale_factor=2.0, mode="nearest"))
    return Upsample(width)


def _resampled(step: nn.Module, h: Tensor, embedding: Tensor) -> Tensor:
    """Features through a step between levels, which hears the embedding if it is a residual block."""
    result: Tensor = step(h, embedding) if isinstance(step, ResidualBlock) else step(h)
    return result


def _children(level: nn.Module, name: str) -> Sequence[nn.Module]:
    stages: Sequence[nn.Module] = level[name]  # type: ignore[index]
    return stages


def _zeroed(module: nn.Conv2d) -> nn.Conv2d:
    """Start a residual branch as the identity (Ho et al. 2020, appendix B)."""
    nn.init.zeros_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module
