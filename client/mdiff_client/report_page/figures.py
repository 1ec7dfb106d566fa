"""Figures of volumes beside those of real pieces: how far each is from the material, and how far real pieces are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import product

import numpy as np
import numpy.typing as npt

from mdiff_client.evaluation import ALL_AXES, Interval, Labels, References, describe_volumes
from mdiff_client.library.quality import percolates
from mdiff_core import Descriptors
from mdiff_core.contract import AXES

_RESAMPLES = 2000
_PER_CENT = "\u00a0%"
Floats = npt.NDArray[np.float64]


class Quantity(Enum):
    """What is measured of a phase; the value is how it is called in the page."""

    FRACTION = "Phase fraction"
    SURFACE = "Specific surface"
    S2 = "Two-point correlation S2"
    LINEAL_PATH = "Lineal path LP"
    PERCOLATION = "Percolation"


@dataclass(frozen=True)
class Pieces:
    """What was measured of several pieces of material, volumes or images.

    Attributes:
        descriptors: of each piece along z, y or x or over :data:`mdiff_client.evaluation.ALL_AXES`, by that and phase.
        percolating: for each piece the axes along which a phase connects opposite faces, by phase; of images empty.
    """

    descriptors: Mapping[str, Mapping[str, Sequence[Descriptors]]]
    percolating: Mapping[str, Sequence[str]]

    @property
    def count(self) -> int:
        """How many pieces."""
        return len(next(iter(self.descriptors[ALL_AXES].values())))


def measured(pieces: Iterable[Labels], references: Mapping[str, References], names: Sequence[str]) -> Pieces:
    """Measure pieces [Z, Y, X] or [H, W], one in memory at a time.

    Args:
        pieces: at least one.
        references: what they will be compared with, along each axis and over all; they say the phases and the lags.
        names: of the phases, in the order of their labels.
    """
    percolating: dict[str, list[str]] = {}

    def noted() -> Iterator[Labels]:
        for labels in pieces:
            for label, name in enumerate(names if labels.ndim == len(AXES) else ()):
                percolating.setdefault(name, []).append(percolates(labels == label))
            yield labels

    return Pieces(describe_volumes(noted(), references, names), percolating)


@dataclass(frozen=True)
class Figure:
    """One figure of one phase.

    Attributes:
        quantity: what is measured.
        phase: of which phase.
        axes: along z, y or x, or over :data:`mdiff_client.evaluation.ALL_AXES`.
        value: of the mean of the volumes; S2 and LP: the error rate of their mean curve (Micro3Diff eq. 24), per cent;
            percolation: the share of volumes.
        interval: 95 % of the bootstrap over the volumes.
        reference: of the material; S2 and LP: 0; percolation: the share of real pieces, None where there are none.
        real: where 95 % of groups of as many real pieces lie; None where there are none.
    """

    quantity: Quantity
    phase: str
    axes: str
    value: float
    interval: Interval
    reference: float | None
    real: Interval | None

    def told(self, value: float) -> str:
        """A value of this quantity for people."""
        match self.quantity:
            case Quantity.FRACTION:
                return f"{value:.3f}"
            case Quantity.SURFACE:
                return f"{value:.5f}"
            case Quantity.PERCOLATION:
                return f"{100 * value:.0f}{_PER_CENT}"
            case _:
                return f"{value:.1f}{_PER_CENT}"

    def told_range(self, interval: Interval) -> str:
        """An interval of this quantity for people."""
        low, high = map(self.told, interval)
        return f"{low.removesuffix(_PER_CENT)}\u00a0–\u00a0{high}"


def figures(volumes: Pieces, real: Pieces | None, references: Mapping[str, References]) -> list[Figure]:
    """All figures of the volumes: over all axes, then along each of an anisotropic material, then percolation.

    Real pieces are taken in groups of as many as there are volumes, but no more than there are pieces, because the
    mean of many is nearer to the material than one piece is. Of percolation, what none of n pieces shows may still be
    true of 3/n of all (the rule of three, 95 %), so the range is that much wider.
    """
    found = [_of_curves(volumes, real, references, *one) for one in _asked(references)]
    found += [_of_percolation(volumes, real, phase, axis) for phase, axis in product(volumes.percolating, AXES)]
    return found


def _asked(references: Mapping[str, References]) -> Iterator[tuple[Quantity, str, str]]:
    quantities = (Quantity.FRACTION, Quantity.SURFACE, Quantity.S2, Quantity.LINEAL_PATH)
    for axes, of in references.items():
        # The fraction is the same along every axis.
        yield from ((what, name, axes) for name in of for what in quantities[0 if axes == ALL_AXES else 1 :])


def _of_curves(
    volumes: Pieces,
    real: Pieces | None,
    references: Mapping[str, References],
    quantity: Quantity,
    phase: str,
    axes: str,
) -> Figure:
    reference = _samples(quantity, [references[axes][phase]])[0]
    of_volumes = _samples(quantity, volumes.descriptors[axes][phase])
    of_real = _samples(quantity, real.descriptors[axes][phase]) if real else None
    if quantity in (Quantity.FRACTION, Quantity.SURFACE):
        return _figure(quantity, phase, axes, of_volumes, of_real, float(reference[0]), _single)

    def errors(curves: Floats) -> Floats:
        return np.asarray(100 * np.trapezoid(np.abs(curves - reference), axis=-1) / np.trapezoid(reference))

    return _figure(quantity, phase, axes, of_volumes, of_real, 0.0, errors)


def _of_percolation(volumes: Pieces, real: Pieces | None, phase: str, axis: str) -> Figure:
    def shares(pieces: Pieces) -> Floats:
        return np.array([[float(axis in axes)] for axes in pieces.percolating[phase]])

    of_real = shares(real) if real and real.percolating else None
    reference = None if of_real is None else float(of_real.mean())
    figure = _figure(Quantity.PERCOLATION, phase, axis, shares(volumes), of_real, reference, _single)
    if of_real is None or figure.real is None:
        return figure
    low, high = figure.real
    return replace(figure, real=(max(low - 3 / len(of_real), 0.0), min(high + 3 / len(of_real), 1.0)))


def _single(values: Floats) -> Floats:
    return values[..., 0]


def _samples(quantity: Quantity, pieces: Sequence[Descriptors]) -> Floats:
    """[pieces, lags], or [pieces, 1]."""
    match quantity:
        case Quantity.FRACTION:
            return np.array([[one.fraction] for one in pieces])
        case Quantity.SURFACE:
            return np.array([[one.specific_surface] for one in pieces])
        case Quantity.S2:
            return np.array([one.s2 for one in pieces])
        case _:
            return np.array([one.lineal_path for one in pieces])


def _figure(
    quantity: Quantity,
    phase: str,
    axes: str,
    of_volumes: Floats,
    of_real: Floats | None,
    reference: float | None,
    values: Callable[[Floats], Floats],
) -> Figure:
    interval = _central(values(group_means(of_volumes, len(of_volumes))))
    real = None
    if of_real is not None:
        real = _central(values(group_means(of_real, min(len(of_volumes), len(of_real)))))
    return Figure(quantity, phase, axes, float(values(of_volumes.mean(axis=0))), interval, reference, real)


def group_means(samples: Floats, size: int, seed: int = 0) -> Floats:
    """Means [2000, lags] of groups of ``size`` samples [n, lags], drawn with replacement."""
    drawn = np.random.default_rng(seed).integers(0, len(samples), (_RESAMPLES, size))
    return np.array([samples[rows].mean(axis=0) for rows in drawn])


def _central(values: Floats) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
