"""From files to micrographs, as ``mdiff-train fit`` is told to read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mdiff_core import UsageError
from mdiff_images import group_phases, parse_crop, parse_phases, parse_shape, read_array
from mdiff_training.micrographs import Micrographs
from mdiff_training.volumes import (
    micrographs_of_grey_levels,
    micrographs_of_phases,
    micrographs_of_planes,
)


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        phases: phases and their values, ``rest=0+2,active=1``; None: grey levels.
        crop: part of the data, ``93:157,118:182,0:300``; None: all of it.
        axis: along which volumes are sliced.
        planes: slices along all axes, each plane a class.
        independent: the slices of a file are independent images, not a volume.
        crops: number of random crops to take from an image; None: the image as it is.
        tell_fractions: each file's phase fractions are a condition.
        raw_shape: shape of RAW files, ``300x64x64``.
        raw_dtype: their data type.
    """

    phases: str | None
    crop: str | None
    axis: int
    planes: bool
    independent: bool
    crops: int | None
    tell_fractions: bool
    raw_shape: str | None
    raw_dtype: str

    def __post_init__(self) -> None:
        if not self.phases and (self.planes or self.crops or self.tell_fractions or self.independent):
            raise UsageError("--planes, --crops, --independent and --tell-fractions are about phases: name them")
        if self.planes and (self.crops or self.tell_fractions or self.independent):
            raise UsageError("--planes takes whole volumes: leave --crops, --independent and --tell-fractions out")


def read_micrographs(paths: Sequence[Path], reading: Reading, tile: tuple[int, int], seed: int) -> Micrographs:
    """Micrographs of files.

    Raises:
        UsageError: options that contradict each other or the number of files.
        DataError: a file that cannot be read, or does not fit.
    """
    if len(paths) > 1 and not reading.tell_fractions:
        raise UsageError(f"{len(paths)} files: only --tell-fractions takes more than one")
    arrays = [_read(path, reading) for path in paths]
    if not reading.phases:
        return micrographs_of_grey_levels(arrays[0], axis=reading.axis, tile=tile)
    phases = parse_phases(reading.phases)
    names = tuple(phases)
    labelled = [group_phases(array, phases, str(path)) for array, path in zip(arrays, paths, strict=True)]
    if reading.planes:
        return micrographs_of_planes(labelled[0], names, tile=tile)
    found = micrographs_of_phases(
        labelled,
        names,
        axis=reading.axis,
        independent=reading.independent,
        tell_fractions=reading.tell_fractions,
        tile=tile,
    )
    return found if reading.crops is None else found.cropped(reading.crops, tile, seed)


def _read(path: Path, reading: Reading) -> npt.NDArray[np.generic]:
    shape = parse_shape(reading.raw_shape) if reading.raw_shape else None
    array = read_array(path, raw_shape=shape, raw_dtype=reading.raw_dtype)
    return array[parse_crop(reading.crop, array.shape)] if reading.crop else array
