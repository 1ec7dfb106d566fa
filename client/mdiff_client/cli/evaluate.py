"""Command ``evaluate``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mdiff_client.cli.app import app
from mdiff_client.cli.gathered import gathers
from mdiff_client.cli.options import AskedMetrics, Json, Volumes, metrics_of
from mdiff_client.cli.output import report
from mdiff_core.errors import UsageError


@app.command("evaluate")
@gathers(asked=metrics_of)
def evaluate_command(
    volumes: Volumes,
    against: Annotated[
        Path | None,
        typer.Option(help="Real volume or image (TIFF, NPY, RAW, VTI) to compare with; none: the training data."),
    ] = None,
    floor: Annotated[
        Path | None,
        typer.Option(help="Real volume or image: also report how far real crops of it are from the reference."),
    ] = None,
    phases: Annotated[
        str | None,
        typer.Option(help="Phases and their values in the real data, as rest=0+2,active=1; none: 0, 1, 2 …"),
    ] = None,
    raw_shape: Annotated[str | None, typer.Option(help="Shape of real data in a RAW file, as 300x64x64.")] = None,
    *,
    asked: AskedMetrics,
    json: Json = False,
) -> None:
    """Report how far volumes are from real material: S2 and LP error, and more metrics that are asked for."""
    from mdiff_client.evaluation import evaluate, read_labels
    from mdiff_client.store import VolumeStore
    from mdiff_images import parse_shape

    if phases and not (against or floor or asked.training):
        raise UsageError("--phases is about real data: give it with --against or --floor, or --training")
    store = VolumeStore.open(volumes)
    shape = parse_shape(raw_shape) if raw_shape else None
    read = partial(read_labels, contract=store.contract, phases=phases, raw_shape=shape)
    reference, real = (read(path) if path else None for path in (against, floor))
    tools = asked.tools(read)
    for condition in store.by_condition() or store.conditions[:1]:
        evaluation = evaluate(store, reference, real, condition, asked.names, tools, lenient=asked.lenient)
        report(store.contract, condition, evaluation, json)
