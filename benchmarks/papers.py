"""The papers' tables again, with their value in the next column; prints Markdown.

    python benchmarks/papers.py figure9
    python benchmarks/papers.py table4 classes64 classes/training --held-out classes/held-out --repository repository \\
        --mcrpy mcrpy/bin/python --fid-weights pt_inception-2015-12-05-6726825d.pth

``figure9`` (Lee & Yun, Micro3Diff): S2 and LP error of 25 volumes of each of the four cases, of their mean curves as in
the paper, by the bundled models. Our materials are of the same kinds, but not the same samples. Where the paper took
the curves in sections (cases II and IV) and where in space, we take them along the axes, which is the same for both.

``table4`` (Düreth et al.): E_S, E_G, E_px and FID of 64 generated images of each class against its training images,
grey levels of eight bits in a folder for each class; beside them the same of crops of images held out, and the value of
the paper where the class is one of its own. The training images are as many random crops as
:mod:`mdiff_client.metrics` takes, and for E_px all crops. benchmarks/class_images.py makes such folders where the
paper's data are not at hand.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from conditions import ONNXRUNTIME, conditions

from mdiff_client.denoisers import Denoiser
from mdiff_client.denoisers.place import Place
from mdiff_client.evaluation import evaluate
from mdiff_client.generate import generate, generate_images, image_evaluations
from mdiff_client.metrics import Setting, Tools, measure
from mdiff_client.metrics.sections import random_sections
from mdiff_client.progress import progress
from mdiff_client.sampling import DEFAULT, IMAGES, Condition, ImagePlan, changed, named_plan
from mdiff_core import DataError, UsageError
from mdiff_core.command import run_app
from mdiff_images import read_array
from mdiff_training.data.folders import images_in

# Case, phase whose curves the paper draws, and its S2 and LP error, % (figure 9, sections 4.1 to 4.4).
_FIGURE_9 = {
    "spheres64": ("I, spherical inclusions", "sphere", 1.88, 4.56),
    "grains64": ("II, polycrystal grains", "boundary", 6.43, 5.88),
    "nmc64": ("III, NMC cathode", "active", 4.56, 1.26),
    "carbonate64": ("IV, carbonate", "pore", 9.21, 6.31),
}
# Medians of E_S, E_G and E_px, %, and the FID (table 4).
_TABLE_4 = {
    "biological": (5e-5, 0.5, 1.4, 181),
    "coated surfaces": (2e-4, 0.7, 1.1, 144),
    "nanowires": (9e-4, 4.6, 4.1, 188),
    "powder": (6e-4, 1.0, 4.8, 107),
    "particles": (6e-6, 0.9, 1.9, 203),
    "porous sponge": (9e-5, 4.1, 5.4, 172),
    "martensite": (2e-3, 5.9, 7.6, 203),
    "pearlite": (4e-4, 4.3, 5.3, 197),
    "pearlite + spheroidite": (2e-3, 6.2, 7.3, 216),
    "pearlite + widmanstätten": (2e-4, 2.7, 4.2, 296),
    "spheroidite": (3e-5, 1.4, 2.8, 205),
    "spheroidite + widmanstätten": (2e-4, 2.7, 4.2, 231),
    "network": (4e-5, 1.3, 2.3, 106),
}
# Grey levels of eight bits, as the metrics take phases.
_LEVELS = tuple(map(str, range(256)))
_GREYS = tuple(level / 255 for level in range(256))
_METRICS = {"three-point": "E_S %", "gram": "E_G %", "pixels": "E_px %", "fid": "FID"}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def figure9(
    repository: Annotated[Path | None, typer.Option()] = None,
    plan: Annotated[str, typer.Option()] = DEFAULT,
    count: Annotated[int, typer.Option(help="Volumes of each case.")] = 25,
    seed: Annotated[int, typer.Option()] = 0,
    keep: Annotated[Path | None, typer.Option(help="Folder to keep the stores in.")] = None,
) -> None:
    """S2 and LP error of the four cases of Micro3Diff."""
    print(f"{conditions(ONNXRUNTIME)}; {count} volumes each, plan {plan}\n")
    print("| case | phase | S2 error % | paper | LP error % | paper |\n|---|---|---|---|---|---|")
    for model, (case, phase, s2, lineal_path) in _FIGURE_9.items():
        with tempfile.TemporaryDirectory() as scratch, Place(repository=repository).denoiser(model) as denoiser:
            chosen = named_plan(plan)
            evaluations = count * chosen.evaluations(denoiser.contract.schedule.build())
            out = (keep or Path(scratch)) / f"{model}-{plan}.zarr"
            with progress(evaluations, "evaluation") as advance:
                store = generate(denoiser, chosen, out, seed=seed, count=count, grey=False, on_evaluation=advance)
            phases = evaluate(store).phases
        found = phases[phase]
        ours = (
            f"{value:.2f} [{low:.2f}, {high:.2f}]"
            for value, (low, high) in (
                (found.s2_error_percent, found.s2_error_interval_percent),
                (found.lineal_path_error_percent, found.lineal_path_error_interval_percent),
            )
        )
        print(f"| {case} | {phase} | {next(ours)} | {s2} | {next(ours)} | {lineal_path} |", flush=True)


@app.command()
def table4(
    model: Annotated[str, typer.Argument(help="Model of classes.")],
    training: Annotated[Path, typer.Argument(help="What it was trained on: a folder of images for each class.")],
    held_out: Annotated[Path | None, typer.Option(help="The same of images that it was not trained on.")] = None,
    repository: Annotated[Path | None, typer.Option()] = None,
    sampler: Annotated[str | None, typer.Option()] = None,
    steps: Annotated[int | None, typer.Option()] = None,
    count: Annotated[int, typer.Option(min=2, max=64, help="Images of each class.")] = 64,
    seed: Annotated[int, typer.Option()] = 0,
    keep: Annotated[Path | None, typer.Option(help="Folder to keep the images in.")] = None,
    mcrpy: Annotated[Path | None, typer.Option(envvar="MDIFF_MCRPY_PYTHON")] = None,
    fid_weights: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """E_S, E_G, E_px and FID of generated images of each class."""
    plan = changed(IMAGES, sampler=sampler, steps=steps)
    print(f"{conditions(ONNXRUNTIME)}; {model}, {count} images a class, {plan.sampler}, {plan.steps} steps\n")
    print(f"| class | | {' | '.join(_METRICS.values())} |\n|---|---|{'---|' * len(_METRICS)}")
    lacking: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch, Place(repository=repository).denoiser(model) as denoiser:
        if not denoiser.contract.classes:
            raise UsageError(f"model {model} has no classes")
        for name in denoiser.contract.classes:
            generated = _generated(denoiser, plan, name, count, seed, (keep or Path(scratch)) / name)
            tools = Tools(tuple(_grey_images(training / name)), mcrpy, fid_weights)
            setting = Setting(_LEVELS, _GREYS, edge=len(generated[0]), max_lag=len(generated[0]) // 2, tools=tools)
            pieces = partial(_crops, _grey_images(held_out / name), setting.edge) if held_out else None
            found, lacks = measure(list(_METRICS), partial(iter, generated), pieces, setting, lenient=True)
            lacking.update({metric: f"{name}: {advice}" for metric, advice in lacks.items()})
            values = {metric: rows[0].value for metric, rows in found.items()}
            floors = {metric: rows[0].floor for metric, rows in found.items() if rows[0].floor is not None}
            _row(name, "generated", values)
            if floors:
                _row("", "held out", floors)
            if name in _TABLE_4:
                _row("", "paper", dict(zip(_METRICS, _TABLE_4[name], strict=True)))
    for metric, advice in lacking.items():
        print(f"\n{_METRICS[metric]} was not measured: {advice}")


def _generated(denoiser: Denoiser, plan: ImagePlan, name: str, count: int, seed: int, out: Path) -> list[np.ndarray]:
    """Images of one class, which are left in a folder."""
    contract = denoiser.contract
    out.parent.mkdir(parents=True, exist_ok=True)
    with progress(image_evaluations(contract, plan, count), "evaluation") as advance:
        generate_images(
            denoiser,
            plan,
            out,
            seed=seed,
            count=count,
            grey=not contract.phases,
            condition=Condition.asked(contract, name, [], volume=False),
            on_evaluation=advance,
        )
    return _grey_images(out)


def _crops(images: list[np.ndarray], edge: int, count: int) -> Iterator[np.ndarray]:
    return iter(random_sections(images, count, edge))


def _row(name: str, what: str, values: Mapping[str, float]) -> None:
    shown = (f"{values[metric]:.3g}" if metric in values else "" for metric in _METRICS)
    print(f"| {name} | {what} | {' | '.join(shown)} |", flush=True)


def _grey_images(folder: Path) -> list[np.ndarray]:
    """Grey images [H, W] of eight bits."""
    arrays = {file: read_array(file, luminance=True) for file in images_in(folder)}
    if not arrays:
        raise DataError(f"{folder}: there is no image")
    for file, array in arrays.items():
        if array.dtype != np.uint8 or array.ndim != 2:
            raise DataError(f"{file}: holds {array.dtype} {array.shape}, expected an image of 8-bit grey levels")
    return list(arrays.values())


if __name__ == "__main__":
    run_app(app)
