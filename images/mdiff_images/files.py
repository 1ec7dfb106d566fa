"""Images and volumes from files."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mdiff_core import DataError, MdiffError, UsageError

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
_SUFFIXES = (".tif", ".tiff", ".npy", ".raw", *_PICTURES)


def read_array(
    path: Path, *, raw_shape: tuple[int, ...] | None = None, raw_dtype: str = "uint8", luminance: bool = False
) -> npt.NDArray[np.generic]:
    """Read an image [H, W] or volume [Z, Y, X] of labels or grey levels; a volume of one slice is an image.

    TIFF, NPY, PNG, JPEG and BMP describe themselves; RAW needs its shape, and its dtype where that is not uint8. A
    micrograph saved with three equal colour channels is read as the grey image it is. True colour is refused, because
    it may stand for labels; with ``luminance``, for grey levels, it becomes its luma (ITU-R BT.601, as in ImageJ's
    weighted conversion and Pillow).

    Raises:
        DataError: the file is absent, damaged, empty, of another kind, in true colour, or not 2D or 3D.
        UsageError: a RAW file without its shape.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise DataError(f"{path}: cannot read {suffix or 'a file without a suffix'}: use one of {', '.join(_SUFFIXES)}")
    try:
        array = _read_raw(path, raw_shape, raw_dtype) if suffix == ".raw" else _read_described(path, suffix)
    except MdiffError:
        raise
    except Exception as error:  # on a damaged file the parsers raise anything from struct.error to MemoryError
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: cannot be read as {suffix[1:].upper()} ({reason})") from error
    if array.size == 0:
        raise DataError(f"{path}: holds no values")
    array = _without_colour(array, path, luminance)
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    if array.ndim not in (2, 3):
        raise DataError(f"{path}: {array.ndim} dimensions, expected an image (2) or a volume (3)")
    if array.dtype.kind not in "buif":
        raise DataError(f"{path}: holds {array.dtype}, expected numbers")
    return array


def parse_shape(text: str) -> tuple[int, ...]:
    """Turn ``"300x64x64"`` (array order: slowest axis first) into a shape.

    Raises:
        UsageError: not of that form.
    """
    shape = tuple(int(part) for part in text.split("x")) if re.fullmatch(r"\d+(x\d+)*", text) else (0,)
    if min(shape) < 1:
        raise UsageError(f"shape {text!r} is not of the form 300x64x64")
    return shape


def parse_crop(text: str, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Turn ``"0:64,10:74,0:300"`` into slices, one for each axis of ``shape`` (``:`` keeps an axis whole).

    Raises:
        UsageError: not of that form, another number of axes, or outside the array.
    """
    parts = text.split(",")
    if len(parts) != len(shape):
        raise UsageError(f"crop {text!r} names {len(parts)} axes, the array has {len(shape)}")
    slices = []
    for part, size in zip(parts, shape, strict=True):
        match = re.fullmatch(r"\s*(\d*):(\d*)\s*", part)
        if match is None:
            raise UsageError(f"crop {text!r}: {part!r} is not START:STOP")
        start, stop = int(match[1] or 0), int(match[2] or size)
        if not 0 <= start < stop <= size:
            raise UsageError(f"crop {text!r}: {part!r} does not lie within 0:{size}")
        slices.append(slice(start, stop))
    return tuple(slices)


def _read_described(path: Path, suffix: str) -> npt.NDArray[np.generic]:
    if suffix == ".npy":
        with path.open("rb") as file:
            array: npt.NDArray[np.generic] = np.lib.format.read_array(file, allow_pickle=False)
        return array
    if suffix in _PICTURES:
        return _read_picture(path)
    import tifffile  # slow to import, and only TIFF needs it

    return np.asarray(tifffile.imread(path))


def _read_picture(path: Path) -> npt.NDArray[np.generic]:
    from PIL import Image

    with Image.open(path, formats=("PNG", "JPEG", "BMP")) as image:
        # A palette's indices, CMYK and grey with opacity are encodings; what they show is colour.
        as_shown = (
            image if image.mode.startswith(("1", "L", "I", "RGB")) and image.mode != "LA" else image.convert("RGB")
        )
        return np.asarray(as_shown)


def _read_raw(path: Path, shape: tuple[int, ...] | None, dtype: str) -> npt.NDArray[np.generic]:
    if shape is None:
        raise UsageError(f"{path}: a RAW file does not tell its shape: give it, for example 300x64x64")
    try:
        kind = np.dtype(dtype)
    except TypeError as error:
        raise UsageError(f"{dtype!r} is not a data type: use for example uint8 or float32") from error
    expected = math.prod(shape) * kind.itemsize
    if path.stat().st_size != expected:
        raise DataError(f"{path}: {path.stat().st_size} bytes, but {shape} of {dtype} needs {expected}")
    return np.fromfile(path, dtype=kind).reshape(shape)


def _without_colour(array: npt.NDArray[np.generic], path: Path, luminance: bool) -> npt.NDArray[np.generic]:
    if array.ndim == 3 and array.shape[-1] in (3, 4) and min(array.shape[:2]) > 4:
        red, green, blue = (array[..., channel] for channel in range(3))
        if np.array_equal(red, green) and np.array_equal(red, blue):
            return red
        if not luminance:
            raise DataError(f"{path}: a colour image; convert it to grey levels or labels first")
        luma = np.asarray(array[..., :3] @ np.array([0.299, 0.587, 0.114]))
        return (luma if array.dtype.kind == "f" else np.rint(luma)).astype(array.dtype)
    return array
