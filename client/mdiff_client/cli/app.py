"""The application that the commands belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

app = typer.Typer(
    help="Sample 2D images and 3D volumes of microstructure from a 2D denoiser, and look at them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # without rich --help comes in two thirds of the time
    context_settings={"auto_envvar_prefix": "MDIFF"},
)


@app.callback()
def configured(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            envvar="MDIFF_CONFIG", help="TOML file of defaults for the options; none: ~/.config/mdiff/client.toml."
        ),
    ] = None,
) -> None:
    """Sample 2D images and 3D volumes of microstructure from a 2D denoiser, and look at them."""
    from mdiff_client.cli.defaults import defaults

    if isinstance(context.command, TyperGroup):
        context.default_map = defaults(context.command, config)
