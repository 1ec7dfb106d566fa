"""From files to micrographs, as ``mdiff-train fit`` is told to read them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mdiff_core import DataError, UsageError
from mdiff_images import group_phases, parse_crop, parse_phases, parse_shape, read_array
from mdiff_training.data.catalogue import catalogued_images
from mdiff_training.data.folders import class_folders, foldered_images, micrographs_of_classes
from mdiff_training.data.micrographs import Micrographs
from mdiff_training.data.volumes import (
    micrographs_of_grey_levels,
    micrographs_of_phases,
    micrographs_of_planes,
)


@dataclass(frozen=True)
class Reading:
    """How files, and folders of images by class, are read.

    Attributes:
        phases: phases and their values, ``rest=0+2,active=1``; None: grey levels.
        crop: part of the data, ``93:157,118:182,0:300``; None: all of it.
        axis: along which volumes are sliced; None: the first.
        planes: slices in all planes, each a class: of one volume, or three images, of the planes xy, xz and yz.
        independent: the slices of a file are independent images, not a volume.
        crops: number of random crops to take from an image; None: the image as it is.
        tell_fractions: each file's phase fractions are a condition.
        raw_shape: shape of RAW files, ``300x64x64``.
        raw_dtype: their data type.
        classes: classes to take from folders, ``pearlite,network``; None: all.
        catalogue: UHCS catalogue with the classes of a folder whose images are not sorted into folders.
        per_class: the most images to take of a class; None: all.
        subregions: how many random squares of which side to cut out of each image of a folder and resize to the tile,
            ``30:480``; None: the images as they are.
    """

    phases: str | None = None
    crop: str | None = None
    axis: int | None = None
    planes: bool = False
    independent: bool = False
    crops: int | None = None
    tell_fractions: bool = False
    raw_shape: str | None = None
    raw_dtype: str = "uint8"
    classes: str | None = None
    catalogue: Path | None = None
    per_class: int | None = None
    subregions: str | None = None

    def __post_init__(self) -> None:
        if not self.phases and (self.planes or self.crops or self.tell_fractions or self.independent):
            raise UsageError("--planes, --crops, --independent and --tell-fractions are about phases: name them")
        if self.planes and (self.crops or self.tell_fractions or self.independent or self.axis is not None):
            raise UsageError("--planes takes no --axis, --crops, --independent or --tell-fractions")


def read_micrographs(paths: Sequence[Path], reading: Reading, tile: tuple[int, int], seed: int) -> Micrographs:
    """Micrographs of files, or of folders of images by class.

    Raises:
        UsageError: options that contradict each other or the number of files.
        DataError: a file that cannot be read, or does not fit.
    """
    if any(path.is_dir() for path in paths):
        return _read_classes(paths, reading, tile, seed)
    if reading.classes or reading.catalogue or reading.per_class or reading.subregions:
        raise UsageError("--classes, --catalogue, --per-class and --subregions are about folders of images")
    if reading.raw_shape and not any(path.suffix.lower() == ".raw" for path in paths):
        raise UsageError("--raw-shape is about RAW files: there is none")
    arrays = [_read(path, reading) for path in paths]
    axis = reading.axis or 0
    if not reading.phases:
        return micrographs_of_grey_levels(arrays, axis=axis, tile=tile)
    phases = parse_phases(reading.phases)
    names = tuple(phases)
    labelled = [group_phases(array, phases, str(path)) for array, path in zip(arrays, paths, strict=True)]
    if reading.planes:
        return micrographs_of_planes(labelled, names, tile=tile)
    found = micrographs_of_phases(
        labelled,
        names,
        axis=axis,
        independent=reading.independent,
        tell_fractions=reading.tell_fractions,
        tile=tile,
    )
    return found if reading.crops is None else found.cropped(reading.crops, tile, seed)


def _read_classes(folders: Sequence[Path], reading: Reading, tile: tuple[int, int], seed: int) -> Micrographs:
    if reading.phases or reading.axis is not None:
        raise UsageError("a folder holds grey-level images by class: leave --phases and --axis out")
    only = [name.strip() for name in reading.classes.split(",")] if reading.classes else []
    images: dict[str, list[Path]] = {}
    for folder in folders:
        for name, files in _images_by_class(folder, reading.catalogue, only).items():
            images.setdefault(name, []).extend(files)
    if reading.catalogue and all(class_folders(folder) for folder in folders):
        raise UsageError("--catalogue is for a folder of images that are not sorted into folders of their own")
    absent = [name for name in only if name not in images]
    if absent:
        raise DataError(f"no images of class {absent[0]!r} in {', '.join(map(str, folders))}")
    return micrographs_of_classes(
        images,
        partial(_read, reading=reading),
        per_class=reading.per_class,
        subregions=_parse_subregions(reading.subregions) if reading.subregions else None,
        tile=tile,
        seed=seed,
    )


def _images_by_class(folder: Path, catalogue: Path | None, only: Sequence[str]) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder: files and folders do not go together")
    if class_folders(folder):
        return foldered_images(folder, only)
    if catalogue is None:
        raise UsageError(f"{folder} has no folder for each class: sort its images into some, or give a --catalogue")
    return catalogued_images(folder, catalogue, only)


def _parse_subregions(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if match is None or not int(match[1]) or not int(match[2]):
        raise UsageError(f"subregions {text!r} is not of the form NUMBER:SIDE, as 30:480")
    return int(match[1]), int(match[2])


def _read(path: Path, reading: Reading) -> npt.NDArray[np.generic]:
    shape = parse_shape(reading.raw_shape) if reading.raw_shape else None
    array = read_array(path, raw_shape=shape, raw_dtype=reading.raw_dtype, luminance=not reading.phases)
    try:
        return array[parse_crop(reading.crop, array.shape)] if reading.crop else array
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
