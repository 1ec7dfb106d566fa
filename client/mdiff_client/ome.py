"""Arrays in zarr that say what their axes are, as OME-Zarr 0.5."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store

from mdiff_core import ModelContract
from mdiff_core.contract import AXES

ARRAY = "0"
"""Name of the array in its group."""
_CHUNKS = range(16, 65)


def create_array(
    store: Store | Path,
    attributes: Mapping[str, Any],
    contract: ModelContract,
    *,
    axes: tuple[str, ...],
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: type[np.uint8 | np.float32],
    shards: tuple[int, ...] | None = None,
) -> zarr.Array[Any]:
    """Create a group of one array, whose axes z, y and x are space and whose others count, as OME-Zarr.

    The group's attributes are written last: without them there is no store.

    Raises:
        OSError: ``store`` cannot be written.
    """
    unit = {} if contract.voxel_unit == "voxel" else {"unit": contract.voxel_unit}
    scale = [contract.voxel_size if axis in AXES else 1.0 for axis in axes]
    ome = {
        "version": "0.5",
        "multiscales": [
            {
                "name": contract.name,
                "axes": [{"name": axis, **({"type": "space", **unit} if axis in AXES else {})} for axis in axes],
                "datasets": [{"path": ARRAY, "coordinateTransformations": [{"type": "scale", "scale": scale}]}],
            }
        ],
    }
    array = zarr.create_array(
        store,
        name=ARRAY,
        shape=shape,
        chunks=chunks,
        shards=shards,
        dtype=dtype,
        dimension_names=axes,
        overwrite=True,
    )
    zarr.open_group(store, mode="r+").update_attributes({"ome": ome, "mdiff": dict(attributes)})
    return array


def chunk_edge(size: int) -> int:
    """The largest divisor of ``size`` that is a fit edge for chunks, so that they fill the shard, or all of it."""
    return max((n for n in _CHUNKS if size % n == 0), default=size)
