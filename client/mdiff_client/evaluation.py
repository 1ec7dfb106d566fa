"""How far volumes are from the real material: error rates of S2 and LP with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mdiff_client.formats.reading import read_volume
from mdiff_client.metrics import PIECES, Measured, RealPieces, Setting, Tools, measure
from mdiff_client.sampling import Condition
from mdiff_client.sampling.plan import described, recognized
from mdiff_client.store import VolumeStore
from mdiff_core import DataError, Descriptors, ModelContract, UsageError, error_rate, reference_descriptors
from mdiff_core.contract import AXES
from mdiff_images import group_phases, parse_phases

_RESAMPLES = 2000
ALL_AXES = "".join(AXES)
Interval = tuple[float, float]
Labels = npt.NDArray[np.uint8]
References = Mapping[str, Descriptors]


@dataclass(frozen=True)
class Comparison:
    """Samples of one phase beside their reference.

    The error rates (Micro3Diff eq. 24, per cent) are those of the samples' mean curves, as the paper averages its 25
    volumes; the intervals hold 95 % of the bootstrap over the samples.
    """

    samples: int
    fraction: float
    fraction_reference: float
    specific_surface: float
    specific_surface_reference: float
    s2_error_percent: float
    s2_error_interval_percent: Interval
    lineal_path_error_percent: float
    lineal_path_error_interval_percent: Interval


def compare(samples: Sequence[Descriptors], reference: Descriptors, seed: int = 0) -> Comparison:
    """Compare samples with the reference.

    Raises:
        DataError: no samples, or a reference without the phase.
    """
    if not samples:
        raise DataError("there are no samples to compare")
    mean = Descriptors.mean(samples)
    drawn = np.random.default_rng(seed).integers(0, len(samples), (_RESAMPLES, len(samples)))

    def interval(curves: npt.NDArray[np.float64], curve: Sequence[float]) -> Interval:
        errors = [error_rate(curves[rows].mean(axis=0), curve) for rows in drawn]
        low, high = np.percentile(errors, [2.5, 97.5])
        return float(low), float(high)

    return Comparison(
        samples=len(samples),
        fraction=mean.fraction,
        fraction_reference=reference.fraction,
        specific_surface=mean.specific_surface,
        specific_surface_reference=reference.specific_surface,
        s2_error_percent=error_rate(mean.s2, reference.s2),
        s2_error_interval_percent=interval(np.array([s.s2 for s in samples]), reference.s2),
        lineal_path_error_percent=error_rate(mean.lineal_path, reference.lineal_path),
        lineal_path_error_interval_percent=interval(np.array([s.lineal_path for s in samples]), reference.lineal_path),
    )


@dataclass(frozen=True)
class Evaluation:
    """What ``mdiff-client evaluate`` reports.

    ``phases`` compares the volumes with the reference, ``floor`` crops of the real material with the same reference,
    both by phase name; ``floor`` is empty where no real material was given. ``along`` compares them along one axis
    (``z``, ``y``, ``x``) at a time, where the material is anisotropic. ``plan`` has every field of the sampling plan,
    ``plan_name`` is what :func:`mdiff_client.sampling.plan.recognized` makes of them. ``metrics`` are the others that
    were asked for, by their names in :data:`mdiff_client.metrics.METRICS`; ``unmeasured`` says of those that could not
    be measured what they lack.
    """

    model: str
    plan: str
    plan_name: str
    volumes: int
    evaluations: int
    phases: dict[str, Comparison]
    floor: dict[str, Comparison]
    along: dict[str, dict[str, Comparison]]
    metrics: dict[str, list[Measured]] = field(default_factory=dict)
    unmeasured: dict[str, str] = field(default_factory=dict)


def evaluate(
    store: VolumeStore,
    reference: Labels | None = None,
    floor: Labels | None = None,
    condition: Condition | None = None,
    metrics: Sequence[str] = (),
    tools: Tools | None = None,
    *,
    lenient: bool = False,
) -> Evaluation:
    """Compare a store's complete volumes with the contract's reference curves.

    Volumes that were told their phase fractions are compared with a material of those.

    Args:
        store: labels, or grey levels of a material of phases.
        reference: phase labels of a real volume or image to compare with instead.
        floor: phase labels of a real volume or image, from which crops as large as the volumes are cut, or as large
            as it allows.
        condition: only the volumes that were asked to be this; None: the first of the store's.
        metrics: names of more to measure.
        tools: what some of them need.
        lenient: tell of a metric that lacks something, instead of refusing it.

    Raises:
        DataError: no complete volume, or data too small.
        UsageError: the model has no phases, or a metric lacks something.
    """
    contract = store.contract
    names = phase_names(contract)
    condition = condition or store.conditions[0]
    indices = store.by_condition().get(condition)
    if not indices:
        raise DataError(f"{store.location}: there is no complete volume to evaluate")
    if reference is None:
        references, along = contract.references_at(condition.fractions), contract.references_along
    else:
        references, along = references_of(reference, contract, names)
    measured, unmeasured = measure_more(
        store, indices, (references, along), metrics, tools, reference, floor, lenient=lenient
    )
    compared = compare_volumes(map(store.labels, indices), {ALL_AXES: references, **along}, names)
    pieces = _real_pieces(floor, store)
    return Evaluation(
        model=contract.name,
        plan=described(store.plan),
        plan_name=recognized(store.plan),
        volumes=len(indices),
        evaluations=store.record(indices[0])["evaluations"],
        phases=compared.pop(ALL_AXES),
        floor=compare_volumes(pieces(PIECES), {ALL_AXES: references}, names)[ALL_AXES] if pieces else {},
        along=compared,
        metrics=measured,
        unmeasured=unmeasured,
    )


def measure_more(
    store: VolumeStore,
    indices: Sequence[int],
    references: tuple[References, Mapping[str, References]],
    metrics: Sequence[str],
    tools: Tools | None,
    real: Labels | None,
    floor: Labels | None,
    *,
    lenient: bool,
) -> tuple[dict[str, list[Measured]], dict[str, str]]:
    """The metrics beside S2 and LP.

    Args:
        store: the volumes; and
        indices: those of them that are measured.
        references: curves of the material over all axes, and along each where they are known.
        metrics: names of what to measure.
        tools: what some of them need.
        real: phase labels of the material that the curves come from, if they are not the contract's.
        floor: as :func:`evaluate` takes it.
        lenient: tell of a metric that lacks something, instead of refusing it.

    Returns: what was measured, by name, and what the others lack, by name.

    Raises:
        DataError: data too small.
        UsageError: a metric lacks something.
    """
    contract = store.contract
    edge = min(*contract.image_size, *store.shape[1:], *(() if floor is None else floor.shape))
    setting = Setting(
        names=tuple(phase_names(contract)),
        greys=tuple(phase.grey / 255 for phase in contract.phases),
        edge=edge,
        max_lag=edge // 2,
        references=references[0],
        references_along=references[1],
        real=real,
        tools=tools or Tools(),
    )
    volumes = partial(map, store.labels, indices)
    return measure(metrics, volumes, _real_pieces(floor, store), setting, lenient=lenient)


def _real_pieces(floor: Labels | None, store: VolumeStore) -> RealPieces | None:
    return None if floor is None else partial(random_crops, floor, piece_edge(store, floor))


def piece_edge(store: VolumeStore, real: Labels) -> int:
    """Edge, voxels, of real pieces to set beside a store's volumes.

    As large as the volumes, or as the material allows; the curves need no less than the model's images have.
    """
    edge: int = min(*store.shape[1:], *real.shape)
    return max(edge, min(store.contract.image_size))


def read_labels(
    path: Path,
    contract: ModelContract,
    phases: str | None = None,
    raw_shape: tuple[int, ...] | None = None,
    *,
    all_present: bool = True,
) -> Labels:
    """Phase labels of a real volume or image, in the order of the contract's phases.

    Args:
        path: labelled file.
        contract: says which phases there are.
        phases: their values in the file, as ``rest=0+2,active=1``; None: 0, 1, 2 … in the contract's order.
        raw_shape: shape of a RAW file.
        all_present: refuse a file that has nothing of a phase.

    Raises:
        DataError: the file cannot be read, has nothing of a phase, or values of none.
        UsageError: a RAW file without its shape, other phases than the contract's, or a contract without phases.
    """
    names, whose = phase_names(contract), f"model {contract.name}"
    return labels_of(path, names, phases, raw_shape, all_present=all_present, whose=whose)


def labels_of(
    path: Path,
    names: Sequence[str],
    phases: str | None = None,
    raw_shape: tuple[int, ...] | None = None,
    *,
    all_present: bool = True,
    whose: str = "the material",
) -> Labels:
    """As :func:`read_labels`, of any material with the phases ``names``; ``whose`` they are, for messages."""
    values = parse_phases(phases) if phases else {name: (label,) for label, name in enumerate(names)}
    if set(values) != set(names):
        raise UsageError(f"{whose} has the phases {', '.join(names)}, not {', '.join(values)}")
    return group_phases(
        read_volume(path, raw_shape), {name: values[name] for name in names}, str(path), all_present=all_present
    )


def phase_names(contract: ModelContract) -> list[str]:
    """Names of the phases in the order of their labels.

    Raises:
        UsageError: the model has none.
    """
    if not contract.phases:
        raise UsageError(f"model {contract.name} gives grey levels: S2 and LP need phases")
    return [phase.name for phase in contract.phases]


def references_of(
    real: Labels, contract: ModelContract, names: Sequence[str]
) -> tuple[References, Mapping[str, References]]:
    """Descriptors of real material by phase: over all its axes and, where the model knows its planes apart, along each.

    Raises:
        DataError: it is too small.
    """
    along = {
        name: reference_descriptors(real, names, contract.image_size, [axis])
        for axis, name in enumerate(AXES)
        if contract.references_along and real.ndim == 3
    }
    return reference_descriptors(real, names, contract.image_size), along


def compare_volumes(
    volumes: Iterable[Labels], references: Mapping[str, References], names: Sequence[str]
) -> dict[str, dict[str, Comparison]]:
    """Volumes beside references along each axis or over :data:`ALL_AXES`, by phase; one volume in memory at a time.

    ``names``: of the phases, in the order of their labels.

    Raises:
        DataError: no volumes, or a reference without its phase.
    """
    return {
        axis: {name: compare(of_phase, references[axis][name]) for name, of_phase in of_axis.items()}
        for axis, of_axis in describe_volumes(volumes, references, names).items()
    }


def describe_volumes(
    volumes: Iterable[Labels], references: Mapping[str, References], names: Sequence[str]
) -> dict[str, dict[str, list[Descriptors]]]:
    """Descriptors of each volume to the lags of the references, as :func:`compare_volumes` compares them."""
    samples: dict[str, dict[str, list[Descriptors]]] = {
        axis: {name: [] for name in of_axis} for axis, of_axis in references.items()
    }
    for labels in volumes:
        for axis, of_axis in samples.items():
            along = None if axis == ALL_AXES else [AXES.index(axis)]
            for name, of_phase in of_axis.items():
                max_lag = len(references[axis][name].s2) - 1
                of_phase.append(Descriptors.of(labels == names.index(name), max_lag, along))
    return samples


def random_crops(labels: Labels, edge: int, count: int, seed: int = 0) -> Iterator[Labels]:
    """``count`` cubes, or of an image squares, of ``edge`` voxels from random places, for the real-vs-real floor.

    Raises:
        DataError: it is smaller than that.
    """
    if min(labels.shape) < edge:
        raise DataError(f"the real-vs-real floor needs at least {edge} voxels in every direction, not {labels.shape}")
    rng = np.random.default_rng(seed)
    for _ in range(count):
        corner = rng.integers(0, [n - edge + 1 for n in labels.shape])
        yield labels[tuple(slice(c, c + edge) for c in corner)]
