"""Grains by the distance to their walls, which is not thin: sampled as grey levels, closed by a watershed.

An experiment, told in docs/results.md ("Thin walls"):

    python benchmarks/grain_distance.py make distance.npy
    python benchmarks/grain_distance.py make other.npy --seed 1
    mdiff-train fit distance.npy grains64-distance.safetensors --name grains64-distance …
    mdiff-export repository grains64-distance.safetensors repository
    python benchmarks/grain_distance.py volumes repository distance.npy other.npy

``volumes`` prints, of sampled volumes and of cubes of another solid, both put through the same watershed, how many
grains there are, how large they are, and the specific surface of walls one voxel wide.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from conditions import ONNXRUNTIME, conditions
from scipy import ndimage
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

from mdiff_client.denoisers.embedded import EmbeddedDenoiser
from mdiff_client.generate import generate
from mdiff_client.sampling import PLANS
from mdiff_core import Descriptors, ModelContract, Phase
from mdiff_core.command import run_app
from mdiff_core.outputs import check_new
from mdiff_training.data.grains import grains

FAR = 6.0  # voxels: the grey level ends there
_PAD = 12  # voxels, farther than any voxel is from a wall
_SMOOTH, _DEPTH = 1.0, 0.05  # σ, voxels, and least height of a maximum, grey levels from -1 to 1, of the watershed

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def make(out: Path, seed: int = 0) -> None:
    """Distances [300, 64, 64] to the walls of a solid, as grey levels of eight bits."""
    check_new(out)
    walls = np.pad(grains(seed=seed), _PAD, mode="wrap")
    distance = ndimage.distance_transform_edt(walls == 0)[_PAD:-_PAD, _PAD:-_PAD, _PAD:-_PAD]
    np.save(out, np.rint(255 * (distance / FAR).clip(0, 1)).astype(np.uint8))


@app.command()
def volumes(
    repository: Path,
    training: Path,
    other: Path,
    model: str = "grains64-distance",
    count: int = 4,
    seed: int = 1,
    keep: Annotated[Path | None, typer.Option(help="Folder to keep the stores in.")] = None,
) -> None:
    """Sample volumes with slices as wide as several shares of what suits the field, and close their grains."""
    denoiser = EmbeddedDenoiser(repository, model)
    denoiser.contract = _with_covariance(denoiser.contract, _grey(np.load(training)))
    print(f"{conditions(ONNXRUNTIME)}; {model}, {count} volumes, `fast`\n")
    print("| slices' width | σ of the grey levels | grains | largest, voxels | specific surface |")
    print("|---|---|---|---|---|")
    real = _grey(np.load(other))
    edge = min(real.shape)
    _row("real cubes", [real[first : first + edge] for first in range(0, len(real) - edge + 1, edge)])
    with tempfile.TemporaryDirectory() as scratch:
        for share in (0.0, 0.6, 1.0):
            plan = dataclasses.replace(PLANS["fast"], thick_slices=share, tilt=False)
            store = generate(
                denoiser, plan, (keep or Path(scratch)) / f"{share}.zarr", seed=seed, count=count, grey=True
            )
            _row(f"{share:g}", [store.read(index) for index in range(count)])


def _grey(levels: np.ndarray) -> np.ndarray:
    return levels / 127.5 - 1


def _with_covariance(contract: ModelContract, grey: np.ndarray) -> ModelContract:
    """The contract with two phases in place of grey levels, because a plan knows of a field what an S2 says."""
    field, share = grey - grey.mean(), (grey.mean() + 1) / 2
    correlation = np.array([_product(field, lag) for lag in range(contract.image_size[0] // 2 + 1)]) / np.var(grey)

    def reference(fraction: float) -> Descriptors:
        s2 = tuple((fraction**2 + fraction * (1 - fraction) * correlation).tolist())
        return Descriptors(fraction=fraction, specific_surface=0.0, s2=s2, lineal_path=s2)

    references = {"wall": reference(1 - share), "grain": reference(share)}
    return dataclasses.replace(contract, phases=(Phase("wall", 0), Phase("grain", 255)), references=references)


def _product(field: np.ndarray, lag: int) -> float:
    """Mean product of grey levels ``lag`` apart in the sections."""
    pairs = [(field.take(range(n - lag), a), field.take(range(lag, n), a)) for a, n in enumerate(field.shape) if a]
    return float(np.mean([np.mean(one * other) for one, other in pairs]))


def _row(name: str, fields: list[np.ndarray]) -> None:
    closed = [_closed(field) for field in fields]
    walls = [np.any([labels != np.roll(labels, -1, axis) for axis in range(3)], axis=0) for labels in closed]
    figures = (
        np.std(fields),
        np.mean([len(np.unique(labels)) for labels in closed]),
        np.mean([np.bincount(labels.ravel()).max() for labels in closed]),
        np.mean([Descriptors.of(wall, 1).specific_surface for wall in walls]),
    )
    print("| {} | {:.2f} | {:.0f} | {:.0f} | {:.4f} |".format(name, *figures), flush=True)


def _closed(field: np.ndarray) -> np.ndarray:
    """A label for each grain: the basin of each maximum of the distance."""
    smooth = np.pad(ndimage.gaussian_filter(field, _SMOOTH, mode="wrap"), _PAD, mode="wrap")
    # Whole numbers: h_maxima of real ones is inexact.
    maxima, _ = ndimage.label(h_maxima(np.rint(1000 * smooth).astype(np.int32), round(1000 * _DEPTH)))
    return watershed(-smooth, maxima)[_PAD:-_PAD, _PAD:-_PAD, _PAD:-_PAD]


if __name__ == "__main__":
    run_app(app)
