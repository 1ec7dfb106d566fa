"""Effective properties: the solvers beside closed forms, and sampled volumes beside real ones; prints Markdown.

    python benchmarks/properties.py spheres
    python benchmarks/properties.py real nmc.zarr nmc-1-cal_generatedCBD_bridge.tif --phases rest=0+2,active=1
        --crop 93:157,118:182,0:300

``spheres`` measures diffusion around a simple cubic array of spheres at several resolutions, beside the expansion of
Sangani and Acrivos. ``real`` measures the diffusivity of each phase in the volumes of a store, with their own faces and
with walls, and with walls in all cubes of the same size that fit side by side into a real volume, or into a crop of it.

Needs pip install -e '.[properties]'.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from conditions import conditions

from mdiff_client.evaluation import read_labels
from mdiff_client.progress import progress
from mdiff_client.properties import Diffusivity
from mdiff_client.store import VolumeStore
from mdiff_core.command import run_app
from mdiff_core.contract import AXES
from mdiff_core.errors import DataError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Labels = npt.NDArray[np.uint8]


@app.command()
def spheres(fraction: Annotated[float, typer.Option(min=0.01, max=0.4, help="Of the spheres.")] = 0.3) -> None:
    """D_eff around insulating spheres in a simple cubic array, by resolution."""
    print(f"{_how()}\n\nOne sphere in a periodic cube, fraction {fraction:g} asked for\n")
    print("| voxels | fraction | D_eff | expansion at that fraction | deviation % | s |\n|---|---|---|---|---|---|")
    for edge in (8, 16, 24, 32, 48, 64):
        away = (np.indices((edge, edge, edge)) + 0.5) / edge - 0.5
        labels = ((away**2).sum(axis=0) < (3 * fraction / (4 * np.pi)) ** (2 / 3)).astype(np.uint8)
        began = time.perf_counter()
        found = Diffusivity("matrix", 0)(labels, "zyx")["effective_diffusivity_matrix_z"] or 0.0
        seconds = time.perf_counter() - began
        exact = _simple_cubic(labels.mean())
        away_percent = 100 * (found / exact - 1)
        print(f"| {edge}³ | {labels.mean():.4f} | {found:.4f} | {exact:.4f} | {away_percent:+.2f} | {seconds:.1f} |")


@app.command()
def real(
    volumes: Annotated[str, typer.Argument(help="Zarr store of sampled volumes.")],
    against: Annotated[Path, typer.Argument(help="Labelled real volume.")],
    phases: Annotated[str | None, typer.Option(help="Its phases and their values.")] = None,
    crop: Annotated[str | None, typer.Option(help="Part of it, as 93:157,118:182,0:300.")] = None,
) -> None:
    """D_eff of each phase along each axis, sampled and real."""
    if not against.exists():
        raise DataError(f"{against}: the real data is not there, so there is nothing to compare with")
    store = VolumeStore.open(volumes)
    whole = read_labels(against, store.contract, phases)
    part = whole[tuple(slice(*map(int, axis.split(":"))) for axis in crop.split(","))] if crop else whole
    sampled, cubes = [store.labels(index) for index in store.complete()], _cubes(part, store.shape[1])
    cases: list[tuple[str, Sequence[Labels], str]] = [
        ("sampled, own faces", sampled, store.plan["periodic"]),
        ("sampled, walls", sampled, ""),
        ("real, walls", cubes, ""),
    ]
    print(f"{_how()}\n\n{store.contract.name}: {len(sampled)} volumes; {len(cubes)} cubes of {crop or 'the whole'}\n")
    print(f"| phase | | n | fraction | {' | '.join(f'D_eff {axis}' for axis in AXES)} |\n|---|---|---|---|---|---|---|")
    with progress(len(store.contract.phases) * sum(len(of) for _, of, _ in cases), "volume") as advance:
        for label, phase in enumerate(store.contract.phases):
            measure = Diffusivity(phase.name, label)
            for name, of, periodic in cases:
                found = []
                for labels in of:
                    values = measure(labels, periodic)
                    found.append([(labels == label).mean(), *(values[key] for key in measure.headline)])
                    advance()
                table = np.array(found, np.float64)  # of None, NaN
                cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(table.mean(0), table.std(0, ddof=1), strict=True)]
                print(f"| {phase.name} | {name} | {len(of)} | {' | '.join(cells)} |")


def _simple_cubic(fraction: float) -> float:
    """A. S. Sangani and A. Acrivos, Proc. R. Soc. Lond. A 386, 263 (1983), to the order f^(10/3), at conductivity 0."""
    first, second = -1 / 2, -3 / 4
    return 1 - 3 * fraction / (-1 / first + fraction + 1.305 * second * fraction ** (10 / 3))


def _cubes(labels: Labels, edge: int) -> list[Labels]:
    """All that fit side by side."""
    corners = np.ndindex(*(n // edge for n in labels.shape))
    return [labels[tuple(slice(edge * c, edge * (c + 1)) for c in corner)] for corner in corners]


def _how() -> str:
    return conditions(
        f"taufactor {version('taufactor')}", f"torch {version('torch')}, {os.environ['OMP_NUM_THREADS']} thread"
    )


if __name__ == "__main__":
    run_app(app)
