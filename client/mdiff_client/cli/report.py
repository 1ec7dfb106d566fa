"""Command ``report``."""

from __future__ import annotations

from functools import partial
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from mdiff_client.cli.app import app
from mdiff_client.cli.gathered import gathers
from mdiff_client.cli.options import AskedMetrics, Json, Volumes, metrics_of
from mdiff_client.cli.output import BAD, FAIR, GOOD, tell
from mdiff_core.errors import UsageError
from mdiff_core.outputs import check_new, check_writable


@app.command("report")
@gathers(asked=metrics_of)
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
    phases: Annotated[
        str | None,
        typer.Option(help="Phases and their values in the real data, as rest=0+2,active=1; none: 0, 1, 2 …"),
    ] = None,
    raw_shape: Annotated[str | None, typer.Option(help="Shape of real data in a RAW file, as 300x64x64.")] = None,
    show: Annotated[int, typer.Option(min=1, max=8, help="How many volumes the page carries to look at.")] = 3,
    *,
    asked: AskedMetrics,
    json: Json = False,
) -> None:
    """Write a page to look at volumes: 3D views, sections, curves, figures and a verdict, in one HTML file."""
    from mdiff_client.evaluation import read_labels
    from mdiff_client.progress import progress
    from mdiff_client.report_page import Real, make_report, write_page
    from mdiff_client.store import VolumeStore
    from mdiff_images import parse_shape

    if (phases or raw_shape) and not (reference or asked.training):
        raise UsageError("--phases and --raw-shape are about real data: give it with --reference, or --training")
    check_new(out)
    check_writable(out)
    store = VolumeStore.open(volumes)
    shape = parse_shape(raw_shape) if raw_shape else None
    real = Real.read(reference, store.contract, phases, shape) if reference else None
    read = partial(read_labels, contract=store.contract, phases=phases, raw_shape=shape)
    tools = asked.tools(read)
    with progress(len(store.complete()), "volume", hidden=json) as advance:
        report = make_report(store, real, show, asked.names, tools, lenient=asked.lenient, on_volume=advance)
    size = write_page(report, out)
    if json:
        typer.echo(dumps({"report": str(out), "bytes": size, "verdict": report.verdict.title}))
    else:
        tell(f"{out}: {report.verdict.title}", {f"{report.verdict.title}$": (GOOD, FAIR, BAD)[report.verdict.level]})
