"""The table of a library: a row for each volume."""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Iterator
from typing import Any

import zarr
from zarr.errors import ZarrUserWarning

from mdiff_client.library.lease import WORKERS
from mdiff_client.library.library import FAILED
from mdiff_client.sampling import Condition
from mdiff_client.store import MERGED, RECORDS, VolumeStore
from mdiff_core import DataError, ModelContract, UsageError

PROPERTIES = "properties"


def finalize(store: VolumeStore, *, parquet: bool) -> str:
    """Merge the records into ``records.jsonl``, write the table, consolidate zarr's metadata.

    May be done again, after properties were computed for instance.

    Returns:
        The table's name in the store, ``table.csv`` or ``table.parquet``.

    Raises:
        UsageError: volumes are missing.
        DataError, UnavailableError: from the storage.
    """
    records = _all(store, FAILED) | _all(store, RECORDS)
    count = store.shape[0]
    if len(records) < count:
        first = next(index for index in range(count) if index not in records)
        raise UsageError(
            f"{store.location}: {count - len(records)} of {count} volumes are missing, the first is {first}: "
            "mdiff-client library run makes them"
        )
    for name in store.storage.names(WORKERS):
        store.storage.delete(f"{WORKERS}/{name}")
    for left in store.storage.path.rglob("*.partial") if store.storage.path else ():
        left.unlink(missing_ok=True)  # of writers that were killed
    lines = (json.dumps({"accepted": "sha256" in records[index], **records[index]}) for index in range(count))
    store.storage.write(MERGED, "".join(f"{line}\n" for line in lines))
    measured = _all(store, PROPERTIES)
    rows = [{**_row(store, index, records[index]), **measured.get(index, {})} for index in range(count)]
    name = _write(store, rows, parquet=parquet)
    with store.storage.guarded("written"), warnings.catch_warnings():
        # Of what lies there besides the array, and that version 3 of the format does not yet know this.
        warnings.simplefilter("ignore", ZarrUserWarning)
        zarr.consolidate_metadata(store.storage.zarr)
    return name


def _all(store: VolumeStore, kind: str) -> dict[int, dict[str, Any]]:
    """The documents of one kind, by volume."""
    found = store.documents(kind)
    return {index: one for index, one in zip(found, store.documents_of(kind, found), strict=True) if one is not None}


def _row(store: VolumeStore, index: int, record: dict[str, Any]) -> dict[str, Any]:
    """The row of a volume.

    Raises:
        DataError: its record lacks something.
    """
    try:
        return dict(_columns(store, index, record))
    except (LookupError, AttributeError, TypeError) as error:
        raise DataError(
            f"{store.location}: the record of volume {index} is damaged: library verify --repair takes it away"
        ) from error


def _columns(store: VolumeStore, index: int, record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Column and value; nothing of a run, such as its duration, so that the table is the same whoever made it."""
    accepted = "sha256" in record
    last = record if accepted else record["rejected"][-1]
    yield from (("volume", index), ("seed", record["seed"]), ("accepted", accepted))
    yield from (("attempts", len(record["rejected"]) + accepted), ("attempt", last["attempt"]))
    yield from _asked(store.condition(index), store.contract)
    for name, score in last.get("phases", {}).items():
        yield from ((f"{name}_{what}", value) for what, value in score.items())
    yield from (("evaluations", last.get("evaluations")), ("sha256", last.get("sha256")))


def _asked(condition: Condition, contract: ModelContract) -> Iterator[tuple[str, Any]]:
    if contract.classes:
        yield "class", None if condition.label is None else [*contract.classes, None][condition.label]
    for phase, fraction in zip(contract.phases[1:], condition.fractions, strict=False):
        yield f"{phase.name}_fraction_asked", fraction
    if contract.guidable:
        yield "guidance", condition.guidance


def _write(store: VolumeStore, rows: list[dict[str, Any]], *, parquet: bool) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if parquet:
        import pyarrow
        from pyarrow import parquet as files

        sink = pyarrow.BufferOutputStream()
        files.write_table(pyarrow.Table.from_pylist([{c: row.get(c) for c in columns} for row in rows]), sink)
        store.storage.write("table.parquet", sink.getvalue().to_pybytes())
        return "table.parquet"
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    store.storage.write("table.csv", text.getvalue())
    return "table.csv"
