import numpy as np
import pytest

from mdiff_client.sampling.tilt import tilt


@pytest.fixture
def field():
    return np.random.default_rng(0).uniform(-0.999, 0.999, (16, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.5, 0.85])
def test_the_share_above_zero_becomes_the_fraction(field, fraction):
    tilted = tilt(field, fraction)
    assert (tilted > 0).mean() == pytest.approx(fraction, abs=1 / field.size)
    assert tilted.dtype == np.float32
    assert np.abs(tilted).max() <= 1


def test_every_voxels_odds_change_by_one_factor(field):
    shift = np.arctanh(tilt(field.astype(float), 0.3)) - np.arctanh(field.astype(float))
    inner = np.abs(field) < 0.99
    assert np.ptp(shift[inner]) < 1e-9


def test_a_field_that_fits_already_is_left_alone(field):
    assert np.allclose(tilt(field, float((field > 0).mean())), field, atol=2e-3)


def test_the_nearest_to_undecided_change_sides_first():
    """450 voxels decided each way and 100 undecided, of which the surer half must cross to make 50 more."""
    undecided = np.linspace(-0.5, -0.1, 100)
    tilted = tilt(np.concatenate([np.full(450, -0.999), np.full(450, 0.999), undecided]), 0.5)
    assert (tilted[:450] < -0.9).all()
    assert (tilted[450:900] > 0.9).all()
    assert (tilted[900:] > 0).tolist() == [False] * 50 + [True] * 50


def test_a_field_of_decided_voxels_stays_finite():
    assert np.isfinite(tilt(np.repeat([-1.0, 1.0], [70, 30]), 0.5)).all()
