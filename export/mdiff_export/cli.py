"""Command ``mdiff-export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdiff_core.command import run_app
from mdiff_export import OLDEST_OPSET, Backend, Precision

if TYPE_CHECKING:
    from mdiff_export.parity import Parity

app = typer.Typer(
    help="Export trained denoisers into a model repository, and build their TensorRT engines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command("repository")
def repository_command(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of mdiff-train (.safetensors).")],
    repository: Annotated[Path, typer.Argument(help="Model repository to write a version of the model into.")],
    backend: Annotated[Backend, typer.Option(help="Backend of Triton that serves it.")] = "onnxruntime",
    precision: Annotated[Precision, typer.Option(help="What the network computes in.")] = "float32",
    wire: Annotated[Precision, typer.Option(help="Images between client and server.")] = "float32",
    max_batch: Annotated[int, typer.Option(min=1, help="Largest batch the server may form.")] = 64,
    opset: Annotated[int, typer.Option(min=OLDEST_OPSET, help="Version of the ONNX operators.")] = OLDEST_OPSET,
    metrics: Annotated[
        Path | None, typer.Option(help="Metrics for the model card, from mdiff-client evaluate --json.")
    ] = None,
) -> None:
    """Export a checkpoint as ONNX, check it against torch, and add it to a model repository for Triton."""
    from mdiff_export.card import read_metrics
    from mdiff_export.model import export_model
    from mdiff_training.checkpoint import Checkpoint

    trained = Checkpoint.load(checkpoint)
    exported = export_model(
        trained,
        repository,
        backend=backend,
        precision=precision,
        wire=wire,
        max_batch=max_batch,
        opset=opset,
        metrics=read_metrics(metrics, trained.contract) if metrics else None,
    )
    size, differs = exported.graph.stat().st_size, exported.parity.difference
    typer.echo(f"{exported.graph}: {size / 1e6:.1f} MB, differs from torch by at most {differs:.1e}")
    if backend == "tensorrt":
        typer.echo(f"{exported.graph.with_name('model.plan')}: {_compared(exported.engine_parity)}")


@app.command("tensorrt")
def tensorrt_command(
    source: Annotated[Path, typer.Argument(help="Model repository to take the models' ONNX files from.")],
    target: Annotated[Path, typer.Argument(help="Model repository to write, for Triton's tensorrt backend.")],
    model: Annotated[list[str] | None, typer.Option(help="A model's name; none: all. May be given again.")] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Largest batch of the engine.")] = 256,
    precision: Annotated[Precision, typer.Option(help="What the engine computes in.")] = "float16",
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Let other TensorRT versions run it, somewhat slower.")
    ] = False,
    timing_cache: Annotated[Path | None, typer.Option(help="File that keeps the timing of kernels.")] = None,
) -> None:
    """Build the models' TensorRT engines on this machine's GPU, and compare their answers with onnxruntime's.

    Those that are there already are kept. Where no GPU is present nothing is compared, and the output says so.

    The target's parent must be writable: engines grow there, and are renamed into the target when whole.
    """
    from mdiff_core.repository import model_names
    from mdiff_export.engine_model import EngineOptions, export_engine

    options = EngineOptions(max_batch, precision == "float16", version_compatible)
    for name in model or model_names(source):
        built = export_engine(source, name, target, options, timing_cache)
        typer.echo(f"{built.folder}: {_compared(built.parity)}" if built else f"{target / name}: kept")


def _compared(parity: Parity | None) -> str:
    if parity is None:
        return "built, not compared with onnxruntime: no GPU is present"
    return f"built, differs from onnxruntime by at most {parity.difference:.1e} ({parity.dtype})"


def main() -> None:
    """Entry point."""
    run_app(app)
