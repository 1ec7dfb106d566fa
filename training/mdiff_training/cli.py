"""Command ``mdiff-train``."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdiff_core import DataError, UsageError
from mdiff_core.command import run_app
from mdiff_core.outputs import check_new, check_writable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

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
    overlapping: Annotated[
        bool, typer.Option("--overlapping", help="Spheres may overlap: for fractions above 0.38.")
    ] = False,
    length: Annotated[int, typer.Option(help="Length of the square rod, voxels.")] = 300,
    width: Annotated[int, typer.Option(help="Width of the rod, voxels.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the placement.")] = 0,
) -> None:
    """Make the synthetic volume of Micro3Diff's case I: spheres of diameter N(15, 4) voxels."""
    from mdiff_training.data.spheres import overlapping_spheres, spheres

    place = overlapping_spheres if overlapping else spheres
    _save_new(out, lambda: place((length, width, width), fraction=fraction, seed=seed))


@app.command("grains")
def grains_command(
    out: Annotated[Path, typer.Argument(help="NPY file to write.")],
    length: Annotated[int, typer.Option(min=1, help="Length of the square rod, voxels.")] = 300,
    width: Annotated[int, typer.Option(min=1, help="Width of the rod, voxels.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the placement.")] = 0,
) -> None:
    """Make a polycrystal after Micro3Diff's case II: grains of 10, 14 and 18 voxels in equal parts, boundaries 1."""
    from mdiff_training.data.grains import grains

    _save_new(out, lambda: grains((length, width, width), seed=seed))


@app.command("fit")
def fit_command(
    data: Annotated[
        list[Path], typer.Argument(help="Volumes or images (TIFF, NPY, RAW, PNG, JPEG), or folders of images by class.")
    ],
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
    axis: Annotated[int | None, typer.Option(help="Axis along which volumes are sliced; none: the first.")] = None,
    planes: Annotated[
        bool,
        typer.Option("--planes", help="Anisotropic: each plane a class, from one volume or images of xy, xz and yz."),
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
    classes: Annotated[str | None, typer.Option(help="Classes to take from folders: a,b,c; none: all.")] = None,
    catalogue: Annotated[
        Path | None, typer.Option(help="UHCS SQLite catalogue, for a folder of images not sorted by class.")
    ] = None,
    per_class: Annotated[int | None, typer.Option(min=1, help="Take at most this many images of a class.")] = None,
    subregions: Annotated[
        str | None, typer.Option(help="Cut squares out of a folder's images and resize them to the tile: NUMBER:SIDE.")
    ] = None,
    voxel_size: Annotated[float, typer.Option(help="Edge of a voxel.")] = 1.0,
    voxel_unit: Annotated[str, typer.Option(help="Unit of the voxel size.")] = "voxel",
    resume: Annotated[bool, typer.Option(help="Continue from the checkpoint if there is one.")] = False,
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu",
    sample_every: Annotated[
        int, typer.Option(min=0, help="Steps between pictures and S2 and LP errors of 64 samples; 0: none.")
    ] = 1000,
    log: Annotated[Path | None, typer.Option(help="CSV log of the run; else beside the checkpoint.")] = None,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard: pip install tensorboard.")] = None,
) -> None:
    """Train a denoiser on slices of volumes, or on images.

    SIGTERM and Ctrl-C save the checkpoint first; then the exit code is 143 or 130. Several GPUs: torchrun
    --nproc-per-node 4 --no-python mdiff-train fit ... --device cuda.
    """
    from mdiff_core import ModelContract, Provenance
    from mdiff_training.config import load_config
    from mdiff_training.data.rve import rve_warning
    from mdiff_training.data.sources import Reading, read_micrographs
    from mdiff_training.loop import train
    from mdiff_training.stopping import Stopped

    _check_checkpoint(checkpoint)
    config = load_config(preset, set_ or [])
    plan = config.training
    if tell_fractions and not plan.condition_dropout:
        raise UsageError("--tell-fractions needs training.condition_dropout above 0, to learn what not told is")
    reading = Reading(
        phases=phases,
        crop=crop,
        axis=axis,
        planes=planes,
        independent=independent,
        crops=crops,
        tell_fractions=tell_fractions,
        raw_shape=raw_shape,
        raw_dtype=raw_dtype,
        classes=classes,
        catalogue=catalogue,
        per_class=per_class,
        subregions=subregions,
    )
    found = read_micrographs(data, reading, plan.image_size, plan.seed)
    if warning := rve_warning(found, plan.image_size):
        typer.echo(f"warning: {warning}", err=True)
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
        references_told=found.references_told,
        voxel_size=voxel_size,
        voxel_unit=voxel_unit,
        provenance=Provenance(source, licence, shlex.join(["mdiff-train", *sys.argv[1:]]), _git_revision()),
    )
    try:
        train(
            config,
            found,
            contract,
            checkpoint,
            resume=resume,
            sample_every=sample_every,
            log=log or checkpoint.with_suffix(".csv"),
            tensorboard=tensorboard,
            device=device,
        )
    except Stopped as stopped:
        if message := str(stopped):
            typer.echo(message, err=True)
        raise typer.Exit(stopped.exit_code) from None


@app.command("import")
def import_command(
    model: Annotated[Path, typer.Argument(help="State dict of improved-diffusion or guided-diffusion (.pt).")],
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint to write (.safetensors).")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    image_size: Annotated[int, typer.Option(min=1, help="Edge of the model's images, pixels.")],
    licence: Annotated[str, typer.Option(help="Licence of the weights.")],
    source: Annotated[str, typer.Option(help="Where the weights and their data come from, for the model card.")],
    classes: Annotated[str, typer.Option(help="Names of the classes in the order of their labels: a,b,c.")] = "",
    timesteps: Annotated[int, typer.Option(min=1, help="Number of diffusion steps.")] = 1000,
    schedule: Annotated[str, typer.Option(help="Noise schedule: linear or cosine.")] = "linear",
    heads: Annotated[int, typer.Option(min=1, help="Attention heads of every level.")] = 4,
    head_channels: Annotated[int, typer.Option(min=0, help="Channels of one attention head, in place of --heads.")] = 0,
    new_attention_order: Annotated[
        bool, typer.Option("--new-attention-order", help="As guided-diffusion's use_new_attention_order.")
    ] = False,
    rescale_timesteps: Annotated[
        bool, typer.Option(help="The network was told 1000 t/T, as improved-diffusion does, not t.")
    ] = True,
) -> None:
    """Make a checkpoint of a U-Net that was trained with improved-diffusion or guided-diffusion."""
    from mdiff_core import Provenance
    from mdiff_training.imported import Conventions, import_model, improved_schedule

    _check_checkpoint(checkpoint)
    check_new(checkpoint)
    check_writable(checkpoint)
    import_model(
        model,
        name=name,
        image_size=image_size,
        schedule=improved_schedule(schedule, timesteps),
        provenance=Provenance(source, licence, shlex.join(["mdiff-train", *sys.argv[1:]]), _git_revision()),
        classes=[part.strip() for part in classes.split(",")] if classes else [],
        conventions=Conventions(heads, head_channels, new_attention_order, rescale_timesteps),
    ).save(checkpoint)


def _save_new(out: Path, make: Callable[[], npt.NDArray[np.uint8]]) -> None:
    """Write what ``make`` gives to a new NPY file, whose name is checked before it is made."""
    import numpy as np

    if out.suffix != ".npy" or not out.parent.is_dir():
        raise UsageError(f"{out} is not an NPY file in an existing folder")
    check_new(out)
    array = make()
    try:
        np.save(out, array)
    except OSError as error:
        out.unlink(missing_ok=True)
        raise DataError(f"{out}: cannot be written ({error.strerror or error})") from error


def _check_checkpoint(path: Path) -> None:
    # The log and the pictures are named after it.
    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: a checkpoint is a .safetensors file")


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
