"""Whether the volumes are large enough: a property of ever larger parts of them, and of them all.

T. Kanit et al., Int. J. Solids Struct. 40, 3647 (2003): the mean over parts depends on their size through what happens
at their faces, and the scatter around it tells how many volumes a mean needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mdiff_client.properties.measures import Labels, Measure
from mdiff_client.store import VolumeStore

_SMALLEST = 16  # voxels
_PARTS = 27  # at most, of one volume at one size


@dataclass(frozen=True)
class Size:
    """A property of parts of one size: by key the values that were found."""

    edge: int
    values: Mapping[str, npt.NDArray[np.float64]]

    def mean(self, key: str) -> float:
        """Over all parts; NaN where the solver found nothing in any."""
        return float(self.values[key].mean()) if self.values[key].size else math.nan

    def std(self, key: str) -> float:
        """Over all parts, of the sample; 0 of one."""
        return float(self.values[key].std(ddof=1)) if self.values[key].size > 1 else 0.0

    def scatter_percent(self, key: str) -> float:
        """Standard deviation over the mean."""
        return 100 * self.std(key) / self.mean(key) if self.mean(key) else math.inf


@dataclass(frozen=True)
class Convergence:
    """One measure at every size, the whole volumes last.

    Attributes:
        measure: what was measured.
        sizes: parts, from small to whole.
        tolerance_percent: what a representative size keeps to.
    """

    measure: Measure
    sizes: tuple[Size, ...]
    tolerance_percent: float

    def representative_edge(self) -> int | None:
        """The smallest edge from which on every size keeps to the tolerance; None: the whole volumes do not.

        It does when, for each headline key, the scatter is at most the tolerance, and the mean no further than that
        from the mean of whole volumes.
        """
        edge = None
        for size in reversed(self.sizes):
            if not all(self._keeps(size, key) for key in self.measure.headline):
                break
            edge = size.edge
        return edge

    def volumes_needed(self, key: str) -> int | None:
        """Whole volumes for a mean within the tolerance with 95 % confidence; None where the mean is 0.

        n = (2 σ / (ε mean))² (Kanit et al.).
        """
        scatter = self.sizes[-1].scatter_percent(key)
        return max(1, math.ceil((2 * scatter / self.tolerance_percent) ** 2)) if math.isfinite(scatter) else None

    def _keeps(self, size: Size, key: str) -> bool:
        whole = self.sizes[-1].mean(key)
        away = 100 * abs(size.mean(key) - whole) / whole if whole else math.inf
        return max(away, size.scatter_percent(key)) <= self.tolerance_percent


def edges(shape: Sequence[int]) -> list[int]:
    """Of the parts: 16, 24, 32, 48 … voxels, below the volume's smallest edge."""
    ladder = sorted(_SMALLEST * factor * 2**n // 2 for factor in (2, 3) for n in range(16))
    return [edge for edge in ladder if edge < min(shape)]


def parts(labels: Labels, edge: int, seed: int) -> Iterator[Labels]:
    """Cubes that do not overlap, as many as fit; of more than 27 that many at random."""
    corners = np.stack(np.meshgrid(*(np.arange(n // edge) * edge for n in labels.shape)), axis=-1).reshape(-1, 3)
    if len(corners) > _PARTS:
        corners = np.random.default_rng(seed).permutation(corners)[:_PARTS]
    for corner in corners:
        yield labels[tuple(slice(c, c + edge) for c in corner)]


def converge(
    store: VolumeStore,
    measure: Measure,
    whole: Mapping[str, Sequence[float | None]],
    tolerance_percent: float,
    on_volume: Callable[[], object] = lambda: None,
) -> Convergence:
    """Measure the parts of all complete volumes; a part is cut out, so it is not periodic.

    Args:
        store: of the volumes.
        measure: what to measure.
        whole: what was measured of whole volumes, by key.
        tolerance_percent: of a representative size.
        on_volume: called after each volume.
    """
    found: dict[int, dict[str, list[float | None]]] = {
        edge: {key: [] for key in measure.headline} for edge in edges(store.shape[1:])
    }
    for index in store.complete():
        labels = store.labels(index)
        for edge, of_edge in found.items():
            for part in parts(labels, edge, index):
                values = measure(part, "")
                for key, of_key in of_edge.items():
                    of_key.append(values[key])
        on_volume()
    found[min(store.shape[1:])] = {key: list(whole[key]) for key in measure.headline}
    return Convergence(
        measure,
        tuple(Size(edge, {key: _known(values) for key, values in of.items()}) for edge, of in found.items()),
        tolerance_percent,
    )


def _known(values: Sequence[float | None]) -> npt.NDArray[np.float64]:
    return np.array([value for value in values if value is not None], np.float64)
