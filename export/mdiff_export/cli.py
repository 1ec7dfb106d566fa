"""Command ``mdiff-export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdiff_core.command import run_app
from mdiff_export import OLDEST_OPSET

app = typer.Typer(
    help="Export a trained denoiser into a model repository.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def export_command(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of mdiff-train (.safetensors).")],
    repository: Annotated[Path, typer.Argument(help="Model repository to write the model into.")],
    max_batch: Annotated[int, typer.Option(min=1, help="Largest batch the server may form.")] = 64,
    opset: Annotated[int, typer.Option(min=OLDEST_OPSET, help="Version of the ONNX operators.")] = OLDEST_OPSET,
    metrics: Annotated[
        Path | None, typer.Option(help="Metrics for the model card, from mdiff-client evaluate --json.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a model of the same name.")] = False,
) -> None:
    """Export a checkpoint as ONNX, check it against torch, and write it into a model repository for Triton."""
    from mdiff_export.card import read_metrics
    from mdiff_export.model import export_model
    from mdiff_training.checkpoint import Checkpoint

    trained = Checkpoint.load(checkpoint)
    measured = read_metrics(metrics, trained.contract) if metrics else None
    exported = export_model(trained, repository, max_batch=max_batch, opset=opset, metrics=measured, force=force)
    size = (exported.folder / "1" / "model.onnx").stat().st_size
    typer.echo(
        f"{exported.folder}: {size / 1e6:.1f} MB, differs from torch by at most {exported.parity.difference:.1e}"
    )


def main() -> None:
    """Entry point."""
    run_app(app)
