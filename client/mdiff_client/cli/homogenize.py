"""Command ``homogenize``."""

from __future__ import annotations

import os
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdiff_client.cli.app import app
from mdiff_client.cli.options import DryRun, Json, LogJson, Volumes
from mdiff_client.cli.terminal import tell
from mdiff_client.log import events_on_stderr
from mdiff_core.errors import DataError

if TYPE_CHECKING:
    from mdiff_client.properties import Measure
    from mdiff_core import ModelContract


@app.command("homogenize")
def homogenize_command(
    volumes: Volumes,
    phase: Annotated[
        list[str] | None,
        typer.Option(
            help="Phase that diffusion goes through, once for each; none: the last, unless another property is asked "
            "for."
        ),
    ] = None,
    conductivity: Annotated[
        str | None,
        typer.Option(help="Phases that conduct and their conductivities, as matrix=1,sphere=10; others insulate."),
    ] = None,
    elastic: Annotated[
        list[str] | None,
        typer.Option(help="Young's modulus and Poisson's ratio, as matrix=70,0.3, once for each phase."),
    ] = None,
    convergence: Annotated[
        Path | None,
        typer.Option(help="Picture to draw (.png, .pdf, .svg) of the properties of ever larger parts of the volumes."),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(min=0.01, help="With --convergence: per cent of scatter and error of a representative size."),
    ] = 5.0,
    dry_run: DryRun = False,
    json: Json = False,
    log_json: LogJson = False,
) -> None:
    """Measure effective properties, keep them in the store, and say whether the volumes are large enough.

    What was measured before is kept and not measured again, so that the same command goes on where it was stopped.
    """
    from mdiff_client.progress import progress
    from mdiff_client.properties import converge, homogenize, unfinished, values
    from mdiff_client.properties.plot import draw
    from mdiff_client.properties.report import properties_json, properties_text
    from mdiff_client.store import VolumeStore
    from mdiff_core.outputs import check_new, check_writable

    # Before TauFactor is loaded: its sweeps are short, and threads that wait for each other cost more than they bring.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with events_on_stderr(json=log_json):
        store = VolumeStore.open(volumes)
        measures = _asked(store.contract, phase or [], conductivity, elastic or [])
        if not store.complete():
            raise DataError(f"{volumes}: there is no complete volume")
        if convergence:
            check_new(convergence)
            check_writable(convergence)
        work = unfinished(store, measures)
        if dry_run:
            count = len(store.complete())
            told = f"{count} volumes, {len(work)} measurements to make"
            typer.echo(dumps({"volumes": count, "measurements": len(work)}) if json else told)
            return
        with progress(len(work), "measurement", hidden=log_json) as advance:
            homogenize(store, work, advance)
        found = values(store, measures)
        drawn = []
        if convergence:
            with progress(len(measures) * len(store.complete()), "volume", hidden=log_json) as advance:
                drawn = [converge(store, measure, found, tolerance, advance) for measure in measures]
            draw(drawn, store.contract, convergence)
        if json:
            typer.echo(properties_json(found, drawn))
        else:
            tell(properties_text(found, drawn))


def _asked(contract: ModelContract, phases: list[str], conductivity: str | None, elastic: list[str]) -> list[Measure]:
    from mdiff_client.formats.elastic import parse_elastic
    from mdiff_client.properties import Conductivity, Diffusivity, Stiffness
    from mdiff_core.errors import UsageError

    names = tuple(phase.name for phase in contract.phases)
    if not names:
        raise UsageError(f"model {contract.name} gives grey levels: effective properties need phases")
    if not (phases or conductivity or elastic):
        phases = [names[-1]]
    measures: list[Measure] = [Diffusivity(name, contract.phase_label(name)) for name in dict.fromkeys(phases)]
    if conductivity:
        measures.append(Conductivity.parse(conductivity, contract))
    if elastic:
        measures.append(Stiffness(names, parse_elastic(elastic, contract)))
    return measures
