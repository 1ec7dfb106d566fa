"""Command ``evaluate``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mdiff_client.cli.app import app
from mdiff_client.cli.gathered import gathers
from mdiff_client.cli.options import AskedMetrics, Json, Labelling, Volumes, labelling_of, metrics_of
from mdiff_client.cli.output import report


@app.command("evaluate")
@gathers(labelling=labelling_of, metrics=metrics_of)
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
    *,
    labelling: Callable[[], Labelling],
    metrics: Callable[[], AskedMetrics],
    json: Json = False,
) -> None:
    """Report how far volumes are from real material: S2 and LP error, and more metrics that are asked for."""
    from mdiff_client.evaluation import evaluate, read_labels
    from mdiff_client.store import VolumeStore

    labels, asked = labelling(), metrics()
    labels.check_used(bool(against or floor or asked.training), "--against, --floor or --training")
    store = VolumeStore.open(volumes)
    read = partial(read_labels, contract=store.contract, phases=labels.phases, raw_shape=labels.raw_shape)
    reference, real = (read(path) if path else None for path in (against, floor))
    tools = asked.tools(read)
    for condition in store.by_condition() or store.conditions[:1]:
        evaluation = evaluate(store, reference, real, condition, asked.names, tools, lenient=asked.lenient)
        report(store.contract, condition, evaluation, json)
