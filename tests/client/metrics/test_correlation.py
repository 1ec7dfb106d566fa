"""Radial S2, and curves along each axis."""

import numpy as np
import pytest

from mdiff_client.metrics import correlation
from mdiff_client.metrics.correlation import axis_rows, radial_rows, radial_two_point_correlation
from mdiff_core import Descriptors


def by_hand(indicator, max_lag):
    """Every pair of voxels, one by one."""
    places = np.argwhere(np.ones(indicator.shape))
    lengths = np.rint(np.sqrt(((places[:, None] - places[None]) ** 2).sum(axis=-1)))
    both = np.logical_and.outer(indicator.ravel(), indicator.ravel())
    return [both[lengths == r].mean() for r in range(max_lag + 1)]


@pytest.mark.parametrize("shape", [(7, 8, 6), (12, 15)])
def test_it_is_the_share_of_all_pairs_of_that_distance(shape):
    indicator = np.random.default_rng(0).random(shape) < 0.4
    assert radial_two_point_correlation(indicator, 5) == pytest.approx(by_hand(indicator, 5), abs=1e-6)


def test_an_uncorrelated_field_has_the_square_of_its_fraction():
    field = np.random.default_rng(1).random((64, 64, 64)) < 0.3
    curve = radial_two_point_correlation(field, 20)
    assert curve[0] == pytest.approx(field.mean(), abs=1e-6)
    assert curve[1:] == pytest.approx(0.09, abs=2e-3)


def test_a_ball_has_the_volume_of_two_that_overlap():
    """Closed form: of balls of radius R at distance r the share 1 - 3r/4R + r³/16R³ (Torquato, eq. 2.76)."""
    grid = np.indices((72, 72, 72)) - 35.5
    radius = 20
    ball = (grid**2).sum(axis=0) <= radius**2
    lags = np.arange(19)
    # All pairs of the box count, and fewer of them the longer they are.
    share = 1 - 3 * lags / (4 * radius) + lags**3 / (16 * radius**3)
    pairs = np.array([mean_window(72, r) for r in lags])
    assert radial_two_point_correlation(ball, 18) == pytest.approx(ball.mean() * share / pairs, rel=0.02)


def mean_window(n, r):
    """Share of the places of a box n³ from which a step of length r in a random direction stays inside."""
    steps = np.random.default_rng(0).standard_normal((20000, 3))
    steps *= r / np.linalg.norm(steps, axis=1, keepdims=True)
    return np.prod(1 - np.abs(steps) / n, axis=1).mean()


def test_blocks_tell_the_same_as_the_whole(monkeypatch):
    field = np.random.default_rng(2).random((70, 40, 40)) < 0.5
    whole = radial_two_point_correlation(field, 10)
    monkeypatch.setattr(correlation, "_BLOCK", 30)
    assert radial_two_point_correlation(field, 10) == pytest.approx(whole, abs=5e-3)


def test_the_error_is_that_of_the_mean_curve_to_the_real_material(setting, volumes):
    rng = np.random.default_rng(3)
    real = rng.random((40, 40, 40)) < 0.5
    curves = {"active": Descriptors.of(real, 8)}
    rows = list(radial_rows(volumes(real), setting(real=real, references=curves)))
    assert [row.of for row in rows] == ["active"]
    assert rows[0].figure(rows[0].samples) == pytest.approx(0, abs=1e-3)
    denser = rng.random((40, 40, 40)) < 0.6
    row = next(iter(radial_rows(volumes(denser), setting(real=real, references=curves))))
    # Areas of f² r, and half a lag of f at r = 0.
    expected = 100 * (7.5 * (0.36 - 0.25) + 0.5 * 0.1) / (7.5 * 0.25 + 0.5 * 0.5)
    assert row.figure(row.samples) == pytest.approx(expected, rel=0.03)


def test_each_axis_is_held_to_its_own_curve_where_it_is_known(setting, volumes):
    layers = np.broadcast_to((np.arange(40) % 8 < 4)[:, None, None], (40, 40, 40))
    overall = {"active": Descriptors.of(layers, 8)}
    along = {axis: {"active": Descriptors.of(layers, 8, [i])} for i, axis in enumerate("zyx")}

    def errors(**known):
        rows = axis_rows(volumes(layers), setting(references=overall, **known))
        return {row.of: row.figure(row.samples) for row in rows}

    assert set(errors()) == {f"{curve} of active along {axis}" for curve in ("S2", "LP") for axis in "zyx"}
    assert set(errors(references_along=along).values()) == {0}
    assert min(errors().values()) > 10
