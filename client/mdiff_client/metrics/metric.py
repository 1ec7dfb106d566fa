"""What a metric is: how it measures volumes, what it compares them with, and how its samples become one number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mdiff_core import Descriptors

Labels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]
Volumes = Callable[[], Iterator[Labels]]
"""Begins anew at every call and gives one volume [Z, Y, X] or image [H, W] after the other."""
RealPieces = Callable[[int], Iterator[Labels]]
"""Gives that many pieces of real material, as large as the volumes."""
PIECES = 25
"""Real pieces that volumes are compared with: as many as the volumes that Micro3Diff averages."""
_RESAMPLES = 1000


@dataclass(frozen=True)
class Tools:
    """What a user gives for the metrics that need more than volumes.

    Attributes:
        training: what the model was trained on, volumes or images.
        mcrpy: the interpreter of an environment with MCRpy.
        fid_weights: checkpoint of the network behind the FID.
        extractor: name of that network in torch-fidelity, or ``curves``.
    """

    training: tuple[Labels, ...] = ()
    mcrpy: Path | None = None
    fid_weights: Path | None = None
    extractor: str = "inception-v3-compat"


def training_images(arrays: Sequence[Labels], *, independent: bool) -> tuple[Labels, ...]:
    """Training material for :class:`Tools`: volumes, unless they are stacks of ``independent`` images."""
    if not independent:
        return tuple(arrays)
    return tuple(image for array in arrays for image in (array if array.ndim == 3 else [array]))


@dataclass(frozen=True)
class Setting:
    """What volumes are measured with and compared with.

    Attributes:
        names: of the phases, in the order of their labels.
        greys: grey level of each phase, 0 to 1.
        edge: of the square sections that are compared, pixels.
        max_lag: of correlation curves, voxels.
        references: curves of the material, by phase.
        references_along: the same along one axis, by axis, where they are known.
        real: the real material that the curves come from, None where only the curves are known.
        tools: what else there is.
    """

    names: tuple[str, ...]
    greys: tuple[float, ...]
    edge: int
    max_lag: int
    references: Mapping[str, Descriptors] = field(default_factory=dict)
    references_along: Mapping[str, Mapping[str, Descriptors]] = field(default_factory=dict)
    real: Labels | None = None
    tools: Tools = field(default_factory=Tools)

    def grey(self, sections: Labels) -> Floats:
        """Sections as grey levels from 0 to 1."""
        return np.asarray(self.greys, dtype=np.float64)[sections]


def mean(samples: Floats) -> float:
    """Of all samples."""
    return float(np.mean(samples))


def median(samples: Floats) -> float:
    """Of all samples, as Düreth et al. report their errors (table 4)."""
    return float(np.median(samples))


@dataclass(frozen=True)
class Row:
    """One quantity, measured.

    Attributes:
        of: what it belongs to, as ``sphere along z``; empty where the metric has one row only.
        samples: [n, …], one for each volume.
        figure: how samples become one number.
        independent: whether the samples are, so that the bootstrap over them says something.
    """

    of: str
    samples: Floats
    figure: Callable[[Floats], float] = mean
    independent: bool = True

    def interval(self, seed: int = 0) -> Interval | None:
        """95 % of the bootstrap; None of one sample, or of samples that are not independent."""
        n = len(self.samples)
        if n < 2 or not self.independent:
            return None
        drawn = np.random.default_rng(seed).integers(0, n, (_RESAMPLES, n))
        low, high = np.percentile([self.figure(self.samples[rows]) for rows in drawn], [2.5, 97.5])
        return float(low), float(high)


@dataclass(frozen=True)
class Metric:
    """One entry of the table of metrics.

    Attributes:
        title: what it is, with its unit.
        measure: rows of volumes.
        lacks: what a setting must have first, as one line of advice; None where nothing is missing.
        usual: whether it is measured unless others are asked for: it is cheap and needs nothing more.
        as_many: whether its figure depends on how many are measured, so that as many real pieces must be.
    """

    title: str
    measure: Callable[[Volumes, Setting], Iterable[Row]]
    lacks: Callable[[Setting], str | None] = lambda setting: None
    usual: bool = False
    as_many: bool = False


@dataclass(frozen=True)
class Measured:
    """One quantity of the volumes beside that of crops of real material.

    Attributes:
        title: of the metric, with its unit.
        of: what it belongs to, as ``sphere along z``.
        samples: how many volumes, sections or pairs.
        value: the mean, or what the title says.
        interval: 95 % of the bootstrap over the samples, None where there is none.
        floor: value of the real crops, None where there are none or it says nothing of them.
        floor_interval: as ``interval``.
    """

    title: str
    of: str
    samples: int
    value: float
    interval: Interval | None
    floor: float | None
    floor_interval: Interval | None


def measured(metric: Metric, volumes: Volumes, real: RealPieces | None, setting: Setting) -> list[Measured]:
    """Measure volumes, and pieces of real material in the same way."""
    floors: dict[str, Row] = {}
    if real:
        pieces = partial(real, sum(1 for _ in volumes()) if metric.as_many else PIECES)
        floors = {row.of: row for row in metric.measure(pieces, setting)}

    def beside(row: Row) -> Measured:
        floor = floors.get(row.of)
        return Measured(
            metric.title,
            row.of,
            len(row.samples),
            row.figure(row.samples),
            row.interval(),
            floor.figure(floor.samples) if floor else None,
            floor.interval() if floor else None,
        )

    return [beside(row) for row in metric.measure(volumes, setting)]
