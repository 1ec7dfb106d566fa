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
    data: Annotated[Path, typer.Argument(help="Volume or image to take slices from: TIFF, NPY or RAW.")],
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint to write (.safetensors).")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    licence: Annotated[str, typer.Option(help="Licence of the data.")],
    source: Annotated[str, typer.Option(help="Where the data come from, for the model card.")],
    preset: Annotated[str, typer.Option(help="Preset by name, or a TOML file.")] = "compact64",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key of the preset: SECTION.KEY=VALUE.")
    ] = None,
    phase: Annotated[
        list[int] | None, typer.Option(help="Label value of the phase of interest (repeatable); none: grey levels.")
    ] = None,
    phase_names: Annotated[str, typer.Option(help="Names of the rest and of the phase of interest.")] = "matrix,phase",
    crop: Annotated[str | None, typer.Option(help="Part of the data, for example 93:157,118:182,0:300.")] = None,
    axis: Annotated[int, typer.Option(help="Axis along which a volume is sliced.")] = 0,
    raw_shape: Annotated[str | None, typer.Option(help="Shape of a RAW file, for example 300x64x64.")] = None,
    raw_dtype: Annotated[str, typer.Option(help="Data type of a RAW file.")] = "uint8",
    voxel_size: Annotated[float, typer.Option(help="Edge of a voxel.")] = 1.0,
    voxel_unit: Annotated[str, typer.Option(help="Unit of the voxel size.")] = "voxel",
    resume: Annotated[bool, typer.Option(help="Continue from the checkpoint if there is one.")] = False,
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu",
) -> None:
    """Train a denoiser on the slices of a volume, or on an image."""
    from mdiff_core import ModelContract, Provenance
    from mdiff_images import group_phases, parse_crop, parse_shape, read_array
    from mdiff_training.config import load_config
    from mdiff_training.loop import train
    from mdiff_training.slices import slices_of_grey_levels, slices_of_phases

    config = load_config(preset, set_ or [])
    tile = config.training.image_size
    array = read_array(data, raw_shape=parse_shape(raw_shape) if raw_shape else None, raw_dtype=raw_dtype)
    if crop:
        array = array[parse_crop(crop, array.shape)]
    if phase:
        rest, _, interest = phase_names.partition(",")
        slices = slices_of_phases(group_phases(array, phase, str(data)), axis, tile, (rest, interest))
    else:
        slices = slices_of_grey_levels(array, axis, tile)
    contract = ModelContract(
        name=name,
        image_size=tile,
        channels=config.model.channels,
        phases=slices.phases,
        schedule=config.schedule,
        prediction="epsilon",
        references=slices.references,
        voxel_size=voxel_size,
        voxel_unit=voxel_unit,
        provenance=Provenance(source, licence, shlex.join(["mdiff-train", *sys.argv[1:]]), _git_revision()),
    )
    train(config, slices, contract, checkpoint, resume=resume, device=device)


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
