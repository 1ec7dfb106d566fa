"""Volumes in zarr: one array whose first axis counts them, with OME-Zarr metadata and provenance.

OUT.zarr/
  0/                    [volume, z, y, x], uint8 labels or float32 grey levels; one shard is one volume
  zarr.json             OME-Zarr 0.5 metadata; under "mdiff": contract, plan, conditions, seed, version, planes …
  records/000000.json   written last: a volume without its record is not complete
  …/000000.json         other documents about a volume
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from mdiff_client.ome import ARRAY, chunk_edge, create_array
from mdiff_client.phases import to_labels
from mdiff_client.sampling import UNCONDITIONAL, Condition, ImagePlan, SamplingPlan
from mdiff_client.storage import Storage, document, numbered, numbers
from mdiff_core import DataError, ModelContract, UsageError

RECORDS = "records"
MERGED = "records.jsonl"  # all of them, of a library that was finalized
_SHORT = 40  # characters of a value in a message


@dataclass(frozen=True)
class VolumeStore:
    """A store of volumes made with one model and plan.

    Attributes:
        storage: where it lies.
        contract: contract of the model.
        made: what made the volumes, JSON: version, contract, plan, conditions, seed and more.
    """

    storage: Storage
    contract: ModelContract
    made: Mapping[str, Any]

    @classmethod
    def create(
        cls,
        location: str | Path,
        contract: ModelContract,
        plan: SamplingPlan,
        seed: int | None,
        count: int,
        *,
        grey: bool,
        conditions: Sequence[Condition] = (UNCONDITIONAL,),
        more: Mapping[str, Any] | None = None,
        resume: bool = False,
    ) -> VolumeStore:
        """Create an empty store for ``count`` volumes.

        Args:
            location: the zarr folder, or the URL of one in an object store.
            contract: of the model.
            plan: how and in what size they are sampled.
            seed: of all volumes; None where each has its own.
            count: number of volumes.
            grey: float32 grey levels instead of uint8 labels.
            conditions: what the volumes are asked to be, an equal number of them in turn each.
            more: what else made the volumes, JSON.
            resume: open it instead, where it is there and was created with the same arguments.

        Raises:
            UsageError: ``location`` exists, or was not created with the same arguments, or the plan's size does not fit
                the model.
            DataError: ``location`` cannot be written, or what is there is no store.
            UnavailableError: the object store does not answer.
        """
        size, storage = plan.shape(contract), Storage(str(location))
        made = {**provenance(contract, plan, conditions, seed), **(more or {})}
        vacant = resume and _is_vacant(storage)
        if resume and not vacant and storage.exists():
            store = cls.open(location)
            store.check_same(made, (count, *size), grey=grey)
            return store
        if not vacant:
            storage.check_new()
        try:
            with storage.guarded("written"):
                create_array(
                    storage.zarr,
                    made,
                    contract,
                    axes=("volume", "z", "y", "x"),
                    shape=(count, *size),
                    chunks=(1, *(chunk_edge(n) for n in size)),
                    shards=(1, *size),
                    dtype=np.float32 if grey else np.uint8,
                )
        except DataError:
            if storage.path is not None:
                shutil.rmtree(storage.path, ignore_errors=True)
            raise
        return cls.open(location)

    @classmethod
    def open(cls, location: str | Path) -> VolumeStore:
        """Open a store.

        Raises:
            DataError: not a store of mdiff's volumes.
            ContractError: its contract cannot be used.
            UnavailableError: the object store does not answer.
        """
        storage = Storage(str(location))
        metadata = storage.read("zarr.json")
        if metadata is None:
            raise DataError(f"{location}: no such store of volumes")
        try:
            made = json.loads(metadata)["attributes"]["mdiff"]
            contract = ModelContract.from_json(json.dumps(made["contract"]))
            store = cls(storage, contract, made)
            if store.conditions and "steps" in store.plan and store.axes[0] == "volume":
                return store
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{location}: not a store of volumes made by mdiff") from error
        raise DataError(f"{location}: not a store of volumes made by mdiff")

    @property
    def location(self) -> str:
        """Path or URL."""
        return self.storage.location

    @property
    def plan(self) -> Mapping[str, Any]:
        """The sampling plan's fields."""
        plan: Mapping[str, Any] = self.made["plan"]
        return plan

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """What the volumes are asked to be."""
        # The first stores know one condition, or none.
        found = self.made.get("conditions") or [self.made.get("condition", {})]
        defaults = dataclasses.asdict(UNCONDITIONAL)
        return tuple(Condition(**{**defaults, **one, "fractions": tuple(one.get("fractions", ()))}) for one in found)

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """Names of the array's axes."""
        return tuple(map(str, self._array.metadata.dimension_names or ()))  # type: ignore[union-attr]

    @cached_property
    def shape(self) -> tuple[int, int, int, int]:
        """Volumes planned, and voxels along z, y and x."""
        count, z, y, x = self._array.shape
        return count, z, y, x

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """uint8 of labels, float32 of grey levels."""
        return np.dtype(self._array.dtype)

    def condition(self, index: int) -> Condition:
        """What one volume is asked to be."""
        return self.conditions[index * len(self.conditions) // self.shape[0]]

    def by_condition(self) -> dict[Condition, list[int]]:
        """Indices of the complete volumes, by what they are asked to be; of a condition without any there is no key."""
        found: dict[Condition, list[int]] = {}
        for index in self.complete():
            found.setdefault(self.condition(index), []).append(index)
        return found

    def write(self, index: int, volume: npt.NDArray[np.uint8] | npt.NDArray[np.float32], **record: object) -> None:
        """Write one volume [Z, Y, X], then its record, with the sha256 of the volume's bytes in C order.

        Raises:
            DataError: the store cannot be written.
            UnavailableError: the object store does not answer.
        """
        with self.storage.guarded("written"):
            try:
                self._writable[index] = volume
            except (RuntimeError, ValueError):
                # zarr reads a shard before it writes it anew, and this one is damaged.
                self.storage.delete(f"{ARRAY}/c/{index}/0/0/0")
                self._writable[index] = volume
        self.write_document(RECORDS, index, {"volume": index, **record, "sha256": digest(volume)})

    def complete(self) -> list[int]:
        """Indices of the volumes that are complete."""
        return self.documents(RECORDS)

    def record(self, index: int) -> dict[str, Any]:
        """What :meth:`write` noted about a volume.

        Raises:
            DataError: the volume is not complete.
        """
        found = self.document(RECORDS, index)
        if found is None:
            raise DataError(f"{self.location}: volume {index} is not there; it holds {len(self.complete())}")
        return found

    def documents(self, kind: str) -> list[int]:
        """Indices of the volumes that have a document of this kind."""
        return numbers(self.storage.names(kind))

    def document(self, kind: str, index: int) -> dict[str, Any] | None:
        """A document about a volume; None where there is none.

        Raises:
            DataError: it is no JSON object.
        """
        key = numbered(kind, index)
        text = self.storage.read(key)
        return None if text is None else document(text, f"{self.location}/{key}")

    def documents_of(self, kind: str, indices: Sequence[int]) -> list[dict[str, Any] | None]:
        """The documents of several volumes, each as :meth:`document` gives it.

        Raises:
            DataError: one is no JSON object.
        """
        keys = [numbered(kind, index) for index in indices]
        texts = self.storage.read_many(keys)
        return [
            None if text is None else document(text, f"{self.location}/{key}")
            for key, text in zip(keys, texts, strict=True)
        ]

    def write_document(self, kind: str, index: int, content: Mapping[str, object]) -> None:
        """Write a document about a volume, whole or not at all; ``kind`` is the folder it goes to.

        Raises:
            DataError: the store cannot be written.
            UnavailableError: the object store does not answer.
        """
        self.storage.write(numbered(kind, index), json.dumps(content))

    def remove_document(self, kind: str, index: int) -> None:
        """Take a document about a volume away; without its record a volume is missing.

        Raises:
            DataError: the store cannot be written.
            UnavailableError: the object store does not answer.
        """
        self.storage.delete(numbered(kind, index))

    def read(self, index: int) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
        """One complete volume [Z, Y, X].

        Raises:
            DataError: the volume is not complete, or damaged.
        """
        self.record(index)
        return self.voxels(index)

    def voxels(
        self, volumes: int | Sequence[int], *within: int | slice | npt.NDArray[np.intp]
    ) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
        """What lies in the array, whether or not the volumes are complete; no more is read than the chunks asked for.

        Args:
            volumes: one volume, or several.
            within: what of them along z, y and x; nothing: all.

        Returns:
            An axis for several volumes, and for z, y and x each, unless it is one index.

        Raises:
            DataError: it cannot be decoded.
            UnavailableError: the object store does not answer.
        """
        chosen = volumes if isinstance(volumes, int) else np.asarray(volumes, np.intp)
        with self.storage.guarded("read"):
            try:
                return np.asarray(self._array.oindex[(chosen, *within)])
            except (RuntimeError, ValueError, TypeError) as error:
                which = "volume" if isinstance(volumes, int) else "one of the volumes"
                raise DataError(f"{self.location}: {which} {volumes} is damaged ({error})") from error

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
        """Take a store on this machine away that holds no complete volume."""
        if self.storage.path is not None and not self.complete():
            shutil.rmtree(self.storage.path, ignore_errors=True)

    def check_same(self, made: Mapping[str, Any], shape: tuple[int, ...], *, grey: bool) -> None:
        """Refuse to go on with other arguments than those of the store.

        Args:
            made: what makes the volumes, JSON.
            shape: their number, and voxels along z, y and x.
            grey: grey levels, not labels.

        Raises:
            UsageError: what differs.
        """
        found = {**self.made, "count": self.shape[0], "grey": self.dtype == np.float32}
        # As JSON tells it: tuples are lists there.
        asked = json.loads(json.dumps({**made, "count": shape[0], "grey": grey}))
        differing = [f"{name} {_short(one)}, not {_short(other)}" for name, one, other in _differences(found, asked)]
        if differing:
            raise UsageError(
                f"{self.location} was begun with {'; '.join(differing)}: repeat the command that began it, or choose "
                "another name"
            )

    @cached_property
    def _array(self) -> zarr.Array[Any]:
        """[volume, z, y, x], to be read."""
        return zarr.open_array(self.storage.zarr, path=ARRAY, mode="r", zarr_format=3)

    @cached_property
    def _writable(self) -> zarr.Array[Any]:
        return zarr.open_array(self.storage.zarr, path=ARRAY, mode="r+", zarr_format=3)


def digest(volume: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> str:
    """sha256 of a volume's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(volume).tobytes()).hexdigest()


def provenance(
    contract: ModelContract, plan: ImagePlan, conditions: Sequence[Condition], seed: int | None
) -> dict[str, Any]:
    """What made volumes or images: with it they can be made again."""
    return {
        "version": version("mdiff"),
        "contract": json.loads(contract.to_json()),
        "plan": dataclasses.asdict(plan),
        "conditions": [dataclasses.asdict(condition) for condition in conditions],
        "seed": seed,
    }


def _is_vacant(storage: Storage) -> bool:
    """Whether nothing is there but what a creation that was cut short leaves: a group without attributes, no volume.

    All else is somebody's, and would be lost if a store was created over it.
    """
    metadata = storage.read("zarr.json")
    if metadata is not None and document(metadata, f"{storage.location}/zarr.json").get("attributes") != {}:
        return False
    return {*storage.names("")} <= {"zarr.json", ARRAY} and {*storage.names(ARRAY)} <= {"zarr.json"}


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
