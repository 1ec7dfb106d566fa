"""MCRpy reconstructing a volume from one real slice beside one of ours, in one run on one machine; prints Markdown.

    python benchmarks/peers.py --real spheres.npy --model spheres64 --mcrpy mcrpy/bin/python --minutes 25
    python benchmarks/peers.py --real nmc-1-cal.tif --phases rest=0+2,active=1 --model nmc64 --mcrpy …

MCRpy gets the slice in the middle of the real volume, three-point correlations on several grids, L-BFGS-B from the
coarsest grid to the finest, and no time beyond ``--minutes``, which is meant to end on the finest; what it has then is
compared, its voxels rounded. Ours is one volume of the embedded engine. Both are
compared with the model's training data. MCRpy saw one slice and optimizes anew for each volume; our network was trained
on that data before, which is not in the time. How MCRpy's environment is made stands in
``client/mdiff_client/metrics/mcrpy.py``.
"""

from __future__ import annotations

import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from conditions import ONNXRUNTIME, conditions

from mdiff_client.denoisers.place import Place
from mdiff_client.evaluation import read_labels
from mdiff_client.metrics.mcrpy import run_program
from mdiff_client.phases import to_labels
from mdiff_client.report import side_by_side_text
from mdiff_client.sampling import DEFAULT, named_plan, sample
from mdiff_client.side_by_side import Material, Source, side_by_side
from mdiff_core.command import run_app

_PROGRAM = """
import json, signal, sys, time
import numpy as np
import mcrpy

folder, limit, iterations, seconds = sys.argv[1], *map(int, sys.argv[2:])
section = np.load(folder + "/section.npy")
settings = dict(
    descriptor_types=["Correlations"], limit_to=limit, use_multiphase=False, target_folder=folder)
np.random.seed(0)
wanted = mcrpy.characterize(
    mcrpy.Microstructure(section, use_multiphase=False, trainable=False), mcrpy.CharacterizationSettings(**settings))


def stop(*_):
    raise KeyboardInterrupt  # MCRpy ends with what it has


signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, seconds)
began = time.perf_counter()
history, found = mcrpy.reconstruct(
    wanted, (len(section),) * 3,
    mcrpy.ReconstructionSettings(max_iter=iterations, use_multigrid_reconstruction=True, **settings))
took = time.perf_counter() - began
signal.setitimer(signal.ITIMER_REAL, 0)
losses = [float(loss) for _, loss in history["line_data"][:-1]]
np.save(folder + "/volume.npy", np.rint(found.x.numpy()[0, ..., 0]).astype(np.uint8))
with open(folder + "/told.json", "w") as file:
    json.dump({"seconds": took, "evaluations": len(losses)}, file)
"""


def main(
    real: Annotated[Path, typer.Option(help="Labelled real volume or image of two phases.")],
    mcrpy: Annotated[Path, typer.Option(envvar="MDIFF_MCRPY_PYTHON", help="Python of an environment with MCRpy.")],
    phases: Annotated[str | None, typer.Option(help="Its phases and their values, as rest=0+2,active=1.")] = None,
    model: Annotated[str, typer.Option()] = "spheres64",
    repository: Annotated[Path | None, typer.Option()] = None,
    plan: Annotated[str, typer.Option()] = DEFAULT,
    minutes: Annotated[int, typer.Option(min=1, help="The longest that MCRpy may take.")] = 30,
    iterations: Annotated[int, typer.Option(help="Of MCRpy on each grid; its own default is 500.")] = 100,
    limit: Annotated[int, typer.Option(help="Longest lag of MCRpy's correlations, voxels.")] = 8,
    keep: Annotated[Path | None, typer.Option(help="Folder to keep both volumes in, as NPY.")] = None,
) -> None:
    """Time and S2 and LP error of one volume of each."""
    with Place(repository=repository).denoiser(model) as denoiser:
        contract = denoiser.contract
        edge = contract.image_size[0]
        labels = read_labels(real, contract, phases)
        image = labels[len(labels) // 2] if labels.ndim == 3 else labels
        top, left = ((n - edge) // 2 for n in image.shape)
        began = time.perf_counter()
        ours = to_labels(sample(denoiser, named_plan(plan), seed=0), contract)
        seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "section.npy", image[top : top + edge, left : left + edge].astype(float))
        run_program(mcrpy, _PROGRAM, folder, str(limit), str(iterations), str(60 * minutes))
        theirs = np.load(Path(folder) / "volume.npy")
        told = json.loads((Path(folder) / "told.json").read_text())
    found = {"MCRpy": theirs, f"mdiff, plan {plan}": ours}
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        for name, volume in (("mcrpy", theirs), ("mdiff", ours)):
            np.save(keep / f"{name}.npy", volume)
    sources = [Source(name, partial(iter, [volume])) for name, volume in found.items()]
    compared = side_by_side(sources, Material.of_model(contract), ["radial", "chords", "percolation"])
    print(f"{conditions(ONNXRUNTIME)}\n\n{side_by_side_text(compared)}\n")
    print(
        f"MCRpy: {told['seconds']:.0f} s for {told['evaluations']} evaluations of its loss on all grids "
        f"(limit {limit}, at most {iterations} iterations on each). mdiff: {seconds:.1f} s."
    )


if __name__ == "__main__":
    run_app(lambda: typer.run(main))
