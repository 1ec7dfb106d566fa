"""Command ``report``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from mdiff_client.cli.app import app
from mdiff_client.cli.gathered import gathers
from mdiff_client.cli.options import AskedMetrics, Json, Labelling, Volumes, labelling_of, metrics_of
from mdiff_client.cli.terminal import BAD, FAIR, GOOD, tell
from mdiff_core.outputs import check_new, check_writable


@app.command("report")
@gathers(labelling=labelling_of, metrics=metrics_of)
def report_command(
    volumes: Volumes,
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")],
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Real volume or image (TIFF, NPY, RAW) to compare with and to show beside; none: the training data's "
            "curves."
        ),
    ] = None,
    show: Annotated[int, typer.Option(min=1, max=8, help="How many volumes the page carries to look at.")] = 3,
    *,
    labelling: Callable[[], Labelling],
    metrics: Callable[[], AskedMetrics],
    json: Json = False,
) -> None:
    """Write a page to look at volumes: 3D views, sections, curves, figures and a verdict, in one HTML file."""
    from mdiff_client.evaluation import read_labels
    from mdiff_client.progress import progress
    from mdiff_client.report_page import Real, make_report, write_page
    from mdiff_client.store import VolumeStore

    labels, asked = labelling(), metrics()
    labels.check_used(bool(reference or asked.training), "--reference or --training")
    check_new(out)
    check_writable(out)
    store = VolumeStore.open(volumes)
    real = Real.read(reference, store.contract, labels.phases, labels.raw_shape) if reference else None
    read = partial(read_labels, contract=store.contract, phases=labels.phases, raw_shape=labels.raw_shape)
    tools = asked.tools(read)
    with progress(len(store.complete()), "volume", hidden=json) as advance:
        report = make_report(store, real, show, asked.names, tools, lenient=asked.lenient, on_volume=advance)
    size = write_page(report, out)
    if json:
        typer.echo(dumps({"report": str(out), "bytes": size, "verdict": report.verdict.title}))
    else:
        tell(f"{out}: {report.verdict.title}", {f"{report.verdict.title}$": (GOOD, FAIR, BAD)[report.verdict.level]})
