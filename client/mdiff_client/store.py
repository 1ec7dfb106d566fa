"""Volumes in zarr: one array whose first axis counts them, with OME-Zarr metadata and provenance.

OUT.zarr/
  zarr.json             OME-Zarr 0.5 metadata; under "mdiff": contract, plan, condition, seed, version
  0/                    [volume, z, y, x], uint8 labels or float32 grey levels; one shard is one volume
  records/000000.json   written last: a volume without its record is not complete
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr

from mdiff_client.phases import to_labels
from mdiff_client.sampling import UNCONDITIONAL, Condition, ImagePlan, SamplingPlan
from mdiff_core import DataError, ModelContract
from mdiff_core.outputs import check_new

_CHUNK = 64
_ARRAY, _RECORDS = "0", "records"


@dataclass(frozen=True)
class VolumeStore:
    """A store of volumes made with one model, plan and seed.

    Attributes:
        path: the zarr folder.
        contract: contract of the model.
        plan: the sampling plan's fields.
        condition: what the volumes were asked to be.
        seed: seed of the library.
    """

    path: Path
    contract: ModelContract
    plan: Mapping[str, Any]
    condition: Condition
    seed: int

    @classmethod
    def create(
        cls,
        path: Path,
        contract: ModelContract,
        plan: SamplingPlan,
        seed: int,
        count: int,
        *,
        grey: bool,
        condition: Condition = UNCONDITIONAL,
    ) -> VolumeStore:
        """Create an empty store for ``count`` volumes.

        Raises:
            UsageError: ``path`` exists, or the model's images make no cube.
            DataError: ``path`` cannot be written.
        """
        check_new(path)
        size = contract.cube
        attributes = provenance(contract, plan, condition, seed)
        try:
            create_array(
                path,
                attributes,
                contract,
                axes=("volume", "z", "y", "x"),
                shape=(count, *size),
                chunks=(1, *(_chunk(n) for n in size)),
                shards=(1, *size),
                dtype=np.float32 if grey else np.uint8,
            )
            (path / _RECORDS).mkdir()
        except OSError as error:
            shutil.rmtree(path, ignore_errors=True)
            raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error
        return cls(path, contract, attributes["plan"], condition, seed)

    @classmethod
    def open(cls, path: Path) -> VolumeStore:
        """Open a store.

        Raises:
            DataError: not a store of mdiff's volumes.
            ContractError: its contract cannot be used.
        """
        try:
            if not path.is_dir():
                raise DataError(f"{path}: no such store")
            if not (path / _RECORDS).is_dir():
                raise DataError(f"{path}: not a store of volumes made by mdiff")
            attributes = zarr.open_group(path, mode="r").attrs.asdict()
            mdiff: dict[str, Any] = attributes["mdiff"]  # type: ignore[assignment]
            contract = ModelContract.from_json(json.dumps(mdiff["contract"]))
            # The first stores know no conditions.
            condition = {**dataclasses.asdict(UNCONDITIONAL), **mdiff.get("condition", {})}
            asked = Condition(condition["label"], tuple(condition["fractions"]), condition["guidance"])
            return cls(path, contract, mdiff["plan"], asked, mdiff["seed"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: not a store of volumes made by mdiff") from error

    def write(self, index: int, volume: npt.NDArray[np.uint8] | npt.NDArray[np.float32], **record: object) -> None:
        """Write one volume [Z, Y, X], then its record.

        Raises:
            DataError: the store cannot be written.
        """
        final = self._record(index)
        partial = final.with_suffix(".partial")
        try:
            self._array("r+")[index] = volume
            partial.write_text(json.dumps({"volume": index, **record}), encoding="utf-8")
            partial.replace(final)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror or error})") from error

    def complete(self) -> list[int]:
        """Indices of the volumes that are complete."""
        return sorted(int(record.stem) for record in (self.path / _RECORDS).glob("*.json"))

    def record(self, index: int) -> dict[str, Any]:
        """What :meth:`write` noted about a volume.

        Raises:
            DataError: the volume is not complete.
        """
        try:
            text = self._record(index).read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise DataError(f"{self.path}: volume {index} is not there; it holds {len(self.complete())}") from error
        record: dict[str, Any] = json.loads(text)
        return record

    def read(self, index: int) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
        """One complete volume [Z, Y, X].

        Raises:
            DataError: the volume is not complete.
        """
        self.record(index)
        return np.asarray(self._array("r")[index])

    def labels(self, index: int) -> npt.NDArray[np.uint8]:
        """Phase labels of one complete volume [Z, Y, X], thresholded where the store holds grey levels.

        Raises:
            DataError: the volume is not complete.
            UsageError: the model has no phases.
        """
        volume = self.read(index)
        return (
            np.asarray(volume, np.uint8)
            if volume.dtype == np.uint8
            else to_labels(np.asarray(volume[None], np.float32), self.contract)
        )

    def remove_if_empty(self) -> None:
        """Take a store away that holds no complete volume."""
        if not self.complete():
            shutil.rmtree(self.path, ignore_errors=True)

    def _array(self, mode: Literal["r", "r+"]) -> zarr.Array[Any]:
        return zarr.open_array(self.path / _ARRAY, mode=mode)

    def _record(self, index: int) -> Path:
        return self.path / _RECORDS / f"{index:06d}.json"


def provenance(contract: ModelContract, plan: ImagePlan, condition: Condition, seed: int) -> dict[str, Any]:
    """What made volumes or images: with it they can be made again."""
    return {
        "version": version("mdiff"),
        "contract": json.loads(contract.to_json()),
        "plan": dataclasses.asdict(plan),
        "condition": dataclasses.asdict(condition),
        "seed": seed,
    }


def create_array(
    path: Path,
    attributes: Mapping[str, Any],
    contract: ModelContract,
    *,
    axes: tuple[str, ...],
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: type[np.uint8 | np.float32],
    shards: tuple[int, ...] | None = None,
) -> zarr.Array[Any]:
    """Create a group of one array, whose first axis counts and whose others are space, as OME-Zarr.

    Raises:
        OSError: ``path`` cannot be written.
    """
    unit = {} if contract.voxel_unit == "voxel" else {"unit": contract.voxel_unit}
    scale = [1.0, *[contract.voxel_size] * (len(axes) - 1)]
    ome = {
        "version": "0.5",
        "multiscales": [
            {
                "name": contract.name,
                "axes": [{"name": axes[0]}, *({"name": axis, "type": "space", **unit} for axis in axes[1:])],
                "datasets": [{"path": _ARRAY, "coordinateTransformations": [{"type": "scale", "scale": scale}]}],
            }
        ],
    }
    group = zarr.create_group(path, attributes={"ome": ome, "mdiff": dict(attributes)})
    return group.create_array(_ARRAY, shape=shape, chunks=chunks, shards=shards, dtype=dtype, dimension_names=axes)


def _chunk(size: int) -> int:
    """The largest divisor of ``size`` up to the chunk edge, so that chunks fill the shard."""
    return max(n for n in range(1, min(size, _CHUNK) + 1) if size % n == 0)
