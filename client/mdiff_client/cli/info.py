"""Command ``info``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from mdiff_client.cli.app import app
from mdiff_client.cli.gathered import gathers
from mdiff_client.cli.options import Json, complete_model, once_place_of

if TYPE_CHECKING:
    from mdiff_client.denoisers.place import Place


@app.command()
@gathers(place=once_place_of)
def info(
    model: Annotated[
        str | None, typer.Option(help="Model; none: every model there is.", autocompletion=complete_model)
    ] = None,
    *,
    place: Callable[[], Place],
    json: Json = False,
) -> None:
    """Print what a server or a repository offers: the contracts of its models."""
    from mdiff_client.report import contracts_json, contracts_text

    where = place()
    contracts = [where.contract(model)] if model else where.contracts()
    typer.echo(contracts_json(contracts) if json else contracts_text(contracts))
