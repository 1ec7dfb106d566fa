"""The model card: a README.md beside the model, for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from mdiff_core import DataError, Descriptors, ModelContract
from mdiff_core.contract import AXES, NOT_TOLD
from mdiff_export.parity import Parity
from mdiff_training.checkpoint import LOSS_WINDOW

# A checkpoint keeps one loss for each hundred steps: the last thousand steps.
_LAST_LOSSES = 10


@dataclass(frozen=True)
class PhaseMetrics:
    """How generated volumes compare with their reference in one phase."""

    fraction: float
    fraction_reference: float
    specific_surface: float
    specific_surface_reference: float
    s2_error_percent: float
    lineal_path_error_percent: float


@dataclass(frozen=True)
class Metrics:
    """What an evaluation of the model's volumes measured (``mdiff-client evaluate --json``)."""

    plan: str
    asked_for: str
    volumes: int
    evaluations: int
    phases: Mapping[str, PhaseMetrics]
    along: Mapping[str, Mapping[str, PhaseMetrics]]


def read_metrics(path: Path, contract: ModelContract) -> Metrics:
    """Read the metrics of a contract's model; fields a card does not show are ignored.

    Raises:
        DataError: the file is absent, not such metrics, or those of another model or of phases it does not have.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from error
    try:
        model = _text(document, "model")
        metrics = Metrics(
            plan=_text(document, "plan"),
            asked_for=_text(document, "asked_for"),
            volumes=_count(document, "volumes"),
            evaluations=_count(document, "evaluations"),
            phases=_phase_metrics(_mapping(document, "phases")),
            along={axis: _phase_metrics(entry) for axis, entry in _mapping(document, "along", empty=True).items()},
        )
    except ValueError as error:
        raise DataError(f"{path}: not the metrics of mdiff-client evaluate --json ({error})") from error
    if model != contract.name:
        raise DataError(f"{path}: metrics of model {model!r}, not of {contract.name!r}")
    measured = set(metrics.phases).union(*metrics.along.values())
    unknown = measured - {phase.name for phase in contract.phases}
    if unknown:
        raise DataError(f"{path}: metrics of {', '.join(sorted(unknown))}, no phase of model {contract.name}")
    return metrics


def model_card(
    contract: ModelContract,
    *,
    parameters: int,
    step: int,
    losses: tuple[float, ...],
    parity: Parity,
    metrics: Metrics | None = None,
) -> str:
    """The card as Markdown.

    Args:
        contract: with the sha256 of the weights.
        parameters: how many numbers the network has.
        step: optimizer steps it was trained for.
        losses: mean loss of each hundred of them.
        parity: as measured on the exported file.
        metrics: of volumes made with it, if they were measured.
    """
    sections = [
        _summary(contract),
        _provenance(contract),
        _network(contract, parameters, step, losses, parity),
        _phases(contract),
    ]
    if metrics:
        sections.append(_metrics(metrics))
    return "\n\n".join(sections) + "\n"


def _summary(contract: ModelContract) -> str:
    height, width = contract.image_size
    phases = _in_words([phase.name for phase in contract.phases]) or "grey levels"
    voxel = "" if contract.voxel_unit == "voxel" else f" at {contract.voxel_size:g} {contract.voxel_unit} a pixel"
    gives = "the noise `eps`" + (" and the variance interpolation `v`" if contract.prediction != "epsilon" else "")
    return (
        f"# {contract.name}\n\n"
        f"A diffusion model of 2D sections through a material ({phases}), {height}×{width} pixels{voxel}. For "
        f"{_in_words(_takes(contract))} the network gives {gives}; mdiff's sampler makes 3D volumes of them."
        f"{_planes(contract)} The contract, in the ONNX metadata and in `config.pbtxt`, holds all that a client needs "
        "to know."
    )


def _takes(contract: ModelContract) -> list[str]:
    """The network's inputs in words."""
    takes = ["a noisy image `x`", "a step `t`"]
    if contract.classes:
        null = "" if contract.null_class is None else f"; {contract.null_class} for none"
        takes.append(f"a `label` ({', '.join(contract.classes)}{null})")
    if contract.fractions:
        told = ", ".join(phase.name for phase in contract.phases[1:])
        takes.append(f"phase `fractions` ({told}; {NOT_TOLD:g} for not told)")
    return takes


def _planes(contract: ModelContract) -> str:
    if not contract.planes:
        return ""
    classes = [(plane, contract.classes[label]) for plane, label in contract.planes.items()]
    served = ", ".join(plane if plane == name else f"{plane}: {name}" for plane, name in classes)
    return f" The material is anisotropic: the label of a slice is that of its plane ({served})."


def _provenance(contract: ModelContract) -> str:
    origin = contract.provenance
    return (
        "## Provenance\n\n"
        f"- Data and attribution: {origin.data}\n"
        f"- Licence: {origin.licence}\n"
        f"- Git revision of mdiff: {origin.git_revision}\n"
        f"- sha256 of the weights: `{origin.weights_sha256}`\n\n"
        f"```\n{origin.command}\n```"
    )


def _network(contract: ModelContract, parameters: int, step: int, losses: tuple[float, ...], parity: Parity) -> str:
    schedule = contract.schedule
    last = losses[-_LAST_LOSSES:]
    loss = f"{sum(last) / len(last):.4f}, mean of the last {LOSS_WINDOW * len(last)} steps" if last else "not recorded"
    betas = f", β from {schedule.beta_first:g} to {schedule.beta_last:g}" if schedule.kind == "linear" else ""
    return (
        "## Network\n\n"
        f"- U-Net, {parameters:,} parameters, {f'{step:,} training steps' if step else 'imported, not trained here'}\n"
        f"- Training loss: {loss}\n"
        f"- Noise schedule: {schedule.kind}, {schedule.timesteps} steps{betas}\n"
        f"- Parity: onnxruntime and torch differ by at most {parity.difference:.1e} ({parity.dtype}, batches of "
        f"{_listed(parity.batches)}, t of {_listed(parity.steps)})"
    )


def _phases(contract: ModelContract) -> str:
    axes = [axis for axis in AXES if axis in contract.references_along]
    told = ["", *(f"{low:.3g}-{high:.3g}" for low, high in contract.fractions)] if contract.fractions else []

    def row(label: int, name: str) -> list[str]:
        known = [str(label), str(contract.phases[label].grey)] if contract.phases else ["", ""]
        reference = contract.references.get(name)
        along = [contract.references_along[axis].get(name) for axis in axes]
        fraction = f"{reference.fraction:.4f}" if reference else ""
        return [name, *known, fraction, _surface(reference), *map(_surface, along), *told[label : label + 1]]

    columns = ["phase", "label", "grey level", "fraction", "specific surface", *(f"along {axis}" for axis in axes)]
    names = [phase.name for phase in contract.phases] or ["grey"]
    rows = [row(label, name) for label, name in enumerate(names)]
    meaning = "Specific surface: share of neighbouring voxels of which exactly one lies in the phase"
    meaning += ", and of those that are neighbours along one axis." if axes else "."
    if told:
        columns.append("fractions told")
        meaning += " Fractions told: the range in which the network was trained to be told them."
    return f"## Training data\n\n{_table(columns, rows)}\n\n{meaning}"


def _surface(of: Descriptors | None) -> str:
    return f"{of.specific_surface:.4f}" if of else ""


def _metrics(metrics: Metrics) -> str:
    columns = ["phase", "fraction", "reference", "specific surface", "reference", "S2 error, %", "lineal-path error, %"]
    along = {f"{name} along {axis}": m for axis, of_axis in metrics.along.items() for name, m in of_axis.items()}
    rows = [
        [
            name,
            f"{m.fraction:.3f}",
            f"{m.fraction_reference:.3f}",
            f"{m.specific_surface:.4f}",
            f"{m.specific_surface_reference:.4f}",
            f"{m.s2_error_percent:.1f}",
            f"{m.lineal_path_error_percent:.1f}",
        ]
        for name, m in {**metrics.phases, **along}.items()
    ]
    return (
        f"## Generated volumes\n\n{metrics.volumes} volumes of {metrics.evaluations} evaluations each, plan "
        f"`{metrics.plan}`, asked for {metrics.asked_for}, against their reference; errors are areas between the mean "
        f"curves (Micro3Diff eq. 24).\n\n{_table(columns, rows)}"
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows))


def _in_words(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))


def _field(document: object, key: str) -> object:
    if not isinstance(document, dict) or key not in document:
        raise ValueError(f"it has no {key}")
    return document[key]


def _mapping(document: object, key: str, *, empty: bool = False) -> dict[str, object]:
    value = _field(document, key)
    if not isinstance(value, dict) or not (value or empty):
        raise ValueError(f"{key} is not an object with entries")
    return value


def _phase_metrics(entries: object) -> dict[str, PhaseMetrics]:
    if not isinstance(entries, dict):
        raise ValueError("phases are not an object with entries")
    return {
        name: PhaseMetrics(**{field.name: _number(entry, field.name) for field in fields(PhaseMetrics)})
        for name, entry in entries.items()
    }


def _text(document: object, key: str) -> str:
    value = _field(document, key)
    if not isinstance(value, str) or len(value.splitlines()) != 1:
        raise ValueError(f"{key} is not a line of text")
    return value


def _count(document: object, key: str) -> int:
    value = _field(document, key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{key} is not a positive integer")
    return value


def _number(document: object, key: str) -> float:
    value = _field(document, key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise ValueError(f"{key} is not a finite number of at least 0")
    return float(value)
