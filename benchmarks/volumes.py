"""Quality and cost of sampled volumes, as docs/results.md reports them; prints Markdown.

    python benchmarks/volumes.py quality --model spheres64
    python benchmarks/volumes.py quality --model nmc64 --floor nmc-1-cal.tif --phases rest=0+2,active=1
    python benchmarks/volumes.py quality --model spheres64 --plan paper --count 1
    python benchmarks/volumes.py quality --model grains64 --thick-slices 4 --count 8
    python benchmarks/volumes.py axes nmc64-aniso.zarr
    python benchmarks/volumes.py fractions --model spheres64-fractions
    python benchmarks/volumes.py overhead --plan fast
    python benchmarks/volumes.py memory --size 256x256x256 --plan draft --steps 12
    python benchmarks/volumes.py anchors
    python benchmarks/volumes.py transport

``quality`` samples volumes with the embedded engine and evaluates them against the training data. ``axes`` asks of an
anisotropic model's volumes whether the lineal path along each axis is nearest to the real one of that axis.
``fractions`` asks a model for phase fractions, with the tilt that holds them and without. ``overhead`` compares the
time of a volume with that of its network evaluations alone, embedded and through a local Triton, and with a network
that takes no time. ``memory`` reports the peak of two sizes. ``anchors`` asks how well a volume connects to slices that
it is given. ``transport`` runs ``mdiff-client generate3d`` with the embedded engine and against a local Triton in turn,
and reports the ratio of wall times within each pair. Stores are kept under ``--keep`` where it is given.
"""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from conditions import ONNXRUNTIME, conditions

from mdiff_client.denoisers import Denoiser, Fractions, Images, Steps
from mdiff_client.denoisers.connection import Connection
from mdiff_client.denoisers.place import Place
from mdiff_client.evaluation import evaluate, read_labels
from mdiff_client.generate import generate
from mdiff_client.phases import from_labels, to_labels
from mdiff_client.progress import progress
from mdiff_client.report import evaluation_text
from mdiff_client.sampling import (
    DEFAULT,
    IMAGES,
    UNCONDITIONAL,
    Anchor,
    Condition,
    SamplingPlan,
    named_plan,
    sample,
    sample_images,
)
from mdiff_client.sampling.condition import predict
from mdiff_client.store import VolumeStore
from mdiff_core import ModelContract, error_rate, lineal_path
from mdiff_core.command import run_app
from mdiff_core.contract import AXES, PLANES
from mdiff_images import parse_shape
from mdiff_serving.server import TritonServer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def quality(
    model: Annotated[str, typer.Option()] = "spheres64",
    repository: Annotated[Path | None, typer.Option()] = None,
    plan: Annotated[str, typer.Option()] = DEFAULT,
    thick_slices: Annotated[float | None, typer.Option(help="Share of the best width, instead of the plan's.")] = None,
    count: Annotated[int, typer.Option()] = 25,
    seed: Annotated[int, typer.Option()] = 0,
    floor: Annotated[Path | None, typer.Option(help="Real volume or image for the real-vs-real floor.")] = None,
    phases: Annotated[str | None, typer.Option(help="Its phases and their values, as rest=0+2,active=1.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder to keep the store in.")] = None,
) -> None:
    """Volumes at one plan against the training reference, and what they cost above the network's own time."""
    chosen = named_plan(plan, thick_slices=thick_slices)
    with tempfile.TemporaryDirectory() as scratch, Place(repository=repository).denoiser(model) as denoiser:
        evaluations = chosen.evaluations(denoiser.contract.schedule.build())
        out = (keep or Path(scratch)) / f"{model}-{plan}.zarr"
        one_before = _seconds_of_one_evaluation(denoiser)
        with progress(count * evaluations, "evaluation") as advance:
            store = generate(denoiser, chosen, out, seed=seed, count=count, grey=False, on_evaluation=advance)
        one = (one_before + _seconds_of_one_evaluation(denoiser)) / 2
        seconds = statistics.median(store.record(index)["seconds"] for index in store.complete())
        evaluation = evaluate(store, floor=read_labels(floor, store.contract, phases) if floor else None)
    print(f"{conditions(ONNXRUNTIME)}\n\n{evaluation_text(evaluation)}")
    print(
        f"\nMedian {seconds:.1f} s a volume; {evaluations} evaluations of {one:.3f} s are {evaluations * one:.1f} s: "
        f"sampling takes {seconds / (evaluations * one):.2f} of the network's own time."
    )


@app.command()
def axes(volumes: Annotated[Path, typer.Argument(help="Store of an anisotropic model's volumes.")]) -> None:
    """Error of the lineal path along each axis against the real one along every axis."""
    store = VolumeStore.open(volumes)
    contract, labels = store.contract, [store.labels(index) for index in store.complete()]
    for label, phase in enumerate(contract.phases):
        print(f"\n| {phase.name}: LP error %, {len(labels)} volumes | real z | real y | real x |\n|---|---|---|---|")
        for axis, name in enumerate(AXES):
            curves = [lineal_path(volume == label, axis, contract.cube[0] // 2) for volume in labels]
            errors = [
                error_rate(np.mean(curves, axis=0), contract.references_along[other][phase.name].lineal_path)
                for other in AXES
            ]
            print(f"| sampled {name} | {' | '.join(f'{error:.1f}' for error in errors)} |")


@app.command()
def fractions(
    model: Annotated[str, typer.Option()] = "spheres64-fractions",
    repository: Annotated[Path | None, typer.Option()] = None,
    plan: Annotated[str, typer.Option()] = DEFAULT,
    count: Annotated[int, typer.Option()] = 4,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Fractions of the second phase asked for, and got: of images, of volumes, and of volumes without the tilt."""
    plans = {"with the tilt": named_plan(plan), "without": dataclasses.replace(named_plan(plan), tilt=False)}
    with Place(repository=repository).denoiser(model) as denoiser:
        made = f"{count} volumes and {16 * count} images of {model} for each fraction, plan {plan}"
        print(f"{conditions(ONNXRUNTIME)}\n\n{made}\n")
        print(f"| asked | images | {' | '.join(f'volumes {name}' for name in plans)} |\n|---|---|---|---|")
        for asked in (0.3, 0.4, 0.5, 0.6):
            condition = Condition(fractions=(asked,))
            images = sample_images(denoiser, IMAGES, seed, 0, 16 * count, condition)
            got = [np.mean(images > 0)]
            for chosen in plans.values():
                volumes = [sample(denoiser, chosen, seed, i, condition=condition) for i in range(count)]
                got.append(np.mean([volume > 0 for volume in volumes]))
            print(f"| {asked:.1f} | {' | '.join(f'{value:.3f}' for value in got)} |")


@app.command()
def overhead(
    model: Annotated[str, typer.Option()] = "spheres64",
    plan: Annotated[str, typer.Option()] = DEFAULT,
    rounds: Annotated[int, typer.Option(help="Volumes each way, in turn.")] = 3,
) -> None:
    """Time of a volume over that of its evaluations alone, embedded and through Triton; and the client's own time."""
    chosen = named_plan(plan)
    ratios: dict[str, list[float]] = {"embedded": [], "through Triton": []}
    alone: list[float] = []
    with _server() as server, ExitStack() as opened:
        here, there = (
            opened.enter_context(place.denoiser(model)) for place in (Place(), Place(Connection(server.grpc_address)))
        )
        evaluations = chosen.evaluations(here.contract.schedule.build())
        sample(there, dataclasses.replace(chosen, steps=2), 0)
        for volume in range(rounds):
            for name, denoiser in zip(ratios, (here, there), strict=True):
                before = _seconds_of_one_evaluation(here)
                began = time.perf_counter()
                sample(denoiser, chosen, 0, volume)
                seconds = time.perf_counter() - began
                one = (before + _seconds_of_one_evaluation(here)) / 2
                alone.append(one)
                ratios[name].append(seconds / (evaluations * one))
        own = _seconds_without_network(here, chosen) / evaluations
    print(f"{conditions(ONNXRUNTIME)}\n\n{model}, plan {plan}, {evaluations} evaluations, {rounds} volumes each way\n")
    one = statistics.median(alone)
    print("| | time over that of the evaluations alone, median | each |\n|---|---|---|")
    for name, of in ratios.items():
        print(f"| {name} | {statistics.median(of):.3f} | {', '.join(f'{ratio:.3f}' for ratio in of)} |")
    print(f"\nOne evaluation alone: {1000 * one:.0f} ms. With a network that takes no time the client needs")
    print(f"{1000 * own:.1f} ms an evaluation, {own / one:.1%} of it.")


@app.command()
def memory(
    model: Annotated[str, typer.Option()] = "spheres64",
    size: Annotated[str, typer.Option()] = "256x256x256",
    plan: Annotated[str, typer.Option()] = DEFAULT,
    steps: Annotated[int | None, typer.Option()] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder to keep the store in.")] = None,
) -> None:
    """Peak memory of ``generate3d`` at a size over that of a volume of one image's edge, in volumes of float32."""
    peaks, seconds = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for voxels in (None, size):
            out = (keep or Path(scratch)) / f"{model}-{voxels or 'cube'}.zarr"
            options = [
                "--plan",
                plan,
                *(["--steps", str(steps)] if steps else []),
                *(["--size", voxels] if voxels else []),
            ]
            command = [sys.executable, "-m", "mdiff_client", "generate3d", str(out), "--model", model, *options]
            began = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                raise SystemExit(os.waitstatus_to_exitcode(status))
            seconds.append(time.perf_counter() - began)
            peaks.append(1024 * usage.ru_maxrss)
    volume = 4 * math.prod(parse_shape(size))
    print(f"{conditions(ONNXRUNTIME)}\n\n{model}, plan {plan}{f', {steps} steps' if steps else ''}\n")
    print("| voxels | wall, s | peak, MiB |\n|---|---|---|")
    for voxels, wall, peak in zip(("one cube", size), seconds, peaks, strict=True):
        print(f"| {voxels} | {wall:.0f} | {peak / 2**20:.0f} |")
    print(
        f"\nThe difference is {(peaks[1] - peaks[0]) / volume:.2f} of the volume in float32 ({volume / 2**20:.0f} MiB)."
    )


@app.command()
def anchors(
    model: Annotated[str, typer.Option()] = "spheres64",
    real: Annotated[Path | None, typer.Option(help="Labelled volume to take slices from; none: a sampled one.")] = None,
    plan: Annotated[str, typer.Option()] = DEFAULT,
    count: Annotated[int, typer.Option(help="Volumes, each with one anchor; along z, y and x in turn.")] = 6,
) -> None:
    """Pixels of an anchor that the volume has, and its mismatch to its neighbours over that of other neighbours."""
    with Place().denoiser(model) as denoiser:
        contract, chosen = denoiser.contract, named_plan(plan)
        edge = contract.cube[0]
        source = read_labels(real, contract) if real else to_labels(sample(denoiser, chosen, 1, 0), contract)
        agreed, connected = [], []
        for volume in range(count):
            axis, index = volume % 3, (7 + 11 * volume) % edge
            known = np.take(source[:edge, :edge, :edge], index, axis)
            anchor = Anchor(axis, index, from_labels(known, contract))
            slices = np.moveaxis(to_labels(sample(denoiser, chosen, 2, volume, anchors=[anchor]), contract), axis, 0)
            mismatch = (slices != np.roll(slices, -1, axis=0)).mean(axis=(1, 2))
            beside = [(index - 1) % edge, index]
            agreed.append((slices[index] == known).mean())
            connected.append(mismatch[beside].mean() / np.delete(mismatch, [*beside, edge - 1]).mean())
    print(f"{conditions(ONNXRUNTIME)}\n\n{model}, plan {plan}, {count} volumes with an anchor each\n")
    print(f"- pixels that agree: {min(agreed):.1%} at least")
    each = ", ".join(f"{ratio:.2f}" for ratio in connected)
    print(f"- mismatch to its neighbours over that of others: {np.mean(connected):.2f} ({each})")


@app.command()
def transport(
    model: Annotated[str, typer.Option()] = "spheres64",
    pairs: Annotated[int, typer.Option()] = 5,
) -> None:
    """Wall time of ``generate3d --url`` over embedded, whole commands in pairs that alternate in order."""
    walls: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as scratch, _server() as server:
        url = server.grpc_address
        _wall(Path(scratch) / "warm-up.zarr", model, url)
        for pair in range(pairs):
            seconds = {}
            for kind in ("served", "embedded") if pair % 2 else ("embedded", "served"):
                seconds[kind] = _wall(Path(scratch) / f"{pair}-{kind}.zarr", model, url if kind == "served" else None)
            walls.append(seconds)
    ratios = [seconds["served"] / seconds["embedded"] for seconds in walls]
    print(f"{conditions(ONNXRUNTIME)}\n\n| pair | --url, s | embedded, s | ratio |\n|---|---|---|---|")
    for pair, (seconds, ratio) in enumerate(zip(walls, ratios, strict=True)):
        print(f"| {pair} | {seconds['served']:.2f} | {seconds['embedded']:.2f} | {ratio:.3f} |")
    print(f"\nMedian ratio {statistics.median(ratios):.3f} of {pairs} pairs.")


def _server() -> TritonServer:
    return TritonServer(Place().folder(), grpc_port=18001, http_port=18000, metrics_port=18002)


def _seconds_without_network(denoiser: Denoiser, plan: SamplingPlan) -> float:
    """Median time of a volume whose network answers at once."""
    times = []
    for volume in range(4):
        began = time.perf_counter()
        sample(_Instant(denoiser.contract), plan, 0, volume)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


@dataclasses.dataclass(frozen=True)
class _Instant:
    contract: ModelContract
    calls_at_once = 1

    def predict(
        self, x: Images, t: Steps, label: Steps | None = None, fractions: Fractions | None = None
    ) -> tuple[Images, None]:
        return np.float32(0.5) * x, None


def _wall(out: Path, model: str, url: str | None) -> float:
    command = [sys.executable, "-m", "mdiff_client", "generate3d", str(out), "--model", model]
    began = time.perf_counter()
    subprocess.run([*command, *(["--url", url] if url else [])], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _seconds_of_one_evaluation(denoiser: Denoiser, repeats: int = 7) -> float:
    height, width = denoiser.contract.image_size
    x = np.random.default_rng(0).standard_normal((height, denoiser.contract.channels, height, width), dtype=np.float32)
    t = np.full(height, denoiser.contract.schedule.timesteps // 2)
    label = denoiser.contract.planes.get(PLANES[0])
    predict(denoiser, UNCONDITIONAL, x, t, label)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        predict(denoiser, UNCONDITIONAL, x, t, label)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    run_app(app)
