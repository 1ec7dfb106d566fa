"""Volumes for those who work with them in Python: ``mdiff_client.open_library``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mdiff_client.store import MERGED, RECORDS, VolumeStore
from mdiff_core import DataError, UsageError
from mdiff_core.extras import not_installed

if TYPE_CHECKING:
    import xarray

Voxels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]


@dataclass(frozen=True)
class Volumes:
    """The complete volumes of a store by their number, as a mapping has them; none is read before it is asked for.

    Volumes that are missing or were given up are not among them: numbers may have gaps.

    Attributes:
        store: where they lie; its ``contract``, ``plan`` and ``conditions`` say what they are.
        numbers: of the volumes that were complete when the store was opened, ascending.
    """

    store: VolumeStore
    numbers: tuple[int, ...]

    @classmethod
    def open(cls, location: str | Path) -> Volumes:
        """See :func:`mdiff_client.open_library`."""
        store = VolumeStore.open(location)
        return cls(store, tuple(store.complete()))

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __contains__(self, number: object) -> bool:
        return number in self._known

    def __getitem__(self, number: int) -> Voxels:
        """One volume [Z, Y, X]: phase labels uint8, or grey levels float32 in [-1, 1].

        Raises:
            DataError: it is not there, or damaged.
            UnavailableError: the object store does not answer.
        """
        if number not in self:
            raise DataError(f"{self.store.location}: volume {number} is not there; it holds {len(self)}")
        return self.store.voxels(int(number))

    def items(self) -> Iterator[tuple[int, Voxels]]:
        """Number and volume of each, one in memory at a time.

        Raises:
            DataError, UnavailableError: as for one volume.
        """
        return ((number, self[number]) for number in self)

    def batches(self, size: int) -> Iterator[tuple[tuple[int, ...], Voxels]]:
        """Numbers and volumes [n, Z, Y, X] of ``size`` at a time, the last ones perhaps fewer; one batch in memory.

        Raises:
            DataError, UnavailableError: as for one volume.
        """
        parts = (self.numbers[first : first + size] for first in range(0, len(self), size))
        return ((numbers, self.store.voxels(numbers)) for numbers in parts)

    def records(self) -> list[dict[str, Any]]:
        """What was noted about each volume when it was made: seed, fractions, attempts, sha256 …

        Of a library that was finalized it is read at once, of others from a file for each volume.

        Raises:
            DataError: a record cannot be read.
            UnavailableError: the object store does not answer.
        """
        lines = map(json.loads, (self.store.storage.read(MERGED) or "").splitlines())
        merged = {line["volume"]: line for line in lines if line.pop("accepted")}
        apart = [number for number in self if number not in merged]
        found = merged | dict(zip(apart, self.store.documents_of(RECORDS, apart), strict=True))
        return [found[number] or self.store.record(number) for number in self]

    def to_xarray(self) -> xarray.DataArray:
        """The volumes with axes volume, z, y and x, read as they are computed with.

        The axis ``volume`` has the volumes' numbers, and besides their seed and the fraction of each phase; z, y and x
        have the place of the voxels in the unit of the model's contract. Labels have the attributes ``flag_values`` and
        ``flag_meanings`` of the CF conventions, which name the phases.

        Raises:
            UsageError: xarray is not installed.
            DataError: as :meth:`records`, and where a volume turns out to be damaged.
            UnavailableError: the object store does not answer.
        """
        try:
            from mdiff_client.xarray_view import view
        except ImportError as error:
            raise UsageError(not_installed("xarray")) from error
        return view(self.store, self.numbers, self.records())

    @cached_property
    def _known(self) -> frozenset[int]:
        return frozenset(self.numbers)
