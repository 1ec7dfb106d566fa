"""Volumes as an xarray that reads what it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray
from xarray.backends import BackendArray
from xarray.core import indexing

from mdiff_client.store import VolumeStore
from mdiff_core.contract import AXES


def view(store: VolumeStore, numbers: Sequence[int], records: Sequence[Mapping[str, Any]]) -> xarray.DataArray:
    """See :meth:`mdiff_client.reading.Volumes.to_xarray`.

    Args:
        store: of the volumes.
        numbers: of those to be seen.
        records: theirs.
    """
    contract, levels = store.contract, store.dtype == np.float32
    phases = () if levels else contract.phases
    unit = {} if contract.voxel_unit == "voxel" else {"units": contract.voxel_unit}
    # A library notes the seed of each volume, what generate3d makes has one for all.
    seeds = np.array([record.get("seed", store.made["seed"]) for record in records], np.uint64)
    return xarray.DataArray(
        indexing.LazilyIndexedArray(_Stored(store, numbers)),
        dims=("volume", *AXES),
        name=contract.name,
        coords={
            "volume": np.array(numbers, np.int64),
            **{
                axis: (axis, np.arange(n) * contract.voxel_size, unit)
                for axis, n in zip(AXES, store.shape[1:], strict=True)
            },
            "seed": ("volume", seeds),
            **{
                f"{phase.name}_fraction": ("volume", [record["fractions"][phase.name] for record in records])
                for phase in phases
            },
        },
        attrs={"flag_values": list(range(len(phases))), "flag_meanings": " ".join(phase.name for phase in phases)}
        if phases
        else {},
    )


class _Stored(BackendArray):
    """[volume, z, y, x] of the volumes that are complete."""

    def __init__(self, store: VolumeStore, numbers: Sequence[int]) -> None:
        self._store, self._numbers = store, np.array(numbers, np.intp)
        self.shape, self.dtype = (len(numbers), *store.shape[1:]), store.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )
        return found

    def _read(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        volumes, *within = key
        return self._store.voxels(self._numbers[volumes].tolist(), *within)
