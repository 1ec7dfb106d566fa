"""The descriptors against closed forms of random media and against independent implementations.

Where a medium is random, the estimate is averaged over independent samples and must lie within four standard errors
(measured on the same samples) of the exact expectation; each test also shows that this is tight enough to matter.
"""

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import minimum_filter1d
from scipy.signal import correlate
from scipy.spatial import cKDTree

from mdiff_core import (
    DataError,
    Descriptors,
    error_rate,
    lineal_path,
    reference_descriptors,
    specific_surface,
    two_point_correlation,
)

NMC = Path(__file__).parents[3] / "shared" / "data" / "nmc" / "nmc-1-cal_generatedCBD_bridge.tif"


def brute_force(indicator: np.ndarray, axis: int, lag: int, *, whole_path: bool) -> float:
    """Share of the segments of ``lag`` voxels along ``axis`` whose ends, or all of whose voxels, lie in the phase."""
    hits = total = 0
    for start in itertools.product(*(range(n) for n in indicator.shape)):
        if start[axis] + lag >= indicator.shape[axis]:
            continue
        steps = range(lag + 1) if whole_path else (0, lag)
        points = [tuple(c + step * (i == axis) for i, c in enumerate(start)) for step in steps]
        hits += all(bool(indicator[point]) for point in points)
        total += 1
    return hits / total


def covariogram(radius: float, lag: float, ndim: int) -> float:
    """Volume that a ball and its copy shifted by ``lag`` have in common (lens)."""
    if lag >= 2 * radius:
        return 0.0
    if ndim == 2:
        return 2 * radius**2 * math.acos(lag / (2 * radius)) - lag / 2 * math.sqrt(4 * radius**2 - lag**2)
    return math.pi / 12 * (2 * radius - lag) ** 2 * (4 * radius + lag)


def balls(shape: tuple[int, ...], centres: np.ndarray, radius: float) -> np.ndarray:
    """True at the voxels whose middle lies within ``radius`` of a centre."""
    points = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).reshape(-1, len(shape))
    distance, _ = cKDTree(centres).query(points, distance_upper_bound=radius)
    return np.isfinite(distance).reshape(shape)


def assert_expected(samples: list[np.ndarray], expected: np.ndarray, resolution: float) -> None:
    """The samples' mean is within four standard errors of ``expected``, and those are below ``resolution``."""
    tolerance = 4 * np.std(samples, axis=0, ddof=1) / math.sqrt(len(samples))
    assert np.all(tolerance < resolution)
    assert np.all(np.abs(np.mean(samples, axis=0) - expected) <= tolerance + 1e-12)


# Independent implementations


@pytest.mark.parametrize(("shape", "axis"), [((9, 6), 0), ((9, 6), 1), ((9, 6), -1), ((4, 6, 5), 0), ((4, 6, 5), 2)])
@pytest.mark.parametrize(
    ("curve", "whole_path"), [(two_point_correlation, False), (lineal_path, True)], ids=["S2", "LP"]
)
def test_curves_equal_a_count_over_all_segments(curve: Callable, whole_path: bool, shape: tuple[int, ...], axis: int):
    indicator = np.random.default_rng(5).random(shape) < 0.7
    positive = axis % len(shape)
    expected = [brute_force(indicator, positive, r, whole_path=whole_path) for r in range(shape[axis])]
    np.testing.assert_allclose(curve(indicator, axis, shape[axis] - 1), expected, rtol=1e-12)


@pytest.mark.parametrize(("shape", "axis"), [((70, 90), 1), ((30, 20, 25), 0), ((30, 20, 25), 1), ((30, 20, 25), 2)])
def test_two_point_correlation_equals_the_zero_padded_autocorrelation(shape: tuple[int, ...], axis: int):
    indicator = np.random.default_rng(6).random(shape) < 0.4
    values = indicator.astype(float)
    middle = tuple(n - 1 for n in shape)
    pairs = correlate(values, values, mode="full", method="fft")
    n = shape[axis]
    along = [tuple(m + r * (i == axis) for i, m in enumerate(middle)) for r in range(n)]
    expected = [pairs[index] / (indicator.size // n * (n - r)) for r, index in enumerate(along)]
    np.testing.assert_allclose(two_point_correlation(indicator, axis, n - 1), expected, atol=1e-12)


def test_lineal_path_equals_the_volume_left_by_an_erosion_with_a_line():
    indicator = np.random.default_rng(7).random((40, 30, 20)) < 0.9
    for axis, n in enumerate(indicator.shape):
        curve = lineal_path(indicator, axis, n - 1)
        for r in (0, 1, 2, 7, n - 1):
            eroded = minimum_filter1d(indicator.astype(np.uint8), r + 1, axis=axis, origin=-((r + 1) // 2))
            inside = np.moveaxis(eroded, axis, 0)[: n - r]
            assert curve[r] == pytest.approx(inside.mean(), rel=1e-12)


@pytest.mark.skipif(not NMC.is_file(), reason="the NMC cathode (shared/data/nmc beside the repository) is not here")
def test_lineal_path_of_a_real_cathode_equals_a_count_of_its_runs():
    """A run of n voxels holds n − r segments of r + 1. Calendering has shortened the active runs along axis 0."""
    active, r, paths = tifffile.imread(NMC) == 1, 16, []
    for axis in range(3):
        lines = np.moveaxis(active, axis, -1)[::4, ::4]
        ends = np.diff(np.pad(lines, ((0, 0), (0, 0), (1, 1))).astype(np.int8), axis=-1)
        runs = np.nonzero(ends == -1)[2] - np.nonzero(ends == 1)[2]
        segments = lines[..., 0].size * (lines.shape[-1] - r)
        paths.append(lineal_path(lines, -1, r)[r])
        assert paths[axis] == pytest.approx(np.maximum(runs - r, 0).sum() / segments, rel=1e-12)
    assert paths[0] < 0.8 * min(paths[1:])


# Closed forms


@pytest.mark.parametrize("p", [0.3, 0.5])
def test_random_checkerboard(p: float):
    """Cells of a voxels, each in the phase with probability p, independently of the others.

    In the infinite medium S2(r) = p² + p(1−p)(1−r/a) for r < a, and a segment of r = q a + s voxels meets q + 1 cells
    with probability 1 − s/a, q + 2 otherwise, so LP(r) = p^{q+1} (1 − s/a + p s/a). Of the n a − r segments within
    n cells, n (a−r) lie in one cell, (n−q)(a−s) meet q + 1 and (n−q−1) s meet q + 2. The expectation is taken over
    all 2⁹ boards, weighted by their probability, so nothing is left to chance.
    """
    n, a = 3, 4
    s2 = np.zeros((2, n * a))
    lp = np.zeros((2, n * a))
    for bits in itertools.product([False, True], repeat=n * n):
        cells = np.array(bits).reshape(n, n)
        weight = p ** cells.sum() * (1 - p) ** (~cells).sum()
        board = cells.repeat(a, axis=0).repeat(a, axis=1)
        for axis in (0, 1):
            s2[axis] += weight * two_point_correlation(board, axis, n * a - 1)
            lp[axis] += weight * lineal_path(board, axis, n * a - 1)
    for r in range(n * a):
        q, s = divmod(r, a)
        same_cell = max(0, n * (a - r)) / (n * a - r)
        assert s2[:, r] == pytest.approx(p**2 + p * (1 - p) * same_cell, rel=1e-9)
        assert lp[:, r] == pytest.approx(
            p ** (q + 1) * ((n - q) * (a - s) + p * (n - q - 1) * s) / (n * a - r), rel=1e-9
        )


@pytest.mark.parametrize("ndim", [2, 3])
def test_single_ball(ndim: int):
    """The pairs inside one ball number its covariogram; in a convex body the segment between them lies inside too.

    The number of lattice points in a body placed uniformly at random is its volume on average, so no error of
    discretization is left in the mean over random centres.
    """
    rng, radius, size, samples = np.random.default_rng(8), 7.3, 20, []
    pairs = np.array([(size - r) * size ** (ndim - 1) for r in range(size)])
    for _ in range(60):
        ball = balls((size,) * ndim, rng.uniform(9, 10, (1, ndim)), radius)
        s2 = two_point_correlation(ball, 0, size - 1)
        np.testing.assert_array_equal(lineal_path(ball, 0, size - 1), s2)
        samples.append(s2 * pairs)
    expected = np.array([covariogram(radius, r, ndim) for r in range(size)])
    assert_expected(samples, expected, resolution=0.01 * expected[0])


@pytest.mark.parametrize(
    ("shape", "radius", "repeats"), [((300, 300), 5.0, 40), ((44, 44, 44), 4.0, 40)], ids=["discs", "spheres"]
)
def test_matrix_around_overlapping_balls(shape: tuple[int, ...], radius: float, repeats: int):
    """Boolean model: centres are a Poisson process of density ρ; a set lies in the matrix if no centre is near it.

    S2(r) = exp(−ρ (2V − γ(r))), with V the ball and γ its covariogram. A voxel tells only of its middle, so the path
    of r + 1 voxels avoids a chain of balls of volume V + r (V − γ(1)), in place of Torquato's sausage, which is
    larger by less than 1 / (4 R²) of its growth.
    """
    ndim = len(shape)
    volume = covariogram(radius, 0, ndim)
    density = math.log(2) / volume
    lags = np.arange(3 * int(radius))
    shared = np.array([covariogram(radius, r, ndim) for r in lags])
    s2_expected = np.exp(-density * (2 * volume - shared))
    lp_expected = np.exp(-density * (volume + lags * (volume - shared[1])))
    sausage = {2: 2 * radius, 3: math.pi * radius**2}[ndim]
    assert volume - shared[1] == pytest.approx(sausage, rel=1 / (4 * radius**2))

    rng, s2, lp = np.random.default_rng(9), [], []
    extent = np.array(shape) + 2 * radius
    for _ in range(repeats):
        centres = rng.uniform(0, 1, (rng.poisson(density * extent.prod()), ndim)) * extent - radius
        matrix = ~balls(shape, centres, radius)
        s2.append(two_point_correlation(matrix, 0, len(lags) - 1))
        lp.append(lineal_path(matrix, 0, len(lags) - 1))
    assert_expected(s2, s2_expected, resolution=0.02)
    assert_expected(lp, lp_expected, resolution=0.02)


def test_curves_of_a_full_and_an_empty_phase():
    full = np.ones((3, 4), dtype=bool)
    for curve in (two_point_correlation, lineal_path):
        np.testing.assert_array_equal(curve(full, 1, 3), [1, 1, 1, 1])
        np.testing.assert_array_equal(curve(~full, 1, 3), [0, 0, 0, 0])


# Error rate


def test_error_rate_by_hand():
    """Reference 1, ½, 0: area 1 under it. Curve 1, ¾, ¼: area (0 + ¼)/2 + (¼ + ¼)/2 = ⅜ between them."""
    assert error_rate([1, 0.75, 0.25], [1, 0.5, 0]) == pytest.approx(37.5)


def test_error_rate_does_not_let_excess_cancel_deficit():
    """Curve ½, 1 against 1, ½: ½ at either lag, over an area of ¾."""
    assert error_rate([0.5, 1], [1, 0.5]) == pytest.approx(100 * 0.5 / 0.75)


def test_error_rate_of_a_curve_with_itself_and_with_its_double():
    curve = np.exp(-np.arange(10) / 3)
    assert error_rate(curve, curve) == 0
    assert error_rate(2 * curve, curve) == pytest.approx(100)


def test_error_rate_compares_the_lags_that_both_curves_have():
    assert error_rate([1, 0.75, 0.25, 9, 9], [1, 0.5, 0]) == pytest.approx(37.5)
    assert error_rate([1, 0.75, 0.25], [1, 0.5, 0, 9]) == pytest.approx(37.5)


# Specific surface


@pytest.mark.parametrize("ndim", [2, 3])
def test_specific_surface_of_a_half_space(ndim: int):
    """n^{d−1} pairs across the face, of d n^{d−1} (n−1) pairs."""
    half = np.zeros((6,) * ndim, dtype=bool)
    half[:2] = True
    assert specific_surface(half) == pytest.approx(1 / (ndim * 5))


@pytest.mark.parametrize("ndim", [2, 3])
def test_specific_surface_along_the_axes_asked_for(ndim: int):
    """Of n − 1 pairs on a line, one crosses the face of a half space; a line along the face crosses none."""
    half = np.zeros((6,) * ndim, dtype=bool)
    half[:2] = True
    assert specific_surface(half, [0]) == pytest.approx(1 / 5)
    assert specific_surface(half, range(1, ndim)) == 0
    assert specific_surface(half, iter((0, ndim - 1))) == pytest.approx(1 / 10)


def test_specific_surface_weighs_pairs_and_not_axes():
    """Stripes across the longer axis: 7 unlike pairs on each of 3 lines, of 3·7 + 8·2 pairs."""
    stripes = np.tile(np.arange(8) % 2 == 0, (3, 1))
    assert specific_surface(stripes) == pytest.approx(21 / 37)
    assert specific_surface(stripes, [1]) == 1


def test_specific_surface_of_a_checkerboard_is_one():
    assert specific_surface(np.indices((5, 4, 3)).sum(axis=0) % 2 == 0) == 1


def test_twice_the_specific_surface_is_the_area_of_a_sphere_over_the_volume():
    """A line along an axis enters and leaves the ball once: 2 (π R² − π/12) pairs in each direction, on average.

    π R² lines have their chord in the ball, and a chord c < 1 holds no voxel with probability 1 − c: that loses
    ∫₀¹ (1 − c) d(π c²/4) = π/12 of them. So twice the share is 4 π R² / L³, up to 1/(12 R²) for the shortest chords
    and 1/L for the pairs at the faces of the box.
    """
    rng, radius, size = np.random.default_rng(10), 7.3, 20
    shares = [specific_surface(balls((size,) * 3, rng.uniform(9, 10, (1, 3)), radius)) for _ in range(60)]
    expected = 3 * 2 * (math.pi * radius**2 - math.pi / 12) / (3 * size**2 * (size - 1))
    assert_expected([np.array(share) for share in shares], np.array(expected), resolution=0.01 * expected)
    assert 2 * expected == pytest.approx(4 * math.pi * radius**2 / size**3, rel=1 / (12 * radius**2) + 1 / (size - 1))


# Descriptors of a sample


def test_descriptors_average_the_curves_over_the_axes_asked_for():
    indicator = np.random.default_rng(11).random((8, 9, 10)) < 0.5
    every, one = Descriptors.of(indicator, 5), Descriptors.of(indicator, 5, axes=[1])
    s2 = [two_point_correlation(indicator, axis, 5) for axis in range(3)]
    lp = [lineal_path(indicator, axis, 5) for axis in range(3)]
    np.testing.assert_allclose(every.s2, np.mean(s2, axis=0))
    np.testing.assert_allclose(every.lineal_path, np.mean(lp, axis=0))
    np.testing.assert_allclose(one.s2, s2[1])
    np.testing.assert_allclose(one.lineal_path, lp[1])
    assert every.fraction == one.fraction == indicator.sum() / 720
    assert every.s2[0] == pytest.approx(every.fraction)
    assert every.specific_surface == specific_surface(indicator)
    assert one.specific_surface == specific_surface(indicator, [1])


def test_mean_of_descriptors():
    samples = [Descriptors(0.2, 0.1, (0.2, 0.1), (0.2, 0.0)), Descriptors(0.4, 0.3, (0.4, 0.2), (0.4, 0.1))]
    mean = Descriptors.mean(samples)
    assert (mean.fraction, mean.specific_surface) == pytest.approx((0.3, 0.2))
    assert mean.s2 == pytest.approx((0.3, 0.15))
    assert mean.lineal_path == pytest.approx((0.3, 0.05))


# References of a material


def test_references_are_descriptors_of_each_phase_by_name_to_half_the_smaller_edge():
    labels = np.random.default_rng(12).integers(0, 3, (9, 8, 10)).astype(np.uint8)
    references = reference_descriptors(labels, ("pore", "active", "binder"), (12, 10))
    assert references == {
        name: Descriptors.of(labels == label, 5) for label, name in enumerate(("pore", "active", "binder"))
    }
    assert {len(of.s2) for of in references.values()} == {6}


@pytest.mark.parametrize(
    ("shape", "axes", "measured"),
    [
        ((9, 8, 10), None, (0, 1, 2)),
        ((4, 8, 10), None, (1, 2)),
        ((5, 4, 10), None, (0, 2)),
        ((9, 8, 10), [1], (1,)),
        ((9, 8, 4), (0, 2), (0,)),
        ((9, 5), None, (0, 1)),
        ((9, 8, 10), iter([2, 0]), (0, 2)),
    ],
)
def test_references_are_measured_along_every_axis_asked_for_that_is_longer_than_the_lags(
    shape: tuple[int, ...], axes, measured: tuple[int, ...]
):
    labels = np.random.default_rng(13).integers(0, 2, shape)
    references = reference_descriptors(labels, ("a", "b"), (8, 8), axes)
    expected = Descriptors.of(labels == 1, 4, measured)
    assert references["b"].s2 == pytest.approx(expected.s2, rel=1e-12)
    assert references["b"].lineal_path == pytest.approx(expected.lineal_path, rel=1e-12)
    assert references["b"].specific_surface == expected.specific_surface
    assert references["b"].fraction == labels.mean()


def test_references_along_one_axis_of_layers():
    """Layers of one voxel across axis 0: across them like follows unlike, along them nothing ever changes."""
    labels = np.tile((np.arange(8) % 2)[:, None], (1, 8))
    across, along = (reference_descriptors(labels, ("even", "odd"), (8, 8), [axis])["odd"] for axis in (0, 1))
    assert (across.specific_surface, along.specific_surface) == (1, 0)
    # Of the pairs that lie r = 2 or 4 apart, one in two starts in an odd layer.
    assert across.s2 == (0.5, 0, 0.5, 0, 0.5)
    assert across.lineal_path == (0.5, 0, 0, 0, 0)
    assert along.s2 == along.lineal_path == (0.5,) * 5


@pytest.mark.parametrize(("shape", "axes"), [((4, 4, 4), None), ((4, 9), [0]), ((9, 9, 9), [])])
def test_references_of_too_few_voxels_are_refused(shape: tuple[int, ...], axes: list[int] | None):
    with pytest.raises(DataError, match=r"too few for curves of 4 lags"):
        reference_descriptors(np.zeros(shape, dtype=np.uint8), ("a", "b"), (8, 8), axes)


# Errors


@pytest.mark.parametrize("curve", [two_point_correlation, lineal_path])
@pytest.mark.parametrize(
    ("indicator", "axis", "max_lag", "message"),
    [
        (np.zeros((4, 4), dtype=np.uint8), 0, 2, "boolean array, not uint8"),
        (np.zeros((4, 4), dtype=bool), 2, 2, "axis 2 does not exist"),
        (np.zeros((4, 4), dtype=bool), 0, 4, "lag 4 does not fit into 4 voxels"),
        (np.zeros((4, 4), dtype=bool), 0, -1, "lag -1 does not fit"),
    ],
)
def test_curves_refuse_what_they_cannot_measure(curve, indicator: np.ndarray, axis: int, max_lag: int, message: str):
    with pytest.raises(DataError, match=message):
        curve(indicator, axis, max_lag)


@pytest.mark.parametrize(
    ("curve", "reference", "message"),
    [([1], [1, 0], "at least two lags"), ([1, 0], [0, 0], "zero everywhere"), ([1, 0], [np.nan, 1], "zero everywhere")],
)
def test_error_rate_refuses_curves_without_area(curve: list[float], reference: list[float], message: str):
    with pytest.raises(DataError, match=message):
        error_rate(curve, reference)
