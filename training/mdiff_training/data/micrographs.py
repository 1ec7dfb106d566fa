"""Micrographs to train on: images with their conditions, cut into tiles in random places and orientations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from mdiff_core import DataError, Descriptors, Phase
from mdiff_core.contract import NOT_TOLD


@dataclass(frozen=True)
class Stack:
    """Images that share their condition.

    Attributes:
        images: 2D arrays, each at least as large as the tile: phase labels, or grey levels in [-1, 1].
        label: of their class or plane; None where there are none.
        fractions: volume fractions of the material, of each phase but the first; empty where they are not told.
    """

    images: tuple[npt.NDArray[Any], ...]
    label: int | None = None
    fractions: tuple[float, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Clean images [B, C, H, W] in [-1, 1] and, where there are conditions, ``label`` [B] and ``fractions`` [B, P]."""

    x0: Tensor
    label: Tensor | None
    fractions: Tensor | None

    def part(self, rows: slice) -> Batch:
        """Some of the images, with their conditions."""
        return self._with_each(lambda tensor: tensor[rows])

    def to(self, device: torch.device) -> Batch:
        """The same on another device, as :func:`moved` does it."""
        return self._with_each(lambda tensor: moved(tensor, device))

    def with_conditions_dropped(self, dropped: Tensor, null_class: int | None) -> Batch:
        """Leave out the condition where ``dropped`` [B] is true (Ho & Salimans 2022, algorithm 1)."""
        return Batch(
            self.x0,
            self.label if self.label is None or null_class is None else self.label.masked_fill(dropped, null_class),
            None if self.fractions is None else self.fractions.masked_fill(dropped[:, None], NOT_TOLD),
        )

    def _with_each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(
            change(self.x0),
            None if self.label is None else change(self.label),
            None if self.fractions is None else change(self.fractions),
        )


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """The same on another device, without waiting for it; images [B, C, H, W] with channels last."""
    # A copy from pageable memory would wait until the GPU has done all it was given before.
    # What is pinned has memory of its own for each element, which an expanded tensor has not.
    own = tensor.contiguous()
    pinned = own.pin_memory() if device.type == "cuda" else own
    there = pinned.to(device, non_blocking=True)
    return there.to(memory_format=torch.channels_last) if there.ndim == 4 else there


@dataclass(frozen=True)
class Micrographs:
    """What a denoiser is trained on.

    Attributes:
        stacks: the images; each stack is drawn from equally often.
        phases: the phases of the labels; empty for grey levels.
        references: descriptors of the data, for each phase, by name.
        references_along: the same along one axis only, where the material is anisotropic.
        references_told: the same of each material whose fractions are told, by the fraction of the second phase.
        classes: names of the labels.
        planes: the label that serves each plane, where the labels are planes.
        mirrored_only: tiles are mirrored but not turned, because their axes differ.
    """

    stacks: tuple[Stack, ...]
    phases: tuple[Phase, ...]
    references: Mapping[str, Descriptors] = field(default_factory=dict)
    references_along: Mapping[str, Mapping[str, Descriptors]] = field(default_factory=dict)
    references_told: tuple[Mapping[str, Descriptors], ...] = ()
    classes: tuple[str, ...] = ()
    planes: Mapping[str, int] = field(default_factory=dict)
    mirrored_only: bool = False

    @property
    def channels(self) -> int:
        """Channels of the network's images: one for grey levels or two phases, else one for each phase."""
        return len(self.phases) if len(self.phases) > 2 else 1

    @property
    def fractions(self) -> tuple[tuple[float, float], ...]:
        """Range of the fractions told, for each phase but the first."""
        told = np.array([stack.fractions for stack in self.stacks])
        return tuple(zip(told.min(axis=0).tolist(), told.max(axis=0).tolist(), strict=True))

    def check_tile(self, tile: tuple[int, int]) -> None:
        """Refuse images that are smaller than the tile.

        Raises:
            DataError: one is.
        """
        for stack in self.stacks:
            for image in stack.images:
                if image.shape[0] < tile[0] or image.shape[1] < tile[1]:
                    raise DataError(
                        f"an image of {image.shape[0]}×{image.shape[1]} is smaller than the tile {tile[0]}×{tile[1]}"
                    )

    def cropped(self, count: int, tile: tuple[int, int], seed: int) -> Micrographs:
        """The same with ``count`` tiles from random places of each stack in its stead (Micro3Diff, case IV)."""
        rng = np.random.default_rng(seed)

        def crops(images: tuple[npt.NDArray[Any], ...]) -> tuple[npt.NDArray[Any], ...]:
            chosen = [images[i] for i in rng.integers(0, len(images), count)]
            corners = [rng.integers(0, [n - edge + 1 for n, edge in zip(i.shape, tile, strict=True)]) for i in chosen]
            return tuple(i[y : y + tile[0], x : x + tile[1]] for i, (y, x) in zip(chosen, corners, strict=True))

        return replace(self, stacks=tuple(replace(stack, images=crops(stack.images)) for stack in self.stacks))

    def batch(self, size: int, tile: tuple[int, int], generator: torch.Generator) -> Batch:
        """``size`` random tiles in random orientation (the papers' eightfold augmentation)."""
        chance = torch.rand((size, 6), generator=generator, dtype=torch.float64)
        tiles, stacks = [], []
        for which, index, top, left, quarter, mirror in chance.tolist():
            stack = self.stacks[int(which * len(self.stacks))]
            image = stack.images[int(index * len(stack.images))]
            y, x = (int(u * (n - edge + 1)) for u, n, edge in zip((top, left), image.shape, tile, strict=True))
            cut = image[y : y + tile[0], x : x + tile[1]]
            turns = 2 * int(2 * quarter) if self.mirrored_only else int(4 * quarter)
            cut = np.rot90(cut, turns)
            tiles.append(np.ascontiguousarray(np.fliplr(cut) if mirror < 0.5 else cut))
            stacks.append(stack)
        return Batch(
            self._encoded(torch.from_numpy(np.stack(tiles))),
            torch.tensor([stack.label for stack in stacks]) if self.classes else None,
            torch.tensor([stack.fractions for stack in stacks]) if self.stacks[0].fractions else None,
        )

    def _encoded(self, tiles: Tensor) -> Tensor:
        """Tiles [B, H, W] as the network sees them."""
        if not self.phases:
            return tiles[:, None].to(torch.float32)
        if self.channels == 1:
            return tiles[:, None].to(torch.float32) * 2 - 1
        one_hot = functional.one_hot(tiles.long(), self.channels).movedim(-1, 1)
        return one_hot.to(torch.float32) * 2 - 1
