"""Command ``evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdiff_client.cli.app import app
from mdiff_client.cli.options import Extractor, FidWeights, Independent, Json, Mcrpy, Metrics, Training, Volumes
from mdiff_client.cli.output import report
from mdiff_core.errors import UsageError


@app.command("evaluate")
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
    metrics: Metrics = None,
    training: Training = None,
    independent: Independent = False,
    mcrpy: Mcrpy = None,
    fid_weights: FidWeights = None,
    extractor: Extractor = "inception-v3-compat",
    json: Json = False,
) -> None:
    """Report how far volumes are from real material: S2 and LP error, and more metrics that are asked for."""
    from mdiff_client.evaluation import evaluate, read_labels
    from mdiff_client.metrics import ALL, Tools, parse_metrics, training_images
    from mdiff_client.store import VolumeStore
    from mdiff_images import parse_shape

    if phases and not (against or floor or training):
        raise UsageError("--phases is about real data: give it with --against or --floor, or --training")
    names = parse_metrics(metrics)
    store = VolumeStore.open(volumes)
    shape = parse_shape(raw_shape) if raw_shape else None
    reference, real = (read_labels(path, store.contract, phases, shape) if path else None for path in (against, floor))
    images = [read_labels(path, store.contract, phases, shape, all_present=False) for path in training or []]
    tools = Tools(training_images(images, independent=independent), mcrpy, fid_weights, extractor)
    made = {store.condition(index) for index in store.complete()}
    for condition in [one for one in store.conditions if one in made] or store.conditions[:1]:
        evaluation = evaluate(store, reference, real, condition, names, tools, lenient=metrics == ALL)
        report(store.contract, condition, evaluation, json)
