"""The application that the commands belong to."""

import typer

app = typer.Typer(
    help="Sample 2D images and 3D volumes of microstructure from a 2D denoiser, and look at them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # without rich --help comes in two thirds of the time
)
