"""The formats there are, by the ending of a file's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mdiff_client.formats.abaqus import write_abaqus
from mdiff_client.formats.images import write_mhd, write_npy, write_tiff
from mdiff_client.formats.ome_zarr import write_ome_zarr
from mdiff_client.formats.volume import Volume
from mdiff_client.formats.vti import write_vti
from mdiff_core import UsageError


def _write_fans(path: Path, volume: Volume) -> None:
    from mdiff_client.formats.fans import write_fans  # h5py comes with an extra

    write_fans(path, volume)


@dataclass(frozen=True)
class Format:
    """A format of one volume.

    Attributes:
        endings: of its files' names; the first is written in libraries.
        write: writes a volume into a file, or a folder, of this name.
        beside: ending of a second file, which stands in place of the first's.
        solver: it takes phase labels, for a solver; others take what the store holds.
        elastic: it carries elastic constants.
    """

    endings: tuple[str, ...]
    write: Callable[[Path, Volume], None]
    beside: str | None = None
    solver: bool = False
    elastic: bool = False

    def files(self, out: Path) -> list[Path]:
        """All that a volume written under this name is in."""
        return [out, *([out.with_suffix(self.beside)] if self.beside else [])]


FORMATS = {
    "vti": Format((".vti",), write_vti, solver=True),
    "fans": Format((".h5",), _write_fans, beside=".json", solver=True, elastic=True),
    "inp": Format((".inp",), write_abaqus, solver=True, elastic=True),
    "mhd": Format((".mhd",), write_mhd, beside=".raw"),
    "tiff": Format((".tiff", ".tif"), write_tiff),
    "npy": Format((".npy",), write_npy),
    "zarr": Format((".ome.zarr", ".zarr"), write_ome_zarr),
}


def format_of(path: Path) -> Format:
    """The format that a file's name ends with.

    Raises:
        UsageError: no format.
    """
    for one in FORMATS.values():
        if path.name.endswith(one.endings):
            return one
    endings = ", ".join(ending for one in FORMATS.values() for ending in one.endings)
    raise UsageError(f"{path}: its ending names no format; use {endings}")


def format_named(name: str) -> Format:
    """The format of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in FORMATS:
        raise UsageError(f"format {name!r} is unknown: use {', '.join(FORMATS)}")
    return FORMATS[name]
