"""Statistical descriptors of a microstructure: two-point correlation, lineal path, phase fraction, specific surface.

Arrays are label images or volumes of any dimension; distances are in pixels or voxels along an axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mdiff_core.errors import DataError

Floats = npt.NDArray[np.float64]
Indicator = npt.NDArray[np.bool_]


def two_point_correlation(indicator: Indicator, axis: int, max_lag: int) -> Floats:
    """S2(r) for r = 0 … ``max_lag`` along ``axis`` (Micro3Diff eq. 22).

    The probability that two points r voxels apart both lie in the phase, over all such pairs inside the array (no
    periodic wrap). ``S2(0)`` is the phase fraction.

    Returns: float64 [max_lag + 1].

    Raises:
        DataError: ``max_lag`` does not fit into the array.
    """
    phase = _leading(indicator, axis, max_lag)
    n = len(phase)
    return np.array([np.mean(phase[: n - r] & phase[r:]) for r in range(max_lag + 1)])


def lineal_path(indicator: Indicator, axis: int, max_lag: int) -> Floats:
    """LP(r) for r = 0 … ``max_lag`` along ``axis`` (Micro3Diff eq. 23).

    The probability that a segment from one voxel to the one r further lies wholly in the phase (r + 1 voxels), over
    all such segments inside the array. ``LP(0)`` is the phase fraction.

    Returns: float64 [max_lag + 1].

    Raises:
        DataError: ``max_lag`` does not fit into the array.
    """
    phase = _leading(indicator, axis, max_lag)
    whole = phase.copy()
    curve = [whole.mean()]
    for r in range(1, max_lag + 1):
        whole = whole[:-1] & phase[r:]
        curve.append(whole.mean())
    return np.array(curve)


def error_rate(curve: Sequence[float] | Floats, reference: Sequence[float] | Floats) -> float:
    """Error rate in per cent: the area between two curves over the area under the reference (Micro3Diff eq. 24).

    Both areas by the trapezoidal rule over the lags that both curves have.

    Raises:
        DataError: fewer than two common lags, or a reference with no area.
    """
    n = min(len(curve), len(reference))
    a, b = np.asarray(curve, dtype=np.float64)[:n], np.asarray(reference, dtype=np.float64)[:n]
    if n < 2:
        raise DataError("an error rate needs curves of at least two lags")
    area = np.trapezoid(b)
    if not area > 0:
        raise DataError("the reference curve is zero everywhere: the phase is absent from the reference")
    return float(100 * np.trapezoid(np.abs(a - b)) / area)


def specific_surface(indicator: Indicator, axes: Iterable[int] | None = None) -> float:
    """Share of neighbouring voxel pairs of which exactly one lies in the phase, over ``axes``, by default all.

    For an isotropic medium twice this is the boundary area over the volume, in 1/voxel, of the smooth body
    (Underwood's S_V = 2 P_L; the share is P_L, the boundaries crossed in one voxel's length along an axis).
    """
    unlike = pairs = 0
    for axis in axes if axes is not None else range(indicator.ndim):
        line = np.moveaxis(indicator, axis, 0)
        different = line[1:] != line[:-1]
        unlike, pairs = unlike + int(different.sum()), pairs + different.size
    return unlike / pairs


@dataclass(frozen=True)
class Descriptors:
    """Descriptors of one phase, averaged over the axes measured and, by :meth:`mean`, over samples.

    ``fraction`` in [0, 1]; ``specific_surface`` as the function of that name; ``s2``, ``lineal_path`` for lags
    0, 1, 2 … voxels.
    """

    fraction: float
    specific_surface: float
    s2: tuple[float, ...]
    lineal_path: tuple[float, ...]

    @classmethod
    def of(cls, indicator: Indicator, max_lag: int, axes: Iterable[int] | None = None) -> Descriptors:
        """Measure one phase, given as a boolean array, along ``axes`` (all of them by default)."""
        along = tuple(axes) if axes is not None else tuple(range(indicator.ndim))

        def mean_over_axes(curve: Callable[[Indicator, int, int], Floats]) -> tuple[float, ...]:
            return tuple(np.mean([curve(indicator, axis, max_lag) for axis in along], axis=0).tolist())

        return cls(
            float(indicator.mean()),
            specific_surface(indicator, along),
            mean_over_axes(two_point_correlation),
            mean_over_axes(lineal_path),
        )

    @classmethod
    def interpolated(cls, one: Descriptors, other: Descriptors, weight: float) -> Descriptors:
        """Between ``one`` at weight 0 and ``other`` at weight 1."""

        def mix(a: float, b: float) -> float:
            return (1 - weight) * a + weight * b

        return cls(
            mix(one.fraction, other.fraction),
            mix(one.specific_surface, other.specific_surface),
            tuple(map(mix, one.s2, other.s2)),
            tuple(map(mix, one.lineal_path, other.lineal_path)),
        )

    @classmethod
    def mean(cls, samples: Sequence[Descriptors]) -> Descriptors:
        """Average of several samples' descriptors, as the paper averages its 25 volumes (section 4)."""

        def average(curves: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
            return tuple(np.mean(curves, axis=0).tolist())

        return cls(
            float(np.mean([s.fraction for s in samples])),
            float(np.mean([s.specific_surface for s in samples])),
            average([s.s2 for s in samples]),
            average([s.lineal_path for s in samples]),
        )


def reference_descriptors(
    labels: npt.NDArray[np.integer],
    names: Sequence[str],
    image_size: tuple[int, int],
    axes: Iterable[int] | None = None,
) -> dict[str, Descriptors]:
    """Descriptors of each phase of a material, by name; label i is the phase ``names[i]``.

    Measured to lags of half the network's image, along every one of ``axes`` (by default all) that is longer than that.

    Raises:
        DataError: no axis is.
    """
    max_lag = min(image_size) // 2
    among = axes if axes is not None else range(labels.ndim)
    along = [axis for axis in among if labels.shape[axis] > max_lag]
    if not along:
        raise DataError(f"{labels.shape} voxels are too few for curves of {max_lag} lags")
    return {name: Descriptors.of(labels == label, max_lag, along) for label, name in enumerate(names)}


def _leading(indicator: Indicator, axis: int, max_lag: int) -> Indicator:
    if indicator.dtype != np.bool_:
        raise DataError(f"descriptors take a boolean array, not {indicator.dtype}: compare the labels with a phase")
    if not -indicator.ndim <= axis < indicator.ndim:
        raise DataError(f"axis {axis} does not exist in an array of {indicator.ndim} dimensions")
    if not 0 <= max_lag < indicator.shape[axis]:
        raise DataError(f"lag {max_lag} does not fit into {indicator.shape[axis]} voxels along axis {axis}")
    return np.moveaxis(indicator, axis, 0)
