import numpy as np
import pytest

from mdiff_client.sampling.tilt import tilt


@pytest.fixture
def field():
    return np.random.default_rng(0).uniform(-0.999, 0.999, (16, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("mean", [-0.9, -0.4, 0.0, 0.7])
def test_the_mean_becomes_the_target(field, mean):
    assert tilt(field, mean).mean(dtype=float) == pytest.approx(mean, abs=1e-5)


def test_every_voxels_odds_change_by_one_factor(field):
    tilted = tilt(field, -0.4).astype(float)
    shift = np.arctanh(tilted) - np.arctanh(field.astype(float))
    inner = np.abs(field) < 0.99
    assert np.ptp(shift[inner]) < 1e-3


def test_a_field_that_fits_already_is_left_alone(field):
    assert np.allclose(tilt(field, float(field.mean(dtype=float))), field, atol=1e-4)


def test_decided_voxels_stay_and_undecided_ones_move():
    """Half decided each way but for a tenth at 0, which alone can bring the mean from 0 to 0.05."""
    field = np.repeat([-1.0, 1.0, 0.0], [450, 450, 100])
    tilted = tilt(field, 0.05)
    assert tilted[:450] == pytest.approx(-1, abs=1e-4)
    assert tilted[450:900] == pytest.approx(1, abs=1e-4)
    assert tilted[900:] == pytest.approx(0.5, abs=1e-3)
