"""Command ``compare``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdiff_client.cli.app import app
from mdiff_client.cli.gathered import gathers
from mdiff_client.cli.options import AskedMetrics, Json, Labelling, Repository, complete_model, labelling_of, metrics_of
from mdiff_client.cli.terminal import tell
from mdiff_core.errors import UsageError

if TYPE_CHECKING:
    from mdiff_core import ModelContract


@app.command("compare")
@gathers(labelling=labelling_of, metrics=metrics_of)
def compare_command(
    sources: Annotated[
        list[str], typer.Argument(help="Stores of volumes, and labelled volumes of any tool: TIFF, NPY, RAW, VTI.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="Compare with the training data of this model; none: that of the first store.",
            autocompletion=complete_model,
        ),
    ] = None,
    repository: Repository = None,
    against: Annotated[
        Path | None, typer.Option(help="Real volume or image (TIFF, NPY, RAW, VTI) to compare with instead.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Picture of the S2 and LP curves to write: PNG, PDF or SVG.")
    ] = None,
    *,
    labelling: Callable[[], Labelling],
    metrics: Callable[[], AskedMetrics],
    json: Json = False,
) -> None:
    """Compare volumes of several models, plans or other tools with one material, in one table and one picture."""
    from mdiff_client.evaluation import labels_of, phase_names
    from mdiff_client.report import side_by_side_json, side_by_side_text
    from mdiff_client.side_by_side import Material, is_store, side_by_side, smallest_edge, sources_of
    from mdiff_core.outputs import check_new, check_writable
    from mdiff_images import parse_phases

    labels, asked = labelling(), metrics()
    files = [location for location in sources if not is_store(location)]
    labels.check_used(bool(files or against or asked.training), "SOURCES, --against or --training")
    if plot:
        check_new(plot)
        check_writable(plot)
    contract = _contract(model, repository, sources)
    if contract is None and not (against and labels.phases):
        raise UsageError("say what to compare with: --model, or --against with --phases")
    names = phase_names(contract) if contract else list(parse_phases(labels.phases or ""))
    found = sources_of(sources, names, labels.phases, labels.raw_shape)
    read = partial(labels_of, names=names, phases=labels.phases, raw_shape=labels.raw_shape)
    real = read(against) if against else None
    if contract:
        material = Material.of_model(contract, real, str(against))
    elif real is not None:
        material = Material.of_file(real, names, min(map(smallest_edge, found)), str(against))
    compared = side_by_side(found, material, asked.names, asked.tools(read), lenient=asked.lenient)
    if json:
        typer.echo(side_by_side_json(compared))
    else:
        tell(side_by_side_text(compared))
    if plot:
        from mdiff_client.pictures.curves import draw_curves

        draw_curves(compared, plot)


def _contract(model: str | None, repository: Path | None, sources: Sequence[str]) -> ModelContract | None:
    from mdiff_client.denoisers.place import Place
    from mdiff_client.side_by_side import is_store
    from mdiff_client.store import VolumeStore

    if model:
        return Place(None, repository).contract(model)
    store = next((location for location in sources if is_store(location)), None)
    return VolumeStore.open(store).contract if store else None
