"""The tilt: phase fractions held by one factor of odds for all voxels."""

import numpy as np
import pytest

from mdiff_client.sampling.tilt import Tilt


def tilted(field, fractions):
    return Tilt.of_shares(field, fractions)(field)


@pytest.fixture
def field():
    return np.random.default_rng(0).uniform(-0.999, 0.999, (1, 16, 16, 16)).astype(np.float32)


@pytest.fixture
def three_phases():
    """Twice the probabilities less one, of three phases in 16³ voxels."""
    odds = np.exp(np.random.default_rng(1).normal(0, 3, (3, 16, 16, 16)))
    return (2 * odds / odds.sum(axis=0) - 1).astype(np.float32)


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.5, 0.85])
def test_the_share_above_zero_becomes_the_fraction(field, fraction):
    result = tilted(field, (1 - fraction, fraction))
    assert (result > 0).mean() == pytest.approx(fraction, abs=3e-4)
    assert result.dtype == np.float32
    assert np.abs(result).max() <= 1


def test_every_voxels_odds_change_by_one_factor(field):
    shift = np.arctanh(tilted(field.astype(float), (0.7, 0.3))) - np.arctanh(field.astype(float))
    inner = np.abs(field) < 0.99
    assert np.ptp(shift[inner]) < 1e-9


def test_a_field_that_fits_already_is_left_alone(field):
    share = float((field > 0).mean())
    assert np.allclose(tilted(field, (1 - share, share)), field, atol=2e-3)


def test_the_nearest_to_undecided_change_sides_first():
    """450 voxels decided each way and 100 undecided, of which the surer half must cross to make 50 more."""
    undecided = np.linspace(-0.5, -0.1, 100)
    result = tilted(np.concatenate([np.full(450, -0.999), np.full(450, 0.999), undecided])[None], (0.5, 0.5))[0]
    assert (result[:450] < -0.9).all()
    assert (result[450:900] > 0.9).all()
    assert (result[900:] > 0).tolist() == [False] * 50 + [True] * 50


def test_a_field_of_decided_voxels_stays_finite():
    assert np.isfinite(tilted(np.repeat([[-1.0, 1.0]], [70, 30], axis=1), (0.5, 0.5))).all()
    decided = np.eye(3)[np.repeat([0, 1, 2], [70, 20, 10])].T * 2 - 1
    assert np.isfinite(tilted(decided, (0.3, 0.3, 0.4))).all()


@pytest.mark.parametrize("fractions", [(0.4, 0.5, 0.1), (0.1, 0.1, 0.8), (1 / 3, 1 / 3, 1 / 3)])
def test_most_probable_phases_get_their_shares(three_phases, fractions):
    result = tilted(three_phases, fractions)
    shares = np.bincount(result.argmax(axis=0).ravel(), minlength=3) / result[0].size
    assert shares == pytest.approx(fractions, abs=1.1e-3)
    assert result.dtype == np.float32


def test_odds_between_phases_change_by_one_factor_and_probabilities_add_up(three_phases):
    before, after = ((1 + field.astype(float)) / 2 for field in (three_phases, tilted(three_phases, (0.4, 0.5, 0.1))))
    assert np.allclose(after.sum(axis=0), 1, atol=1e-5)
    inner = (before.min(axis=0) > 1e-3) & (after.min(axis=0) > 1e-3)
    for first, second in ((0, 1), (0, 2)):
        factor = (after[first] / after[second]) / (before[first] / before[second])
        assert np.ptp(np.log(factor[inner])) < 1e-3


@pytest.mark.parametrize("fractions", [(0.4, 0.5, 0.1), (0.1, 0.1, 0.8)])
def test_mean_probabilities_become_the_fractions(three_phases, fractions):
    result = Tilt.of_means(three_phases, fractions)(three_phases)
    assert ((1 + result) / 2).mean(axis=(1, 2, 3)) == pytest.approx(fractions, abs=1e-3)


def test_the_mean_of_two_phases_becomes_theirs(field):
    assert Tilt.of_means(field, (0.8, 0.2))(field).mean() == pytest.approx(2 * 0.2 - 1, abs=2e-3)


def test_a_search_from_near_ends_at_the_same_tilt(three_phases):
    for find in (Tilt.of_shares, Tilt.of_means):
        alone = find(three_phases, (0.4, 0.5, 0.1))
        near = find(three_phases, (0.4, 0.5, 0.1), find(three_phases, (0.3, 0.5, 0.2)))
        assert near(three_phases) == pytest.approx(alone(three_phases), abs=0.02)


@pytest.mark.parametrize("asked", [0.31, 0.29, 0.05])
def test_a_phase_survives_of_which_more_is_certain_than_is_asked_for(asked):
    field = np.concatenate([np.full(304, 1.0), np.linspace(-1, 0.99, 696)]).astype(np.float32)[None]
    assert (tilted(field, (1 - asked, asked)) > 0).mean() >= min(asked, 0.304)


def test_a_phase_that_is_to_be_absent_leaves_numbers(three_phases):
    for fractions in ((0.0, 0.3, 0.7), (1.0, 0.0, 0.0)):
        assert np.isfinite(Tilt.of_means(three_phases, fractions)(three_phases)).all()
