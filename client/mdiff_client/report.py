"""What the commands print: for people, and as JSON for machines."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from mdiff_client.denoisers.timed import Latency
from mdiff_client.evaluation import Comparison, Evaluation
from mdiff_client.generate import image_evaluations
from mdiff_client.markdown import table
from mdiff_client.metrics import Measured
from mdiff_client.sampling import IMAGES_AT_ONCE, Condition, ImagePlan, SamplingPlan
from mdiff_client.sampling.plan import described
from mdiff_client.side_by_side import SideBySide
from mdiff_core import ModelContract


def contracts_text(contracts: Sequence[ModelContract]) -> str:
    """One paragraph for each model."""
    return "\n\n".join(_contract_text(contract) for contract in contracts)


def contracts_json(contracts: Sequence[ModelContract]) -> str:
    """A JSON object of contracts by model name."""
    return json.dumps({contract.name: json.loads(contract.to_json()) for contract in contracts})


def costs(
    contract: ModelContract, plan: SamplingPlan, count: int, condition: Condition, *, grey: bool
) -> dict[str, int | str]:
    """What a run of volumes would cost, before it starts."""
    size = plan.shape(contract)
    evaluations, images = plan.evaluations(contract.schedule.build()), plan.images(contract) * condition.branches
    voxels = math.prod(size)
    return {
        "model": contract.name,
        "volumes": count,
        "volume_size": "x".join(map(str, size)),
        "periodic": plan.periodic or "none",
        "voxels_per_volume": voxels,
        "evaluations_per_volume": evaluations,
        "images_per_evaluation": round(images / evaluations),
        "images_per_volume": images,
        "bytes_before_compression": count * voxels * (4 if grey else 1),
        "plan": described(dataclasses.asdict(plan)),
        "condition": condition.described(contract) or "none",
    }


def image_costs(
    contract: ModelContract, plan: ImagePlan, count: int, condition: Condition, *, grey: bool
) -> dict[str, int | str]:
    """What a run of images would cost, before it starts."""
    pixels = math.prod(contract.image_size)
    return {
        "model": contract.name,
        "images": count,
        "pixels_per_image": pixels,
        "evaluations": image_evaluations(contract, plan, count),
        "images_per_evaluation": min(count, IMAGES_AT_ONCE) * condition.branches,
        "bytes_before_compression": count * pixels * (4 if grey else 1),
        "plan": described(dataclasses.asdict(plan)),
        "condition": condition.described(contract) or "none",
    }


def costs_text(costs: Mapping[str, int | str]) -> str:
    """One line for each item of :func:`costs`."""
    return "\n".join(f"{name.replace('_', ' '):26}{value}" for name, value in costs.items())


def written_text(out: str, shape: Sequence[int], made: int, seconds: float) -> str:
    """Where volumes [n, Z, Y, X] are, how long it took to make ``made`` of them, and how to look at them: one line."""
    picture = f"{PurePath(out).stem}.png"
    size, some = "×".join(map(str, shape[1:])), "" if made == shape[0] else f", {made} of them made"
    look = shlex.join(["mdiff-client", "preview", out, picture])
    time = f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}"
    return (
        f"{out}: {_counted(shape[0], 'volume')} of {size} voxels{some} in {time} s; look at "
        f"{'it' if shape[0] == 1 else 'them'} with: {look}"
    )


def latency_text(latency: Latency) -> str:
    """One line."""
    quantiles = {
        "median": latency.median_seconds,
        "p95": latency.p95_seconds,
        "p99": latency.p99_seconds,
        "longest": latency.longest_seconds,
    }
    return f"calls: {latency.count}; " + ", ".join(f"{name} {seconds:.3g} s" for name, seconds in quantiles.items())


def latency_json(latency: Latency | None) -> dict[str, object]:
    """The latency as an entry of another object; empty where no calls were made."""
    return {"calls": dataclasses.asdict(latency)} if latency else {}


def evaluation_json(
    evaluation: Evaluation, condition: Condition, asked_for: str, latency: Latency | None = None
) -> str:
    """The evaluation as one JSON object, the format that ``mdiff-export repository --metrics`` takes.

    ``asked_for``: the condition as :meth:`Condition.described` tells it; ``latency``: of the run that made the volumes.
    """
    asked = {"condition": dataclasses.asdict(condition), "asked_for": asked_for or "nothing in particular"}
    return json.dumps({**dataclasses.asdict(evaluation), **asked, **latency_json(latency)})


def evaluation_text(evaluation: Evaluation, asked_for: str = "", latency: Latency | None = None) -> str:
    """A Markdown table with a row for each phase, for each along each axis, and for each of the real-vs-real floor.

    Below it one of the other metrics, where any were measured, and what the others lack.

    ``asked_for``: the condition as :meth:`Condition.described` tells it; ``latency``: of the run that made the volumes.
    """
    floor = {f"{name}, real crops": comparison for name, comparison in evaluation.floor.items()}
    title = f"{_counted(evaluation.volumes, 'volume')} of {evaluation.model}, {evaluation.evaluations} evaluations each"
    along = {
        f"{name}, along {axis}": comparison
        for axis, of_axis in evaluation.along.items()
        for name, comparison in of_axis.items()
    }
    text = _text(title, evaluation.plan_name, asked_for, {**evaluation.phases, **along, **floor}, latency)
    more = [metrics_text(evaluation.metrics)] if evaluation.metrics else []
    lacking = [f"{name} was not measured: {advice}" for name, advice in evaluation.unmeasured.items()]
    return "\n\n".join([text, *more, *(["\n".join(lacking)] if lacking else [])])


def metrics_text(metrics: Mapping[str, Sequence[Measured]]) -> str:
    """A Markdown table with a row for each quantity, and beside it that of real crops, where there were any."""
    rows = [["metric", "of", "samples", "value", "real crops"]]
    for measured in metrics.values():
        for one in measured:
            real = "" if one.floor is None else _figure(one.floor, one.floor_interval)
            rows.append([one.title, one.of, str(one.samples), _figure(one.value, one.interval), real])
    floored = any(row[-1] for row in rows[1:])
    return table(rows if floored else [row[:-1] for row in rows])


def side_by_side_json(compared: SideBySide) -> str:
    """All of it as one JSON object."""
    return json.dumps(dataclasses.asdict(compared))


def side_by_side_text(compared: SideBySide) -> str:
    """Markdown tables: S2 and LP with a row for each phase of each source, other metrics with a column each."""
    comparisons = {
        f"{name}: {phase}": comparison
        for phase in compared.references
        for name, entry in compared.sources.items()
        for comparison in [entry.phases[phase]]
    }
    counts = ", ".join(f"{_counted(entry.volumes, 'volume')} of {name}" for name, entry in compared.sources.items())
    rows = [["source: phase", *_COLUMNS[1:]], *(comparison_cells(*one) for one in comparisons.items())]
    parts = [f"Compared with {compared.reference}: {counts}", table(rows), _EXPLAINED]
    figures = {
        name: {(one.title, one.of): _figure(one.value, one.interval) for of in entry.metrics.values() for one in of}
        for name, entry in compared.sources.items()
    }
    # Of one source a row may be missing: a phase without chords, one volume without pairs.
    quantities = list(dict.fromkeys(key for of_source in figures.values() for key in of_source))
    if quantities:
        head = ["metric", "of", *figures]
        parts.append(table([head, *([*key, *(of.get(key, "") for of in figures.values())] for key in quantities)]))
    parts += [f"{name} was not measured: {advice}" for name, advice in compared.unmeasured.items()]
    return "\n\n".join(parts)


def images_json(
    contract: ModelContract,
    plan: ImagePlan,
    count: int,
    condition: Condition,
    phases: Mapping[str, Comparison],
    latency: Latency,
) -> str:
    """What :func:`images_text` tells, as one JSON object."""
    return json.dumps(
        {
            "model": contract.name,
            "images": count,
            "evaluations": image_evaluations(contract, plan, count),
            "plan": described(dataclasses.asdict(plan)),
            "condition": dataclasses.asdict(condition),
            "phases": {name: dataclasses.asdict(comparison) for name, comparison in phases.items()},
            **latency_json(latency),
        }
    )


def images_text(
    contract: ModelContract,
    plan: ImagePlan,
    count: int,
    condition: Condition,
    phases: Mapping[str, Comparison],
    latency: Latency,
) -> str:
    """Sampled images, and a Markdown table of how far their phases are from those of the training images."""
    evaluations = _counted(image_evaluations(contract, plan, count), "evaluation")
    title = f"{_counted(count, 'image')} of {contract.name}, {evaluations}"
    return _text(title, described(dataclasses.asdict(plan)), condition.described(contract), phases, latency)


_EXPLAINED = "In parentheses the reference, in brackets the 95 % interval over the samples."
_COLUMNS = ["phase", "samples", "fraction", "specific surface", "S2 error %", "LP error %"]


def _text(title: str, plan: str, condition: str, comparisons: Mapping[str, Comparison], latency: Latency | None) -> str:
    head = [title, f"plan: {plan}", *([f"asked for: {condition}"] if condition else [])]
    head += [latency_text(latency)] if latency else []
    if not comparisons:
        return "\n".join(head)
    rows = [_COLUMNS, *(comparison_cells(name, comparison) for name, comparison in comparisons.items())]
    return "\n".join([*head, "", table(rows), "", _EXPLAINED])


def _figure(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.3g}" if interval is None else f"{value:.3g} [{interval[0]:.3g}, {interval[1]:.3g}]"


def comparison_cells(name: str, of: Comparison) -> list[str]:
    """A comparison in the cells of a table: name, samples, fraction, specific surface, S2 and LP error."""

    def error(value: float, interval: tuple[float, float]) -> str:
        # One sample tells nothing about the scatter of its kind.
        return f"{value:.1f}" if of.samples == 1 else f"{value:.1f} [{interval[0]:.1f}, {interval[1]:.1f}]"

    return [
        name,
        str(of.samples),
        f"{of.fraction:.3f} ({of.fraction_reference:.3f})",
        f"{of.specific_surface:.4f} ({of.specific_surface_reference:.4f})",
        error(of.s2_error_percent, of.s2_error_interval_percent),
        error(of.lineal_path_error_percent, of.lineal_path_error_interval_percent),
    ]


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _contract_text(contract: ModelContract) -> str:
    height, width = contract.image_size
    schedule, provenance = contract.schedule, contract.provenance
    phases = ", ".join(
        f"{phase.name} ({contract.references[phase.name].fraction:.3f})"
        if phase.name in contract.references
        else phase.name
        for phase in contract.phases
    )
    told = ", ".join(
        f"{phase.name} {low:g}-{high:g}"
        for phase, (low, high) in zip(contract.phases[1:], contract.fractions, strict=False)
    )
    lines = {
        "images": f"{height}×{width} pixels, {contract.channels} channel{'s' if contract.channels > 1 else ''}",
        "phases": phases or "none: grey levels",
        "schedule": f"{schedule.kind}, T = {schedule.timesteps}",
        "prediction": contract.prediction,
        "classes": ", ".join(contract.classes) or "none",
        "fractions": told or "not told",
        "guidance": "can be guided" if contract.guidable else "cannot be guided",
        "voxel": f"{contract.voxel_size:g} {contract.voxel_unit}",
        "data": f"{provenance.data} ({provenance.licence})",
        "trained by": provenance.command,
        "revision": provenance.git_revision,
        "weights sha256": provenance.weights_sha256,
    }
    return "\n".join([contract.name, *(f"  {name:16}{value}" for name, value in lines.items())])
