"""Command ``mdiff-train``."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from mdiff_core import DataError, UsageError
from mdiff_core.command import run_app
from mdiff_core.outputs import check_new

app = typer.Typer(
    help="Train a denoiser on 2D micrographs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command("spheres")
def spheres_command(
    out: Annotated[Path, typer.Argument(help="NPY file to write.")],
    fraction: Annotated[float, typer.Option(help="Volume fraction of the spheres.")] = 0.30,
    length: Annotated[int, typer.Option(help="Length of the square rod, voxels.")] = 300,
    width: Annotated[int, typer.Option(help="Width of the rod, voxels.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the placement.")] = 0,
) -> None:
    """Make the synthetic volume of Micro3Diff's case I: spheres of diameter N(15, 4) voxels."""
    import numpy as np

    from mdiff_training.spheres import spheres

    if out.suffix != ".npy" or not out.parent.is_dir():
        raise UsageError(f"{out} is not an NPY file in an existing folder")
    check_new(out)
    volume = spheres((length, width, width), fraction=fraction, seed=seed)
    try:
        np.save(out, volume)
    except OSError as error:
        out.unlink(missing_ok=True)
        raise DataError(f"{out}: cannot be written ({error.strerror or error})") from error


@app.command("fit")
def fit_command(
    data: Annotated[list[Path], typer.Argument(help="Volumes or images: TIFF, NPY or RAW.")],
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint to write (.safetensors).")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    licence: Annotated[str, typer.Option(help="Licence of the data.")],
    source: Annotated[str, typer.Option(help="Where the data come from, for the model card.")],
    preset: Annotated[str, typer.Option(help="Preset by name, or a TOML file.")] = "compact64",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key of the preset: SECTION.KEY=VALUE.")
    ] = None,
    phases: Annotated[
        str | None, typer.Option(help="Phases and their values, as rest=0+2,active=1; none: grey levels.")
    ] = None,
    crop: Annotated[str | None, typer.Option(help="Part of the data, for example 93:157,118:182,0:300.")] = None,
    axis: Annotated[int, typer.Option(help="Axis along which a volume is sliced.")] = 0,
    planes: Annotated[
        bool, typer.Option("--planes", help="Anisotropic volume: slices along all axes, each plane a class.")
    ] = False,
    independent: Annotated[
        bool, typer.Option("--independent", help="The slices are independent images, not a volume.")
    ] = False,
    crops: Annotated[int | None, typer.Option(min=1, help="Train on this many random crops of an image.")] = None,
    tell_fractions: Annotated[
        bool, typer.Option("--tell-fractions", help="Condition on the phase fractions of each file.")
    ] = False,
    raw_shape: Annotated[str | None, typer.Option(help="Shape of a RAW file, for example 300x64x64.")] = None,
    raw_dtype: Annotated[str, typer.Option(help="Data type of a RAW file.")] = "uint8",
    voxel_size: Annotated[float, typer.Option(help="Edge of a voxel.")] = 1.0,
    voxel_unit: Annotated[str, typer.Option(help="Unit of the voxel size.")] = "voxel",
    resume: Annotated[bool, typer.Option(help="Continue from the checkpoint if there is one.")] = False,
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu",
) -> None:
    """Train a denoiser on slices of volumes, or on images."""
    from mdiff_core import ModelContract, Provenance
    from mdiff_training.config import load_config
    from mdiff_training.loop import train
    from mdiff_training.sources import Reading, read_micrographs

    config = load_config(preset, set_ or [])
    plan = config.training
    reading = Reading(phases, crop, axis, planes, independent, crops, tell_fractions, raw_shape, raw_dtype)
    found = read_micrographs(data, reading, plan.image_size, plan.seed)
    contract = ModelContract(
        name=name,
        image_size=plan.image_size,
        channels=found.channels,
        phases=found.phases,
        schedule=config.schedule,
        prediction="epsilon+variance" if config.model.learned_variance else "epsilon",
        classes=found.classes,
        null_class=len(found.classes) if found.classes and plan.condition_dropout else None,
        planes=found.planes,
        fractions=found.fractions,
        references=found.references,
        references_along=found.references_along,
        voxel_size=voxel_size,
        voxel_unit=voxel_unit,
        provenance=Provenance(source, licence, shlex.join(["mdiff-train", *sys.argv[1:]]), _git_revision()),
    )
    train(config, found, contract, checkpoint, resume=resume, device=device)


def _git_revision() -> str:
    """Revision of the checkout the package runs from; ``unknown`` where it is installed without one."""
    here = Path(__file__)
    try:
        # An environment inside some other repository is not mdiff's checkout: git must know this very file.
        _git("ls-files", "--error-unmatch", here.name, folder=here.parent)
        return _git("describe", "--always", "--dirty", "--abbrev=12", folder=here.parent)
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(*arguments: str, folder: Path) -> str:
    ran = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    return ran.stdout.strip()


def main() -> None:
    """Entry point."""
    run_app(app)
