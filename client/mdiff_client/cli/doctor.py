"""Command ``doctor``."""

from __future__ import annotations

from collections.abc import Callable
from json import dumps
from typing import TYPE_CHECKING

import typer

from mdiff_client.cli.app import app
from mdiff_client.cli.gathered import gathers
from mdiff_client.cli.options import Json, once_place_of
from mdiff_client.cli.terminal import BAD, FAIR, GOOD, tell
from mdiff_core.errors import UnavailableError

if TYPE_CHECKING:
    from mdiff_client.denoisers.place import Place


@app.command()
@gathers(place=once_place_of)
def doctor(
    place: Callable[[], Place],
    json: Json = False,
) -> None:
    """Check what sampling needs: packages, models, the engine or the server, memory, disk."""
    from mdiff_client.diagnosis import diagnose

    findings = diagnose(place())
    if json:
        typer.echo(dumps([vars(finding) for finding in findings]))
    else:
        lines = []
        for finding in findings:
            lines.append(f"{finding.verdict:6}{finding.what:12}{finding.found}")
            lines += [f"{'':18}{finding.hint}"] if finding.hint else []
        tell("\n".join(lines), {"^ok": GOOD, "^note": FAIR, "^wrong": BAD})
    wrong = [finding.what for finding in findings if finding.verdict == "wrong"]
    if wrong:
        raise UnavailableError(f"not everything is there: {', '.join(wrong)}")
