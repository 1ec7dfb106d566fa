"""Command ``doctor``."""

from __future__ import annotations

from json import dumps

import typer

from mdiff_client.cli.app import app
from mdiff_client.cli.options import Json, Repository, Timeout, TlsCa, TlsCert, TlsKey, Url, place_of
from mdiff_client.cli.output import BAD, FAIR, GOOD, tell
from mdiff_core.errors import UnavailableError


@app.command()
def doctor(
    url: Url = None,
    repository: Repository = None,
    timeout: Timeout = 10.0,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    json: Json = False,
) -> None:
    """Check what sampling needs: packages, models, the engine or the server, memory, disk."""
    from mdiff_client.diagnosis import diagnose

    place = place_of(url, repository, tls_ca, tls_cert, tls_key, timeout)
    findings = diagnose(place)
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
