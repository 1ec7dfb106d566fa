"""Sets of images in files: PNG, NPY or zarr, whole or not at all."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mdiff_client.ome import create_array
from mdiff_client.pictures import micrograph
from mdiff_client.sampling import IMAGES_AT_ONCE
from mdiff_core import DataError, ModelContract, UsageError
from mdiff_core.outputs import check_new

Batch = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
"""Images [N, H, W]: phase labels, or grey levels in [-1, 1]."""


def check_images(out: Path, count: int) -> None:
    """Refuse an output that cannot become ``count`` images, before any work goes into them.

    Raises:
        UsageError: ``out`` exists, is of another kind, or one PNG for several images.
    """
    check_new(out)
    if out.suffix not in ("", ".png", ".npy", ".zarr"):
        raise UsageError(f"{out}: use .npy, .zarr, .png, or a name without a suffix for a folder of PNG files")
    if out.suffix == ".png" and count > 1:
        raise UsageError(f"{out} is one image, not {count}: a name without a suffix makes a folder of PNG files")


def write_images(
    out: Path,
    contract: ModelContract,
    attributes: Mapping[str, Any],
    count: int,
    dtype: type[np.uint8 | np.float32],
    batches: Iterable[Batch],
) -> None:
    """Write ``count`` images that come in batches; they lie beside ``out`` until the last is written.

    By the suffix: ``.png`` is one picture; none, a folder of pictures ``000000.png`` and so on; ``.npy`` the array
    [count, H, W]; ``.zarr`` the same as OME-Zarr with its provenance.

    Args:
        out: as :func:`check_images` passed it.
        contract: of the model that made them.
        attributes: their provenance.
        count: number of images.
        dtype: uint8 for labels, float32 for grey levels.
        batches: the images in order; nothing is asked of them before ``out`` is known to be writable.

    Raises:
        DataError: ``out`` cannot be written.
    """
    shape = (count, *contract.image_size)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
            partial = Path(scratch) / out.name
            if out.suffix == ".npy":
                _write_npy(partial, shape, dtype, batches)
            elif out.suffix == ".zarr":
                _write_zarr(partial, contract, attributes, shape, dtype, batches)
            else:
                _write_pictures(partial, contract, batches)
            partial.rename(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error})") from error


def _write_npy(
    path: Path, shape: tuple[int, ...], dtype: type[np.uint8 | np.float32], batches: Iterable[Batch]
) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for batch in batches:
            file.write(batch.tobytes())


def _write_zarr(
    path: Path,
    contract: ModelContract,
    attributes: Mapping[str, Any],
    shape: tuple[int, ...],
    dtype: type[np.uint8 | np.float32],
    batches: Iterable[Batch],
) -> None:
    chunks = (min(IMAGES_AT_ONCE, shape[0]), *shape[1:])
    axes = ("image", "y", "x")
    array = create_array(path, attributes, contract, axes=axes, shape=shape, chunks=chunks, dtype=dtype)
    first = 0
    for batch in batches:
        array[first : first + len(batch)] = batch
        first += len(batch)


def _write_pictures(path: Path, contract: ModelContract, batches: Iterable[Batch]) -> None:
    single = path.suffix == ".png"
    if not single:
        path.mkdir()
    for number, image in enumerate(itertools.chain.from_iterable(batches)):
        micrograph(image, contract.phases).save(path if single else path / f"{number:06d}.png")
