"""Volumes of a store into files of other formats, each whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mdiff_client.formats.elastic import Elastic
from mdiff_client.formats.registry import Format
from mdiff_client.formats.volume import Volume
from mdiff_client.store import VolumeStore
from mdiff_core import DataError, ModelContract
from mdiff_core.outputs import check_new


@dataclass(frozen=True)
class Exporter:
    """Writes volumes of a store in one format.

    Attributes:
        store: where the volumes lie.
        format: of the files.
        contract: of the store, where the user knows better with another size and unit of the voxel.
        elastic: constants of each phase; empty: not given.
    """

    store: VolumeStore
    format: Format
    contract: ModelContract
    elastic: tuple[Elastic, ...] = ()

    def write(self, index: int, out: Path) -> None:
        """Write one volume; what it is named lies under a partial name until all of it is written.

        Raises:
            UsageError: the format needs phases, and the model has none; or the voxel's unit is unknown.
            DataError: the volume is not there, or ``out`` cannot be written.
        """
        volume = self._volume(index)
        partial = out.with_name(f".{out.name}.partial")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            self.format.write(partial / out.name, volume)
            # The file that names the other is the last: where it is, all is.
            for part in sorted(partial.iterdir(), key=lambda part: part.name == out.name):
                part.replace(out.with_name(part.name))
        except OSError as error:
            raise DataError(f"{out}: cannot be written ({error.strerror or error})") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def write_all(self, indices: Sequence[int], folder: Path, advance: Callable[[], object]) -> None:
        """Write volumes into a folder, one in memory at a time, as 000000.vti and so on; those that are there stay.

        Args:
            indices: of the volumes.
            folder: where to; made, where it is not there.
            advance: called after each volume.

        Raises:
            UsageError: as :meth:`write`.
            DataError: as :meth:`write`.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{folder}: cannot be written ({error.strerror or error})") from error
        try:
            for index in indices:
                out = folder / f"{index:06d}{self.format.endings[0]}"
                if not out.exists():
                    self.write(index, out)
                advance()
        finally:
            with suppress(OSError):
                folder.rmdir()  # only where nothing was written

    def check_new(self, out: Path) -> None:
        """Refuse the names that a volume would be written under, where one is taken.

        Raises:
            UsageError: something is there.
            DataError: the folder may not be looked into.
        """
        for file in self.format.files(out):
            check_new(file)

    def _volume(self, index: int) -> Volume:
        made = {**self.store.made, "contract": json.loads(self.contract.to_json()), "record": self.store.record(index)}
        return Volume(
            voxels=self.store.labels(index) if self.format.solver else self.store.read(index),
            contract=self.contract,
            title=f"{self.contract.name}, volume {index} of {Path(self.store.location).name}, made by mdiff",
            periodic=str(self.store.plan.get("periodic", "")),
            elastic=self.elastic,
            made=made,
        )
