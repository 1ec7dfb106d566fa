"""Command ``info``."""

from __future__ import annotations

from typing import Annotated

import typer

from mdiff_client.cli.app import app
from mdiff_client.cli.options import Json, Repository, Timeout, TlsCa, TlsCert, TlsKey, Url, place_of


@app.command()
def info(
    url: Url = None,
    repository: Repository = None,
    model: Annotated[str | None, typer.Option(help="Model; none: every model there is.")] = None,
    timeout: Timeout = 30.0,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    json: Json = False,
) -> None:
    """Print what a server or a repository offers: the contracts of its models."""
    from mdiff_client.report import contracts_json, contracts_text

    place = place_of(url, repository, tls_ca, tls_cert, tls_key, timeout)
    contracts = [place.contract(model)] if model else place.contracts()
    typer.echo(contracts_json(contracts) if json else contracts_text(contracts))
