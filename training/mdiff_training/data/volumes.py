"""Micrographs from labelled or grey volumes and images in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from mdiff_core import DataError, Descriptors, Phase, reference_descriptors
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
        arrays: label volumes [Z, Y, X] or images [H, W], values below ``len(names)``.
        names: of the phases.
        axis: along which volumes are sliced.
        independent: volumes are stacks of images that have nothing to do with each other.
        tell_fractions: each array is a material of its own, whose phase fractions are a condition. The references are
            then those of the middle one: the scatter of the fractions is none of a material's correlation.
        tile: (height, width) of the training images; references reach to half of it, along every axis that is longer.

    Raises:
        DataError: a volume without that axis, or images smaller than the tile.
    """
    slices = [tuple(_images(array, axis)) for array in arrays]
    across = axis if independent else None
    measured = [
        reference_descriptors(array, names, tile, [a for a in range(array.ndim) if array.ndim == 2 or a != across])
        for array in arrays
    ]
    if not tell_fractions:
        stack = Stack(tuple(chain.from_iterable(slices)))
        return _checked(Micrographs((stack,), phases(names), _mean(measured)), tile)
    fractions = [tuple(float(np.mean(array == label)) for label in range(1, len(names))) for array in arrays]
    stacks = tuple(Stack(images, fractions=of) for images, of in zip(slices, fractions, strict=True))
    told = tuple(measured[i] for i in sorted(range(len(arrays)), key=fractions.__getitem__))
    return _checked(Micrographs(stacks, phases(names), told[len(told) // 2], references_told=told), tile)


def micrographs_of_planes(arrays: Sequence[Labels], names: Sequence[str], *, tile: tuple[int, int]) -> Micrographs:
    """Slices of an anisotropic material in all three planes; each plane is a class of its own.

    Slices have the orientation in which the sampler cuts them, so they are mirrored but not turned.

    Args:
        arrays: one label volume [Z, Y, X], or three images: of the planes xy [Y, X], xz [Z, X] and yz [Z, Y].
        names: of the phases.
        tile: (height, width) of the training images.

    Raises:
        DataError: neither of these, or smaller than the tile.
    """
    dimensions = [array.ndim for array in arrays]
    if dimensions == [3]:
        slices = [tuple(np.moveaxis(arrays[0], axis, 0)) for axis in range(3)]
        references = reference_descriptors(arrays[0], names, tile)
        along = {name: reference_descriptors(arrays[0], names, tile, [axis]) for axis, name in enumerate(AXES)}
    elif dimensions == [2, 2, 2]:
        slices = [(array,) for array in arrays]
        along = {name: _along_in_images(axis, arrays, names, tile) for axis, name in enumerate(AXES)}
        references = _mean(list(along.values()))
    else:
        raise DataError("planes need one volume, or three images: of the planes xy, xz and yz")
    found = Micrographs(
        tuple(Stack(images, label=label) for label, images in enumerate(slices)),
        phases(names),
        references,
        along,
        classes=PLANES,
        planes={plane: label for label, plane in enumerate(PLANES)},
        mirrored_only=True,
    )
    return _checked(found, tile)


def micrographs_of_grey_levels(
    arrays: Sequence[npt.NDArray[np.generic]], *, axis: int = 0, tile: tuple[int, int]
) -> Micrographs:
    """Slices along ``axis`` of grey-level volumes, or grey-level images, on one scale.

    Raises:
        DataError: a volume without that axis, images smaller than the tile, or no contrast.
    """
    scale = grey_range(arrays)
    images = chain.from_iterable(_images(scaled(array, scale), axis) for array in arrays)
    return _checked(Micrographs((Stack(tuple(images)),), ()), tile)


def phases(names: Sequence[str]) -> tuple[Phase, ...]:
    """Phases with shades evenly spaced from black to white."""
    return tuple(Phase(name, round(255 * label / (len(names) - 1))) for label, name in enumerate(names))


def _along_in_images(
    axis: int, images: Sequence[Labels], names: Sequence[str], tile: tuple[int, int]
) -> dict[str, Descriptors]:
    """References along an axis of space: the mean over the two planes in which it lies."""
    planes = [normal for normal in range(3) if normal != axis]
    # Of the axes z, y and x an image has those that are not its normal, in this order.
    return _mean([reference_descriptors(images[n], names, tile, [axis if n > axis else axis - 1]) for n in planes])


def _mean(references: Sequence[Mapping[str, Descriptors]]) -> dict[str, Descriptors]:
    return {name: Descriptors.mean([of[name] for of in references]) for name in references[0]}


def _images(array: npt.NDArray[np.generic], axis: int) -> npt.NDArray[np.generic]:
    if array.ndim == 2:
        return array[None]
    if not 0 <= axis < 3:
        raise DataError(f"a volume has the slice axes 0, 1 and 2, not {axis}")
    return np.moveaxis(array, axis, 0)


def _checked(micrographs: Micrographs, tile: tuple[int, int]) -> Micrographs:
    micrographs.check_tile(tile)
    return micrographs
