"""Volumes in zarr: one array whose first axis counts them, with OME-Zarr metadata and provenance.

OUT.zarr/
  zarr.json             OME-Zarr 0.5 metadata; under "mdiff": contract, plan, condition, seed, version, planes, anchors
  0/                    [volume, z, y, x], uint8 labels or float32 grey levels; one shard is one volume
  records/000000.json   written last: a volume without its record is not complete
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr

from mdiff_client.phases import to_labels
from mdiff_client.sampling import UNCONDITIONAL, Condition, ImagePlan, SamplingPlan
from mdiff_core import DataError, ModelContract, UsageError
from mdiff_core.outputs import check_new

_CHUNKS = range(16, 65)  # edges of a chunk
_ARRAY, _RECORDS = "0", "records"
_SHORT = 40  # characters of a value in a message


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
        more: Mapping[str, Any] | None = None,
        resume: bool = False,
    ) -> VolumeStore:
        """Create an empty store for ``count`` volumes.

        Args:
            path: the zarr folder.
            contract: of the model.
            plan: how and in what size they are sampled.
            seed: of the library.
            count: number of volumes.
            grey: float32 grey levels instead of uint8 labels.
            condition: what the volumes are asked to be.
            more: what else made the volumes, JSON.
            resume: open it instead, where it is there and was created with the same arguments.

        Raises:
            UsageError: ``path`` exists, or was not created with the same arguments, or the plan's size does not fit the
                model.
            DataError: ``path`` cannot be written, or what is there is no store.
        """
        size = plan.shape(contract)
        attributes = {**provenance(contract, plan, condition, seed), **(more or {})}
        if resume and path.exists():
            store = cls.open(path)
            store._check_same(attributes, (count, *size), grey)
            try:
                store._clear_incomplete()
            except OSError as error:
                raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error
            return store
        check_new(path)
        try:
            (path / _RECORDS).mkdir(parents=True)
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
            mdiff = _attributes(path)
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
        try:
            record: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise DataError(f"{self._record(index)}: not a record; remove it, and the run can be resumed") from error
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

    def _clear_incomplete(self) -> None:
        """Take away what a run that was killed left half written: zarr reads a shard before it writes it anew."""
        complete = {str(index) for index in self.complete()}
        for shard in (self.path / _ARRAY).glob("c/*"):
            if shard.name not in complete:
                shutil.rmtree(shard)
        for record in (self.path / _RECORDS).glob("*.partial"):
            record.unlink()

    def _check_same(self, attributes: Mapping[str, Any], shape: tuple[int, ...], grey: bool) -> None:
        array = self._array("r")
        found = {**_attributes(self.path), "count": array.shape[0], "grey": array.dtype == np.float32}
        # As JSON tells it: tuples are lists there.
        asked = json.loads(json.dumps({**attributes, "count": shape[0], "grey": grey}))
        differing = [f"{name} {_short(one)}, not {_short(other)}" for name, one, other in _differences(found, asked)]
        if differing:
            raise UsageError(
                f"{self.path} was begun with {'; '.join(differing)}: repeat the command that began it, or choose "
                "another name"
            )

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
    """The largest divisor of ``size`` that is a fit edge for chunks, so that they fill the shard, or all of it."""
    return max((n for n in _CHUNKS if size % n == 0), default=size)


def _attributes(path: Path) -> dict[str, Any]:
    attributes: dict[str, Any] = zarr.open_group(path, mode="r").attrs.asdict()["mdiff"]  # type: ignore[assignment]
    return attributes


def _differences(found: object, asked: object, name: str = "") -> Iterator[tuple[str, object, object]]:
    """(name, found, asked) of each entry of two JSON objects that differs."""
    if isinstance(found, dict) and isinstance(asked, dict):
        for key in sorted({*found, *asked}):
            yield from _differences(found.get(key), asked.get(key), f"{name} {key}".lstrip())
    elif found != asked:
        yield name, found, asked


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHORT else f"{text[:_SHORT]} …"
