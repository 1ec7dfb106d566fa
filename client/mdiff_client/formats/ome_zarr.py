"""One volume as OME-Zarr 0.5."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mdiff_client.formats.volume import Volume
from mdiff_client.ome import create_array

_CHUNK = 64


def write_ome_zarr(path: Path, volume: Volume) -> None:
    """An array [z, y, x] with the voxel's size and unit; under ``mdiff`` what made it.

    Raises:
        OSError: ``path`` cannot be written.
    """
    array = create_array(
        path,
        volume.made,
        volume.contract,
        axes=("z", "y", "x"),
        shape=volume.voxels.shape,
        chunks=tuple(min(n, _CHUNK) for n in volume.voxels.shape),
        dtype=np.uint8 if volume.voxels.dtype == np.uint8 else np.float32,
    )
    array[:] = volume.voxels
