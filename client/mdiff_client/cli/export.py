"""Command ``export``."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from mdiff_client.cli.app import app
from mdiff_client.cli.options import Json, Volumes
from mdiff_client.log import events_on_stderr
from mdiff_core.errors import DataError, UsageError


@app.command("export")
def export_command(
    volumes: Volumes,
    out: Annotated[
        Path,
        typer.Argument(
            help="File to write, whose ending says the format: .vti (DAMASK, ParaView), .h5 (FANS, with .json beside "
            "it), .inp (Abaqus, CalculiX), .mhd (with .raw), .tiff (ImageJ), .npy, .ome.zarr; with --all a folder."
        ),
    ],
    volume: Annotated[int | None, typer.Option(min=0, help="Which volume of the store; none: the first.")] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Every complete volume, into files 000000.vti and so on.")
    ] = False,
    format_: Annotated[
        str | None, typer.Option("--format", help="With --all: vti, fans, inp, mhd, tiff, npy or zarr.")
    ] = None,
    voxel_size: Annotated[
        float | None, typer.Option(help="Edge of a voxel, where you know better than the model.")
    ] = None,
    voxel_unit: Annotated[str | None, typer.Option(help="Its unit, as micrometer.")] = None,
    elastic: Annotated[
        list[str] | None,
        typer.Option(
            help="Young's modulus and Poisson's ratio, as matrix=3.5,0.35, for each phase; .inp and .h5 then run as "
            "they are."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="With --all: write the files that are missing.")] = False,
    json: Json = False,
) -> None:
    """Write volumes in the format of a solver or an image viewer."""
    from dataclasses import replace
    from math import inf

    from mdiff_client.formats import FORMATS, Exporter, format_named, format_of, parse_elastic
    from mdiff_client.progress import progress
    from mdiff_client.store import VolumeStore
    from mdiff_core.outputs import check_new

    if all_ and (volume is not None or format_ is None):
        raise UsageError("--all exports every volume: give it --format, and no --volume")
    if not all_ and (format_ or resume):
        raise UsageError("--format and --resume go with --all; the ending of one file says its format")
    chosen = format_named(format_) if format_ else format_of(out)
    if elastic and not chosen.elastic:
        raise UsageError("--elastic is for .inp and .h5: no other format carries elastic constants")
    if voxel_size is not None and not 0 < voxel_size < inf:
        raise UsageError(f"voxel size {voxel_size:g} is not a positive length")
    store = VolumeStore.open(volumes)
    contract = replace(
        store.contract,
        voxel_size=voxel_size or store.contract.voxel_size,
        voxel_unit=voxel_unit or store.contract.voxel_unit,
    )
    exporter = Exporter(store, chosen, contract, parse_elastic(elastic or [], contract))
    indices = store.complete()
    if not indices:
        raise DataError(f"{volumes}: holds no complete volume")
    with events_on_stderr(json=False):
        if all_:
            if not resume:
                check_new(out, "choose another name, or go on with --resume")
            with progress(len(indices), "volume") as advance:
                exporter.write_all(indices, out, advance)
        else:
            exporter.check_new(out)
            indices = [indices[0] if volume is None else volume]
            exporter.write(indices[0], out)
    written = [out] if all_ else chosen.files(out)
    if json:
        found = {
            "store": volumes,
            "written": list(map(str, written)),
            "format": next(name for name, one in FORMATS.items() if one is chosen),
            "volumes": indices,
            "shape": store.shape[1:],
            "voxel_size": contract.voxel_size,
            "voxel_unit": contract.voxel_unit,
            "bytes": sum(map(_bytes, written)),
        }
        typer.echo(dumps(found))
    else:
        typer.echo("\n".join(map(str, written)))


def _bytes(path: Path) -> int:
    """Of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
