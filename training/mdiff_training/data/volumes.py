"""Micrographs from labelled or grey volumes and images in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mdiff_core import DataError, Phase, reference_descriptors
from mdiff_core.contract import AXES, PLANES
from mdiff_training.data.grey import grey_range, scaled
from mdiff_training.data.micrographs import Micrographs, Stack

Labels = npt.NDArray[np.uint8]


def micrographs_of_phases(
    arrays: Sequence[Labels],
    names: Sequence[str],
    *,
    axis: int = 0,
    independent: bool = False,
    tell_fractions: bool = False,
    tile: tuple[int, int],
) -> Micrographs:
    """Slices along ``axis`` of labelled volumes, or labelled images.

    Args:
        arrays: label volumes [Z, Y, X] or images [H, W], values below ``len(names)``; several only to tell fractions.
        names: of the phases.
        axis: along which volumes are sliced.
        independent: volumes are stacks of images that have nothing to do with each other.
        tell_fractions: each array's phase fractions are a condition. The references are then those of the array whose
            fractions are the middle ones, because the scatter of the fractions is none of the material's correlation.
        tile: (height, width) of the training images; references reach to half of it, along every axis that is longer.

    Raises:
        DataError: a volume without that axis, or images smaller than the tile.
    """
    stacks, descriptors = [], []
    for array in arrays:
        images = _images(array, axis)
        told = tuple(float(np.mean(array == label)) for label in range(1, len(names))) if tell_fractions else ()
        stacks.append(Stack(tuple(images), fractions=told))
        within = [a for a in range(array.ndim) if not independent or array.ndim == 2 or a != axis]
        descriptors.append(reference_descriptors(array, names, tile, within))
    middle = sorted(range(len(stacks)), key=lambda i: stacks[i].fractions)[len(stacks) // 2]
    return _checked(Micrographs(tuple(stacks), phases(names), descriptors[middle]), tile)


def micrographs_of_planes(volume: Labels, names: Sequence[str], *, tile: tuple[int, int]) -> Micrographs:
    """Slices of an anisotropic volume [Z, Y, X] in all three planes; each plane is a class of its own.

    Slices have the orientation in which the sampler cuts them, so they are mirrored but not turned.

    Raises:
        DataError: not a volume, or smaller than the tile.
    """
    if volume.ndim != 3:
        raise DataError(f"planes need a volume, not an array of {volume.ndim} dimensions")
    found = Micrographs(
        tuple(Stack(tuple(np.moveaxis(volume, axis, 0)), label=axis) for axis in range(3)),
        phases(names),
        reference_descriptors(volume, names, tile),
        {AXES[axis]: reference_descriptors(volume, names, tile, [axis]) for axis in range(3)},
        classes=PLANES,
        planes={plane: label for label, plane in enumerate(PLANES)},
        mirrored_only=True,
    )
    return _checked(found, tile)


def micrographs_of_grey_levels(array: npt.NDArray[np.generic], *, axis: int = 0, tile: tuple[int, int]) -> Micrographs:
    """Slices along ``axis`` of a grey-level volume, or the one image.

    Raises:
        DataError: a volume without that axis, images smaller than the tile, or no contrast.
    """
    return _checked(Micrographs((Stack(tuple(_images(scaled(array, grey_range([array])), axis))),), ()), tile)


def phases(names: Sequence[str]) -> tuple[Phase, ...]:
    """Phases with shades evenly spaced from black to white."""
    return tuple(Phase(name, round(255 * label / (len(names) - 1))) for label, name in enumerate(names))


def _images(array: npt.NDArray[np.generic], axis: int) -> npt.NDArray[np.generic]:
    if array.ndim == 2:
        return array[None]
    if not 0 <= axis < 3:
        raise DataError(f"a volume has the slice axes 0, 1 and 2, not {axis}")
    return np.moveaxis(array, axis, 0)


def _checked(micrographs: Micrographs, tile: tuple[int, int]) -> Micrographs:
    micrographs.check_tile(tile)
    return micrographs
