"""The papers' tables again, with their value in the next column; prints Markdown.

    python benchmarks/papers.py figure9
    python benchmarks/papers.py table4 generated/ --training micrographs/ --paper martensite --mcrpy mcrpy/bin/python \\
        --fid-weights pt_inception-2015-12-05-6726825d.pth

``figure9`` (Lee & Yun, Micro3Diff): S2 and LP error of 25 volumes of each of the four cases, of their mean curves as in
the paper, by the bundled models. Our materials are of the same kinds, but not the same samples. Where the paper took
the curves in sections (cases II and IV) and where in space, we take them along the axes, which is the same for both.

``table4`` (Düreth et al.): E_S, E_G, E_px and FID of generated images of one class against its training images, grey
levels. Both are folders of pictures, or NPY [n, H, W]. Of more than 64 generated images the first 64 count, as in the
paper; of the training images as many random crops as :mod:`mdiff_client.metrics` takes, and for E_px all crops.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from conditions import ONNXRUNTIME, conditions

from mdiff_client.denoisers.place import Place
from mdiff_client.evaluation import evaluate
from mdiff_client.generate import generate
from mdiff_client.metrics import Setting, Tools, measure, unmeasurable
from mdiff_client.progress import progress
from mdiff_client.sampling import DEFAULT, named_plan
from mdiff_core import DataError
from mdiff_core.command import run_app
from mdiff_images import read_array

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
    generated: Annotated[Path, typer.Argument(help="Generated images: a folder of pictures, or NPY.")],
    training: Annotated[Path, typer.Option(help="Training images of the class: a folder of pictures, or a file.")],
    paper: Annotated[str | None, typer.Option(help=f"The paper's class beside it: {', '.join(_TABLE_4)}.")] = None,
    mcrpy: Annotated[Path | None, typer.Option(envvar="MDIFF_MCRPY_PYTHON")] = None,
    fid_weights: Annotated[Path | None, typer.Option()] = None,
    extractor: Annotated[str, typer.Option()] = "inception-v3-compat",
) -> None:
    """E_S, E_G, E_px and FID of generated images of one class."""
    images, micrographs = _grey_images(generated), _grey_images(training)
    edge = min(n for image in [*images, *micrographs] for n in image.shape)
    levels = np.arange(256)
    setting = Setting(
        names=tuple(map(str, levels)),
        greys=tuple(levels / 255),
        edge=edge,
        max_lag=edge // 2,
        tools=Tools(tuple(micrographs), mcrpy, fid_weights, extractor),
    )
    lacking = unmeasurable(list(_METRICS), setting, lenient=True)
    found = measure([name for name in _METRICS if name not in lacking], partial(iter, images), None, setting)
    print(f"{conditions()}; {len(images)} images of {edge} pixels, {len(micrographs)} training images\n")
    print(f"| | {' | '.join(_METRICS.values())} |\n|---|{'---|' * len(_METRICS)}")
    print(f"| {generated.name} | {' | '.join(f'{found[n][0].value:.3g}' if n in found else '' for n in _METRICS)} |")
    if paper:
        print(f"| {paper}, paper | {' | '.join(f'{value:g}' for value in _TABLE_4[paper])} |")
    for name, advice in lacking.items():
        print(f"\n{_METRICS[name]} was not measured: {advice}")


def _grey_images(path: Path) -> list[np.ndarray]:
    """Grey images [H, W] of eight bits."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    arrays = [read_array(file, luminance=True) for file in files]
    for file, array in zip(files, arrays, strict=True):
        if array.dtype != np.uint8:
            raise DataError(f"{file}: holds {array.dtype}, expected grey levels of eight bits")
    return [image for array in arrays for image in (array if array.ndim == 3 else [array])]


if __name__ == "__main__":
    run_app(app)
