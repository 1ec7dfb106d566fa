"""What was measured of each volume, kept beside its record: work that was done is not done again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mdiff_client.properties.measures import Measure
from mdiff_client.store import VolumeStore

PROPERTIES = "properties"
_OF = "properties_of"  # sha256 of the volume that was measured


def unfinished(store: VolumeStore, measures: Sequence[Measure]) -> list[tuple[int, Measure]]:
    """What is still to do: each complete volume with each measure that its document does not hold."""
    return [
        (index, measure)
        for index in store.complete()
        for measure in measures
        if not _holds(_document(store, index), measure)
    ]


def homogenize(
    store: VolumeStore, work: Sequence[tuple[int, Measure]], on_measured: Callable[[], object] = lambda: None
) -> None:
    """Measure, and add to the document of each volume; what it holds of other measures stays.

    A document is flat: values by name, beside them what was asked for, and ``properties_of``, the sha256 of the volume.
    Other conductivities or moduli of the phases replace what was found with the former ones.

    Raises:
        DataError: a volume is damaged, or the store cannot be written.
        UsageError: the volumes have no phases.
        UnavailableError: the object store does not answer.
    """
    for index, measure in work:
        values = measure(store.labels(index), store.plan["periodic"])
        document = {**_document(store, index), _OF: store.record(index).get("sha256"), **measure.asked, **values}
        store.write_document(PROPERTIES, index, document)
        on_measured()


def values(store: VolumeStore, measures: Sequence[Measure]) -> dict[str, list[float | None]]:
    """What the documents hold, by key: a value for each complete volume."""
    documents = [_document(store, index) for index in store.complete()]
    return {key: [one[key] for one in documents] for measure in measures for key in measure.keys}


def _document(store: VolumeStore, index: int) -> dict[str, Any]:
    """Empty where there is none, and where it is about a volume that was since made anew."""
    found = store.document(PROPERTIES, index)
    return found if found and found.get(_OF) == store.record(index).get("sha256") else {}


def _holds(document: Mapping[str, Any], measure: Measure) -> bool:
    return all(key in document for key in measure.keys) and all(
        document.get(name) == value for name, value in measure.asked.items()
    )
