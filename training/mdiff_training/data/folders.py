"""Grey-level micrographs by class, from folders of images: the data of Düreth et al. (2023), section 2.1."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from mdiff_core import DataError
from mdiff_training.data.grey import grey_range, scaled
from mdiff_training.data.micrographs import Micrographs, Stack

Image = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]


def images_in(folder: Path) -> list[Path]:
    """Images in a folder and below it, in the order of their paths; no hidden files, and none of other kinds.

    An image of a kind that cannot be read is among them, so that it is refused by name and not missed.
    """

    def is_image(path: Path) -> bool:
        kind = mimetypes.guess_type(path.name)[0] or ""
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        return not hidden and (kind.startswith("image/") or path.suffix.lower() in (".npy", ".raw")) and path.is_file()

    return sorted(path for path in folder.rglob("*") if is_image(path))


def class_folders(folder: Path) -> list[Path]:
    """Folders in a folder, each of which stands for a class; no hidden ones.

    Raises:
        DataError: the folder may not be looked into.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error


def foldered_images(folder: Path, only: Sequence[str] = ()) -> dict[str, list[Path]]:
    """Images of each class folder, by class, ``only`` of some classes where any are named.

    Raises:
        DataError: a class without images; or, where all classes are taken, an image that lies beside their folders.
    """
    found = {entry.name: images_in(entry) for entry in class_folders(folder) if entry.name in only or not only}
    for name, images in found.items():
        if not images:
            raise DataError(f"{folder / name}: a class without an image: add some, or take the folder away")
    stray = [image for image in images_in(folder) if image.parent == folder]
    if stray and not only:
        raise DataError(f"{stray[0]}: lies in no class folder: move it into one, or take it away")
    return found


def micrographs_of_classes(
    images: Mapping[str, Sequence[Path]],
    read: Callable[[Path], Image],
    *,
    per_class: int | None = None,
    subregions: tuple[int, int] | None = None,
    tile: tuple[int, int],
    seed: int = 0,
) -> Micrographs:
    """Grey levels with a class each; a label is a class's place in the order of the names.

    Düreth et al. balance their classes (section 2.1.1) by at most 1000 images of each, to which small classes are
    filled up with crops, turns and mirror images. Here no copies are needed for that: :meth:`Micrographs.batch` draws
    from every class equally often, and crops, turns and mirrors whatever it draws. Nor would a cap balance anything;
    ``per_class`` is there to bound the memory, and to repeat the paper.

    Images of one data type share one scale, so that brightness can tell classes apart.

    Args:
        images: files of each class.
        read: gives the grey levels [H, W] of a file, of any type and size.
        per_class: the most images to take of a class, drawn at random; None: all.
        subregions: how many random squares to cut out of each image, and how long their sides are, pixels; each is
            resized to the tile (section 2.1.2). None: the images as they are, to be cropped to the tile.
        tile: (height, width) of the training images.
        seed: of what is drawn at random.

    Raises:
        DataError: no images, or one that cannot be read, is no image, holds numbers that are not finite, or is smaller
            than the tile or the subregions; or no contrast.
    """
    if not images:
        raise DataError("no class of which there are images")
    rng = np.random.default_rng(seed)
    least = (subregions[1],) * 2 if subregions else tile
    found: dict[str, list[Image]] = {}
    for name in sorted(images):
        chosen = images[name]
        if per_class is not None and len(chosen) > per_class:
            chosen = [chosen[i] for i in sorted(rng.choice(len(chosen), per_class, replace=False))]
        found[name] = [
            _checked(read(path), path, least)
            for path in tqdm(chosen, desc=name, unit="image", leave=False, disable=None)
        ]
    by_type: dict[np.dtype[np.generic], list[Image]] = {}
    for image in chain.from_iterable(found.values()):
        by_type.setdefault(image.dtype, []).append(image)
    ranges = {kind: grey_range(of_type) for kind, of_type in by_type.items()}

    def tiles(image: Image) -> Iterator[npt.NDArray[np.float16]]:
        grey = scaled(image, ranges[image.dtype])
        # Half precision tells 12 bits of grey apart, in half the memory.
        for part in _squares(grey, *subregions, tile, rng) if subregions else [grey]:
            yield part.astype(np.float16)

    return Micrographs(
        tuple(
            Stack(tuple(part for image in of_class for part in tiles(image)), label=label)
            for label, of_class in enumerate(found.values())
        ),
        (),
        classes=tuple(found),
    )


def _checked(image: Image, path: Path, least: tuple[int, int]) -> Image:
    if image.ndim != 2:
        raise DataError(f"{path}: a volume, expected an image")
    if image.shape[0] < least[0] or image.shape[1] < least[1]:
        raise DataError(f"{path}: {image.shape[0]}×{image.shape[1]} pixels, at least {least[0]}×{least[1]} are needed")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise DataError(f"{path}: holds values that are not finite")
    return image


def _squares(image: Floats, count: int, side: int, tile: tuple[int, int], rng: np.random.Generator) -> Iterator[Floats]:
    """Random squares of an image, resized to the tile."""
    from PIL import Image as Picture

    for y, x in rng.integers(0, np.array(image.shape) - side + 1, (count, 2)):
        square = Picture.fromarray(np.ascontiguousarray(image[y : y + side, x : x + side]))
        # Pillow widens the kernel where it makes smaller: no aliasing. Its lobes overshoot.
        resized: Floats = np.asarray(square.resize(tile[::-1], Picture.Resampling.BICUBIC))
        yield resized.clip(-1, 1)
