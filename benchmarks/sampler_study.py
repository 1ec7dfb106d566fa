"""Error against number of evaluations for the ways to sample a volume; prints Markdown, draws a plot.

    python benchmarks/sampler_study.py run study.jsonl --model spheres64 --count 8
    python benchmarks/sampler_study.py run study.jsonl --model nmc64 --only presets --count 25
    python benchmarks/sampler_study.py table study.jsonl
    python benchmarks/sampler_study.py plot study.jsonl docs/sampler-study.png

``run`` adds a line of JSON for each point that is not in the file yet, so it can be stopped and started again. Every
point is a plan; what no plan can say, because it was found to be of no use, is put in place of the sampler's own part
for the time of a point. Errors are those of the mean curves (Micro3Diff eq. 24) against the contract's references, with
95 % bootstrap intervals over the volumes. The plot needs matplotlib: pip install -e '.[docs]'.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import numpy as np
import typer
from conditions import ONNXRUNTIME, conditions

from mdiff_client.denoisers import Denoiser
from mdiff_client.denoisers.place import Place
from mdiff_client.evaluation import ALL_AXES, Comparison, compare_volumes
from mdiff_client.phases import to_labels
from mdiff_client.progress import progress
from mdiff_client.report import comparison_cells
from mdiff_client.sampling import PLANS, SamplingPlan, sample
from mdiff_client.sampling.chain import Chain
from mdiff_client.sampling.noise import Purpose
from mdiff_client.sampling.tilt import Tilt
from mdiff_core import ModelContract
from mdiff_core.command import run_app

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Field = np.ndarray[Any, np.dtype[np.float32]]
SEED = 1


@dataclasses.dataclass(frozen=True)
class Point:
    """One way to sample.

    Attributes:
        group: what is compared with what.
        name: of the way, with its source.
        plan: of it.
        instead: puts something in place of a part of the sampler.
        at_fraction: x_0 is thresholded where that gives the phase fractions.
    """

    group: str
    name: str
    plan: SamplingPlan
    instead: Callable[[ModelContract], AbstractContextManager[object]] = lambda contract: nullcontext()
    at_fraction: bool = False


def points() -> list[Point]:
    """The presets but for the paper's own 10,000 evaluations, and what becomes of ``fast`` with one thing changed."""
    fast = PLANS["fast"]

    def of(**changes: object) -> SamplingPlan:
        return dataclasses.replace(fast, **changes)  # type: ignore[arg-type]

    ancestral: dict[str, object] = {"churn": (0.0, 1.0), "eta": 1.0}
    one_plane: dict[str, object] = {
        **ancestral,
        "planes": "turn",
        "spacing": "uniform",
        "thick_slices": 0.0,
        "tilt": False,
        "steps": 60,
    }
    passes: dict[str, object] = {**one_plane, "sampler": "ddpm", "steps": 20, "harmonize": 3}
    found = [Point("presets", name, plan) for name, plan in PLANS.items() if name != "paper"]
    found += [
        Point("one plane at a time", "respaced DDPM in turn", of(**{**one_plane, "sampler": "ddpm"})),
        Point("one plane at a time", "the same, a third of the steps, 3 harmonizing passes", of(**passes)),
        Point("one plane at a time", "the same, turning with each pass", of(**{**passes, "planes": "alternate"})),
        Point("one plane at a time", "DDIM η 0 in turn", of(**{**one_plane, "eta": 0.0})),
        Point("planes", "one plane at each pass, none remembered", of(planes="alternate")),
        Point("planes", "three planes averaged at each step", of(planes="average")),
        Point("planes", "three planes averaged, a third of the steps", of(planes="average", steps=7)),
        Point("noise", "DDIM η 0 (Song et al. 2021)", of(churn=(0.0, 1.0), eta=0.0)),
        Point("noise", "DDIM η 0.5", of(churn=(0.0, 1.0), eta=0.5)),
        Point("noise", "DDIM η 1", of(**ancestral)),
        Point("noise", "churn 2 below σ 2", of(churn=(2.0, 2.0))),
        Point("noise", "churn 8 below σ 2", of(churn=(2.0, 8.0))),
        Point("noise", "all drawn anew (consistency models, Song et al. 2023)", of(churn=(1000.0, 1000.0))),
        Point(
            "noise",
            "harmonizing in a band, 3 passes at σ 0.15 to 1.5 (Restart, Xu et al. 2023)",
            of(churn=(0.0, 1.0), eta=0.5, dense=(0.0, 1.0), steps=12, harmonize=3, band=(0.15, 1.5)),
        ),
        Point("noise", "a third of it common to all slices along z (ISCS)", of(), _correlated_noise),
        Point("solver", "DPM-Solver++(2M), lagged (Lu et al. 2022)", of(sampler="dpm-solver++")),
        Point(
            "solver",
            "DPM-Solver++(2M), averaged, a third of the steps",
            of(sampler="dpm-solver++", planes="average", steps=7),
        ),
        Point("slices", "as they are", of(thick_slices=0.0)),
        Point("slices", "the whole calibrated width", of(thick_slices=1.0)),
        Point("slices", "the whole width, falling to half at low σ", of(thick_slices=1.0, thinning=0.5)),
        Point("fraction", "tilt by the mean down to σ 0.7", of(decided=0.7)),
        Point("fraction", "tilt by the mean at every σ", of(decided=0.0)),
        Point("fraction", "constant shift to the mean", of(decided=0.0), _constant_shift),
        Point("fraction", "not held", of(tilt=False)),
        Point("fraction", "not held, thresholded at the fraction", of(tilt=False), at_fraction=True),
        Point("spacing", "uniform in t", of(spacing="uniform")),
        Point("spacing", "quadratic in t (Song et al. 2021, D.3)", of(spacing="quadratic")),
        Point("spacing", "uniform in log-SNR from σ 100 to 0.05", of(dense=(0.0, 1.0), sigmas=(100.0, 0.05))),
        Point("ends", "x̂₀ not clipped", of(clip=False)),
        Point("ends", "started from the mean, as zero terminal SNR would (Lin et al. 2023)", of(), _start_at_the_mean),
        Point("ends", "started at ᾱ = 0.0063, the paper's", of(sigmas=(12.6, fast.sigmas[1]))),
        Point("faces", "not periodic", of(periodic="")),
    ]
    found += [Point("steps", f"{steps} steps", of(steps=steps)) for steps in (8, 12, 40)]
    return found


@app.command()
def run(
    out: Annotated[Path, typer.Argument(help="File of results, added to.")],
    model: Annotated[str, typer.Option()] = "spheres64",
    only: Annotated[str | None, typer.Option(help="Group of points, or words of one's name.")] = None,
    count: Annotated[int, typer.Option(help="Volumes a point.")] = 8,
) -> None:
    """Sample the points that the file lacks."""
    done = {(row["model"], row["group"], row["name"], row["volumes"]) for row in _rows([out])}
    chosen = [p for p in points() if only is None or only == p.group or only in p.name]
    missing = [p for p in chosen if (model, p.group, p.name, count) not in done]
    with Place().denoiser(model) as denoiser:
        training = denoiser.contract.schedule.build()
        with progress(count * sum(p.plan.evaluations(training) for p in missing), "evaluation") as advance:
            for point in missing:
                row = _measured(denoiser, point, count, advance)
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")


@app.command()
def table(results: Annotated[list[Path], typer.Argument(help="Files of results.")]) -> None:
    """Print every point, model by model."""
    rows = _rows(results)
    for model in dict.fromkeys(row["model"] for row in rows):
        of_model = [row for row in rows if row["model"] == model]
        print(f"\n`{model}`; {', '.join(sorted({row['conditions'] for row in of_model}))}\n")
        print("| | | evaluations | volumes | phase | fraction | surface | S2 % | LP % | wrap |\n" + "|---" * 10 + "|")
        for row in of_model:
            start = f"| {row['group']} | {row['name']} | {row['evaluations']} | {row['volumes']} |"
            for phase, of in row["phases"].items():
                print(f"{start} {_cells(phase, of, row)} |")


@app.command()
def plot(
    results: Annotated[list[Path], typer.Argument(help="Files of results, then the PNG to write.")],
    model: Annotated[str, typer.Option()] = "spheres64",
) -> None:
    """Draw S2 and LP error of the last phase against the evaluations, on a logarithmic axis."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator

    *files, out = results
    rows = [row for row in _rows(files) if row["model"] == model]
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True, sharex=True)
    for place, key, title in zip(axes, ("s2", "lineal_path"), ("S2 error, %", "LP error, %"), strict=True):
        for number, group in enumerate(dict.fromkeys(row["group"] for row in rows)):
            of_group, colour = [row for row in rows if row["group"] == group], f"C{number - 1}"
            if group == "presets":
                colour = "black"
            last = [list(row["phases"].values())[-1] for row in of_group]
            errors = np.array([of[f"{key}_error_percent"] for of in last])
            low, high = np.array([of[f"{key}_error_interval_percent"] for of in last]).T
            evaluations = [row["evaluations"] for row in of_group]
            spread = np.maximum([errors - low, high - errors], 0)
            place.errorbar(evaluations, errors, spread, fmt="o", color=colour, label=group, ms=4, lw=0.8)
            if group == "presets":
                for row, x, y in zip(of_group, evaluations, errors, strict=True):
                    place.annotate(row["name"], (x, y), textcoords="offset points", xytext=(5, 5), fontsize=8)
        place.set_xscale("log")
        place.xaxis.set_major_locator(LogLocator(subs=(1, 2, 4, 6)))
        place.xaxis.set_major_formatter("{x:.0f}")
        place.xaxis.set_minor_formatter("")
        place.set(yscale="log", xlabel="network evaluations a volume", title=f"{model}: {title}")
        place.spines[["top", "right"]].set_visible(False)
    axes[1].legend(frameon=False, fontsize=7, loc="upper right")
    figure.savefig(out, dpi=110)


def _measured(denoiser: Denoiser, point: Point, count: int, advance: Callable[[], object]) -> dict[str, object]:
    contract, volumes, seconds = denoiser.contract, [], []
    with point.instead(contract):
        for volume in range(count):
            began = time.perf_counter()
            field = sample(denoiser, point.plan, SEED, volume, advance)
            seconds.append(time.perf_counter() - began)
            if point.at_fraction:
                fractions = [contract.references[phase.name].fraction for phase in contract.phases]
                field = Tilt.of_shares(np.clip(field, -1, 1), fractions)(field)
            volumes.append(to_labels(field, contract))
    names = [phase.name for phase in contract.phases]
    references = {name: contract.references[name] for name in names}
    compared = compare_volumes(volumes, {ALL_AXES: references}, names)[ALL_AXES]
    return {
        "model": contract.name,
        "group": point.group,
        "name": point.name,
        "evaluations": point.plan.evaluations(contract.schedule.build()),
        "volumes": count,
        "seconds": statistics.median(seconds),
        "wrap_ratio": float(np.mean([_wrap_ratio(labels) for labels in volumes])),
        "phases": {name: dataclasses.asdict(of) for name, of in compared.items()},
        "conditions": conditions(ONNXRUNTIME),
    }


def _wrap_ratio(labels: np.ndarray[Any, np.dtype[np.uint8]]) -> float:
    """Mismatch across the wrap faces over that between neighbours inside, mean over the axes."""
    ratios = []
    for axis in range(3):
        slices = np.moveaxis(labels, axis, 0)
        ratios.append((slices[0] != slices[-1]).mean() / max((slices[1:] != slices[:-1]).mean(), 1e-9))
    return float(np.mean(ratios))


def _correlated_noise(contract: ModelContract) -> AbstractContextManager[object]:
    draw = Chain._draw

    def correlated(chain: Chain, purpose: Purpose, step: int, repeat: int, slab: slice) -> Field:
        alone = draw(chain, purpose, step, repeat, slab)
        # One stream for the column through the whole volume, which no slab uses.
        together = chain._noise.normal(purpose, step, repeat, alone[:, :1].shape, part=2**20)
        return np.float32((2 / 3) ** 0.5) * alone + np.float32((1 / 3) ** 0.5) * together

    return mock.patch.object(Chain, "_draw", correlated)


def _start_at_the_mean(contract: ModelContract) -> AbstractContextManager[object]:
    start, fractions = Chain.__init__, [contract.references[phase.name].fraction for phase in contract.phases]
    mean = 2 * np.array(fractions[-contract.channels :], np.float32) - 1

    def at_the_mean(chain: Chain, *arguments: object, **options: object) -> None:
        start(chain, *arguments, **options)  # type: ignore[arg-type]
        alpha_bar = chain._schedule.alpha_bar[-1].item()
        chain.x *= np.float32((1 - alpha_bar) ** 0.5)
        chain.x += np.float32(alpha_bar**0.5) * mean[:, None, None, None]

    return mock.patch.object(Chain, "__init__", at_the_mean)


@dataclasses.dataclass(frozen=True)
class _Shift:
    by: Field

    def __call__(self, x0: Field) -> Field:
        return np.clip(x0 + self.by.reshape(-1, *[1] * (x0.ndim - 1)), -1, 1)


def _constant_shift(contract: ModelContract) -> AbstractContextManager[object]:
    def shift(x0: Field, fractions: Sequence[float], near: object = None) -> _Shift:
        wanted = 2 * np.array(fractions[-len(x0) :], np.float32) - 1
        return _Shift(wanted - x0.reshape(len(x0), -1).mean(axis=1))

    return mock.patch.multiple(Tilt, of_shares=shift, of_means=shift)


def _rows(files: Sequence[Path]) -> list[dict[str, Any]]:
    return [json.loads(line) for file in files if file.exists() for line in file.read_text().splitlines()]


def _cells(phase: str, of: dict[str, Any], row: dict[str, Any]) -> str:
    name, _, *figures = comparison_cells(phase, Comparison(**of))
    return " | ".join([name, *figures, f"{row['wrap_ratio']:.2f}"])


if __name__ == "__main__":
    run_app(app)
