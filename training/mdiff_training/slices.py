"""Training images: slices of a volume or crops of an image, in all eight orientations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdiff_core import DataError, Descriptors, Phase, reference_descriptors


@dataclass(frozen=True)
class Slices:
    """The images a denoiser is trained on.

    Attributes:
        images: float32 [N, H, W] in [-1, 1]; H and W at least the tile.
        phases: the two phases that -1 and +1 stand for; empty for grey levels.
        references: descriptors of the data they were cut from, for each phase, by name.
    """

    images: Tensor
    phases: tuple[Phase, ...]
    references: dict[str, Descriptors]

    def batch(self, size: int, tile: tuple[int, int], generator: torch.Generator) -> Tensor:
        """``size`` random tiles in random orientation (the paper's eightfold augmentation): [size, 1, *tile]."""
        count, height, width = self.images.shape
        index, quarter, flip = (torch.randint(0, n, (size,), generator=generator) for n in (count, 4, 2))
        top = torch.randint(0, height - tile[0] + 1, (size,), generator=generator)
        left = torch.randint(0, width - tile[1] + 1, (size,), generator=generator)
        tiles = []
        for i, k, f, y, x in zip(*(v.tolist() for v in (index, quarter, flip, top, left)), strict=True):
            image = torch.rot90(self.images[i, y : y + tile[0], x : x + tile[1]], k, (0, 1))
            tiles.append(image.flip(1) if f else image)
        return torch.stack(tiles)[:, None]


def slices_of_phases(
    indicator: npt.NDArray[np.bool_], axis: int, tile: tuple[int, int], names: tuple[str, str]
) -> Slices:
    """Slices along ``axis`` of a two-phase volume, or the one image, with -1 for False and +1 for True.

    The references reach to half a tile, along every axis that is longer than that.

    Raises:
        DataError: the images are smaller than the tile.
    """
    images = _stack(indicator.astype(np.float32) * 2 - 1, axis, tile)
    phases = (Phase(names[0], 0), Phase(names[1], 255))
    return Slices(images, phases, reference_descriptors(indicator, *names, image_size=tile))


def slices_of_grey_levels(array: npt.NDArray[np.generic], axis: int, tile: tuple[int, int]) -> Slices:
    """Slices along ``axis`` of a grey-level volume, or the one image, scaled from its type's range to [-1, 1].

    Integers are scaled by the range of their type, floats by the range of the data.

    Raises:
        DataError: the images are smaller than the tile, or hold no contrast.
    """
    values = array.astype(np.float32)
    if array.dtype.kind in "iu":
        limits = np.iinfo(array.dtype)  # type: ignore[type-var]
        low, high = float(limits.min), float(limits.max)
    else:
        low, high = float(values.min()), float(values.max())
    if not values.max() > values.min() or not np.isfinite(high - low):
        raise DataError("the grey levels are constant or not finite")
    return Slices(_stack((values - low) / (high - low) * 2 - 1, axis, tile), (), {})


def _stack(values: npt.NDArray[np.float32], axis: int, tile: tuple[int, int]) -> Tensor:
    if values.ndim == 3 and not 0 <= axis < 3:
        raise DataError(f"a volume has the slice axes 0, 1 and 2, not {axis}")
    images = np.moveaxis(values, axis, 0) if values.ndim == 3 else values[None]
    if images.shape[1] < tile[0] or images.shape[2] < tile[1]:
        raise DataError(f"images of {images.shape[1]}×{images.shape[2]} are smaller than the tile {tile[0]}×{tile[1]}")
    return torch.from_numpy(np.ascontiguousarray(images))
