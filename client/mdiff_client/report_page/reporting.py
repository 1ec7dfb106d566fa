"""What a report tells, measured; how it looks is the page's affair."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mdiff_client.evaluation import (
    ALL_AXES,
    Labels,
    References,
    measure_more,
    phase_names,
    piece_edge,
    random_crops,
    read_labels,
    references_of,
)
from mdiff_client.metrics import PIECES, Measured, Tools
from mdiff_client.report_page.figures import Figure, Pieces, figures, measured
from mdiff_client.report_page.verdict import Verdict, judge
from mdiff_client.sampling import Condition
from mdiff_client.store import VolumeStore
from mdiff_core import DataError, ModelContract

_MOST_VOXELS_SHOWN = 256  # along an axis


@dataclass(frozen=True)
class Real:
    """Real material to compare with.

    Attributes:
        name: of its file.
        sha256: of the file.
        labels: [Z, Y, X] or [H, W], in the order of the contract's phases.
    """

    name: str
    sha256: str
    labels: Labels

    @classmethod
    def read(cls, path: Path, contract: ModelContract, phases: str | None, raw_shape: tuple[int, ...] | None) -> Real:
        """From a labelled file; see :func:`mdiff_client.evaluation.read_labels`.

        Raises:
            DataError, UsageError: as that function.
        """
        labels = read_labels(path, contract, phases, raw_shape)
        return cls(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), labels)


@dataclass(frozen=True)
class Comparison:
    """The volumes of one condition beside the material.

    Attributes:
        condition: what they were asked to be.
        indices: of the volumes in the store.
        references: curves of the material, over all axes and, of an anisotropic one, along each.
        volumes: what was measured of them.
        real: the same of real pieces, None where there is no real material.
        figures: of the volumes.
        verdict: on the figures.
        metrics: what else was measured, by name, as ``mdiff-client evaluate`` tells it.
        unmeasured: what the metrics lack that could not be measured, by name.
    """

    condition: Condition
    indices: tuple[int, ...]
    references: Mapping[str, References]
    volumes: Pieces
    real: Pieces | None
    figures: tuple[Figure, ...]
    verdict: Verdict
    metrics: Mapping[str, Sequence[Measured]]
    unmeasured: Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """What there is to tell of a store.

    Attributes:
        store: the volumes.
        real: the real material, if any.
        edge: of the real pieces measured, voxels.
        comparisons: one for each condition.
        shown: labels [Z, Y, X] of the volumes to look at, by index; at most 256 voxels along each axis.
        real_shown: a real piece of the same size from the middle, [Z, Y, X], of an image [1, H, W].
    """

    store: VolumeStore
    real: Real | None
    edge: int
    comparisons: tuple[Comparison, ...]
    shown: Mapping[int, Labels]
    real_shown: Labels | None

    @property
    def verdict(self) -> Verdict:
        """The worst of the verdicts."""
        return max((one.verdict for one in self.comparisons), key=lambda verdict: verdict.level)


def make_report(
    store: VolumeStore,
    real: Real | None = None,
    show: int = 1,
    metrics: Sequence[str] = (),
    tools: Tools | None = None,
    *,
    lenient: bool = False,
    on_volume: Callable[[], object] = lambda: None,
) -> Report:
    """Measure a store's complete volumes, and choose those to look at.

    Args:
        store: labels, or grey levels of a material of phases.
        real: the real material to compare with; None: the contract's reference curves.
        show: how many volumes to look at.
        metrics: names of more to measure, and
        tools: what some of them need, as :func:`mdiff_client.evaluation.measure_more` takes them.
        lenient: tell of a metric that lacks something, instead of refusing it.
        on_volume: called after each volume that was measured.

    Raises:
        DataError: no complete volume, real data too small, or nothing to compare with.
        UsageError: the model has no phases, or a metric lacks something.
    """
    names = phase_names(store.contract)
    by_condition = store.by_condition()
    if not by_condition:
        raise DataError(f"{store.location}: there is no complete volume to report on")
    of_real, labels, pieces, edge = None, None, None, 0
    if real is not None:
        labels = real.labels
        edge = piece_edge(store, labels)
        of_real = references_of(labels, store.contract, names)
        pieces = measured(random_crops(labels, edge, PIECES), _by_axes(names, *of_real), names)

    def compared(condition: Condition, indices: Sequence[int]) -> Comparison:
        contract = store.contract
        curves = of_real or (contract.references_at(condition.fractions), contract.references_along)
        references = _by_axes(names, *curves)
        if not references[ALL_AXES]:
            raise DataError(f"model {contract.name} has no reference curves: give real material with --reference")
        more, unmeasured = measure_more(store, indices, curves, metrics, tools, labels, labels, lenient=lenient)
        volumes = measured(_each(store, indices, on_volume), references, names)
        found = tuple(figures(volumes, pieces, references))
        return Comparison(
            condition=condition,
            indices=tuple(indices),
            references=references,
            volumes=volumes,
            real=pieces,
            figures=found,
            verdict=judge(found, len(indices)),
            metrics=more,
            unmeasured=unmeasured,
        )

    comparisons = tuple(compared(*one) for one in by_condition.items())
    shown = {index: _corner(store.labels(index)) for index in sorted(_in_turn(list(by_condition.values()))[:show])}
    piece = None if labels is None else _middle(labels, next(iter(shown.values())))
    return Report(store, real, edge, comparisons, shown, piece)


def _by_axes(names: Sequence[str], over_all: References, along: Mapping[str, References]) -> Mapping[str, References]:
    """Over all axes and along each, with the phases in the order of their labels."""
    return {
        axes: {name: of[name] for name in names if name in of} for axes, of in {ALL_AXES: over_all, **along}.items()
    }


def _each(store: VolumeStore, indices: Iterable[int], on_volume: Callable[[], object]) -> Iterator[Labels]:
    for index in indices:
        yield store.labels(index)
        on_volume()


def _in_turn(groups: Sequence[Sequence[int]]) -> list[int]:
    """The first of each group, then the second of each …"""
    return [group[i] for i in range(max(map(len, groups))) for group in groups if i < len(group)]


def _corner(labels: Labels) -> Labels:
    return labels[(slice(_MOST_VOXELS_SHOWN),) * labels.ndim]


def _middle(real: Labels, like: Labels) -> Labels:
    """A piece from the middle, as large as another one or as there is."""
    labels = real if real.ndim == like.ndim else real[None]
    sizes = [min(n, wanted) for n, wanted in zip(labels.shape, like.shape, strict=True)]
    starts = [(n - size) // 2 for n, size in zip(labels.shape, sizes, strict=True)]
    return np.ascontiguousarray(
        labels[tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))]
    )
