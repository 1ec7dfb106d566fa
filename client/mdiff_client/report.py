"""What the commands print: for people, and as JSON for machines."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence

from mdiff_client.evaluation import Comparison, Evaluation
from mdiff_client.sampling import SamplingPlan
from mdiff_client.sampling.plan import described
from mdiff_core import ModelContract


def contracts_text(contracts: Sequence[ModelContract]) -> str:
    """One paragraph for each model."""
    return "\n\n".join(_contract_text(contract) for contract in contracts)


def contracts_json(contracts: Sequence[ModelContract]) -> str:
    """A JSON object of contracts by model name."""
    return json.dumps({contract.name: json.loads(contract.to_json()) for contract in contracts})


def costs(contract: ModelContract, plan: SamplingPlan, count: int, *, grey: bool) -> dict[str, int | str]:
    """What a run would cost, before it starts."""
    evaluations = plan.evaluations(contract.schedule.build())
    voxels = math.prod(contract.cube)
    return {
        "model": contract.name,
        "volumes": count,
        "voxels_per_volume": voxels,
        "evaluations_per_volume": evaluations,
        "images_per_evaluation": contract.cube[0],
        "bytes_before_compression": count * voxels * (4 if grey else 1),
        "plan": described(dataclasses.asdict(plan)),
    }


def costs_text(costs: Mapping[str, int | str]) -> str:
    """One line for each item of :func:`costs`."""
    return "\n".join(f"{name.replace('_', ' '):26}{value}" for name, value in costs.items())


def evaluation_json(evaluation: Evaluation) -> str:
    """The evaluation as one JSON object, the format that ``mdiff-export --metrics`` takes."""
    return json.dumps(dataclasses.asdict(evaluation))


def evaluation_text(evaluation: Evaluation) -> str:
    """A Markdown table with a row for each phase, and one for each phase of the real-vs-real floor."""
    rows = [_COLUMNS, ["-" * len(column) for column in _COLUMNS]]
    rows += [_row(name, comparison) for name, comparison in evaluation.phases.items()]
    rows += [_row(f"{name}, real crops", comparison) for name, comparison in evaluation.floor.items()]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    plural = "" if evaluation.volumes == 1 else "s"
    return "\n".join(
        [
            f"{evaluation.volumes} volume{plural} of {evaluation.model}, {evaluation.evaluations} evaluations each",
            f"plan: {evaluation.plan}",
            "",
            *(f"| {line} |" for line in lines),
            "",
            "In parentheses the reference, in brackets the 95 % interval over the samples.",
        ]
    )


_COLUMNS = ["phase", "samples", "fraction", "specific surface", "S2 error %", "LP error %"]


def _row(name: str, of: Comparison) -> list[str]:
    def error(value: float, interval: tuple[float, float]) -> str:
        return f"{value:.1f} [{interval[0]:.1f}, {interval[1]:.1f}]"

    return [
        name,
        str(of.samples),
        f"{of.fraction:.3f} ({of.fraction_reference:.3f})",
        f"{of.specific_surface:.4f} ({of.specific_surface_reference:.4f})",
        error(of.s2_error_percent, of.s2_error_interval_percent),
        error(of.lineal_path_error_percent, of.lineal_path_error_interval_percent),
    ]


def _contract_text(contract: ModelContract) -> str:
    height, width = contract.image_size
    schedule, provenance = contract.schedule, contract.provenance
    phases = ", ".join(
        f"{phase.name} ({contract.references[phase.name].fraction:.3f})"
        if phase.name in contract.references
        else phase.name
        for phase in contract.phases
    )
    lines = {
        "images": f"{height}×{width} pixels, {contract.channels} channel{'s' if contract.channels > 1 else ''}",
        "phases": phases or "none: grey levels",
        "schedule": f"{schedule.kind}, T = {schedule.timesteps}",
        "prediction": contract.prediction,
        "classes": ", ".join(contract.classes) or "none",
        "voxel": f"{contract.voxel_size:g} {contract.voxel_unit}",
        "data": f"{provenance.data} ({provenance.licence})",
        "trained by": provenance.command,
        "revision": provenance.git_revision,
        "weights sha256": provenance.weights_sha256,
    }
    return "\n".join([contract.name, *(f"  {name:16}{value}" for name, value in lines.items())])
