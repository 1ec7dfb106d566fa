"""Our curves and those of PoreSpy and MCRpy on the same binary material; where definitions differ, by how much."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mdiff_client.metrics.correlation import radial_two_point_correlation
from mdiff_client.metrics.mcrpy import descriptor_distances, run_program
from mdiff_client.metrics.morphology import chord_lengths
from mdiff_core import error_rate, lineal_path, two_point_correlation


@pytest.fixture(scope="module")
def volume():
    """A third of it is in the phase; correlated over a few voxels, and periodic."""
    noise = gaussian_filter(np.random.default_rng(0).standard_normal((48, 48, 48)), 2.5, mode="wrap")
    return noise > np.quantile(noise, 2 / 3)


@pytest.fixture(scope="module")
def porespy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("porespy", reason="PoreSpy is not installed: pip install '.[test]'")


def test_porespys_two_point_correlation_is_our_radial_one(porespy, volume):
    """Both over all pairs inside the volume. Within a ring PoreSpy counts every lag once, we every pair once."""
    lags = 16
    theirs = porespy.metrics.two_point_correlation(volume, bins=np.arange(-0.5, lags + 1)).probability_scaled
    assert theirs == pytest.approx(radial_two_point_correlation(volume, lags), rel=2e-3)


def test_porespys_own_rings_lie_half_a_voxel_farther_out(porespy, volume):
    """Ring k of its default bins holds lengths from k to k + 1: it is near the mean of ours at both."""
    theirs = porespy.metrics.two_point_correlation(volume, bins=np.arange(17)).probability_scaled[1:]
    ours = radial_two_point_correlation(volume, 16)
    assert theirs == pytest.approx((ours[1:-1] + ours[2:]) / 2, rel=0.06)
    assert np.abs(theirs / ours[2:] - 1).max() > 0.1


def every_other_line(volume, axis):
    """The lines that PoreSpy draws chords on with ``spacing=1``, none beside another."""
    return volume[tuple(slice(None, None, 1 if i == axis else 2) for i in range(3))]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_porespys_chords_are_ours(porespy, volume, axis):
    """It trims also the chords that lie in the volume's sides."""
    drawn = porespy.filters.apply_chords(volume, axis=axis, spacing=1, trim_edges=True, label=True)
    theirs = np.bincount(drawn.ravel())[1:]
    inner = tuple(slice(None) if i == axis else slice(1, -1) for i in range(3))
    assert sorted(theirs[theirs > 0]) == sorted(chord_lengths(every_other_line(volume, axis)[inner], axis))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_our_lineal_path_is_that_of_porespys_chords(porespy, volume, axis):
    """A chord of n voxels holds n - r segments of r + 1; PoreSpy's own ``lineal_path_distribution`` counts chords."""
    drawn = porespy.filters.apply_chords(volume, axis=axis, spacing=1, trim_edges=False, label=True)
    chords = np.bincount(drawn.ravel())[1:]
    lags = np.arange(17)
    theirs = np.maximum(chords[:, None] - lags, 0).sum(axis=0) / ((48 - lags) * 24**2)
    assert lineal_path(every_other_line(volume, axis), axis, 16) == pytest.approx(theirs)


_PROGRAM = """
import sys
import mcrpy, numpy as np
folder, threshold, steepness = sys.argv[1], *map(float, sys.argv[2:])
settings = mcrpy.CharacterizationSettings(
    descriptor_types=["TwoPointCorrelations", "LinealPath"],
    use_multigrid_descriptor=False, limit_to=16, use_multiphase=False, threshold_steepness=steepness)
settings.l_threshold_value = threshold
section = mcrpy.Microstructure(np.load(folder + "/section.npy"), use_multiphase=False, trainable=False)
found = mcrpy.characterize(section, settings)
np.savez(folder + "/found.npz", s2=found["TwoPointCorrelations"].ravel(), lp=found["LinealPath"].ravel())
"""


@pytest.fixture(scope="module")
def mcrpy():
    python = os.environ.get("MDIFF_MCRPY_PYTHON")
    if not python:
        pytest.skip("MDIFF_MCRPY_PYTHON names no Python with MCRpy: see mdiff_client.metrics.mcrpy")
    return Path(python)


@pytest.fixture(scope="module")
def section(volume):
    return volume[:, :, 20]


def characterized(mcrpy, section, folder, threshold, steepness):
    """MCRpy's S2 for lags 0 … 15 and LP for lags 0, 2 … 32, both [axis, lag], of a section that it takes as periodic.

    ``threshold`` and ``steepness`` are those of the sigmoid that stands for "all of these voxels lie in the phase".
    """
    np.save(folder / "section.npy", section.astype(float))
    run_program(mcrpy, _PROGRAM, str(folder), str(threshold), str(steepness))
    found = np.load(folder / "found.npz")
    lags = np.arange(16)
    half = np.arange(1, 17)
    lines = 1 + 2 * half * (half - 1)
    s2 = [found["s2"][16 * lags], found["s2"][lags]]
    lp = [[found["lp"][0], *found["lp"][lines + place]] for place in (3, 2)]
    return np.array(s2), np.array(lp)


def periodic(curve, section, lags):
    """Our curve [axis, lag] of a section with its other end behind it, so that every voxel begins a pair."""

    def value(axis, r):
        return curve(np.pad(section, [(0, r if i == axis else 0) for i in (0, 1)], mode="wrap"), axis, r)[r]

    return np.array([[value(axis, r) for r in lags] for axis in (0, 1)])


def test_mcrpys_two_point_correlation_and_lineal_path_are_ours_with_a_hard_threshold(mcrpy, section, tmp_path):
    s2, lp = characterized(mcrpy, section, tmp_path, 0.99, 10000)
    assert s2 == pytest.approx(periodic(two_point_correlation, section, range(16)), abs=1e-9)
    assert lp == pytest.approx(periodic(lineal_path, section, range(0, 33, 2)), abs=1e-9)


def test_mcrpys_soft_threshold_counts_a_little_of_pairs_half_in_the_phase(mcrpy, section, tmp_path):
    """Its defaults, which gradients need: a pair half in the phase counts 0.0066, which makes S2 2 % larger.

    In LP lines with a quarter of their voxels missing count half: its curve has more than twice the area of ours.
    """
    s2, lp = characterized(mcrpy, section, tmp_path, 0.75, 10)
    ours = periodic(two_point_correlation, section, range(16))

    def sigmoid(share):
        return 1 / (1 + np.exp(-10 * (share - 0.75)))

    half = (sigmoid(0.5) - sigmoid(0)) / (sigmoid(1) - sigmoid(0))
    assert half**2 == pytest.approx(0.0066, abs=1e-4)
    assert s2 == pytest.approx(ours + half**2 * 2 * (section.mean() - ours), abs=1e-7)
    path = periodic(lineal_path, section, range(0, 33, 2))
    assert max(map(error_rate, s2, ours)) < 3
    assert min(map(error_rate, lp, path)) > 100


def test_mcrpys_distance_of_a_section_to_itself_is_nothing(mcrpy, section):
    """E_S and E_G (Düreth et al. eqs. 8 and 9)."""
    sections = np.array([section, section.T])[:, :32, :32].astype(float)
    for descriptor in ("Correlations", "GramMatrices"):
        distances = descriptor_distances(sections, sections[::-1], descriptor, mcrpy)
        assert distances[0, 1] == distances[1, 0] == 0
        assert distances[0, 0] > 0
