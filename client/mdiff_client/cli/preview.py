"""Command ``preview``."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from mdiff_client.cli.app import app
from mdiff_client.cli.options import Json, Volumes
from mdiff_core.errors import DataError, UsageError
from mdiff_core.outputs import check_new


@app.command("preview")
def preview_command(
    volumes: Volumes,
    out: Annotated[Path, typer.Argument(help="File to write, NAME.png.")],
    volume: Annotated[int, typer.Option(min=0, help="Which volume of the store.")] = 0,
    phase: Annotated[str | None, typer.Option(help="Phase shown as bodies; none: the last one.")] = None,
    json: Json = False,
) -> None:
    """Draw a volume: three orthogonal sections and a 3D view."""
    import numpy as np

    from mdiff_client.pictures import preview
    from mdiff_client.store import VolumeStore

    if out.suffix.lower() != ".png":
        raise UsageError(f"{out}: a preview is a PNG: give it a name that ends in .png")
    check_new(out)
    store = VolumeStore.open(volumes)
    contract, array = store.contract, store.read(volume)
    picture = preview(
        array,
        phases=contract.phases if array.dtype == np.uint8 else (),
        highlight=contract.phase_label(phase) if phase else None,
        voxel_size=contract.voxel_size,
        voxel_unit=contract.voxel_unit,
        title=f"{contract.name}, volume {volume}",
    )
    try:
        picture.save(out, format="PNG")
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error})") from error
    if json:
        typer.echo(dumps({"written": [str(out)]}))
    else:
        typer.echo(out)
