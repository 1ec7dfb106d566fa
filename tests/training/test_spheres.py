"""Case I of Micro3Diff: the spheres are spheres, apart, periodic, and as large as they should be; or they overlap."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import kstest, truncnorm
from typer.testing import CliRunner

from mdiff_core import DataError, UsageError
from mdiff_training.cli import app
from mdiff_training.data.spheres import overlapping_spheres, spheres

MEAN, STD = 15.0, 4.0


def periodic_labels(volume: np.ndarray) -> np.ndarray:
    """Face-connected components, joined across opposite faces of the box; 0 is the matrix."""
    labels, count = label(volume)
    ends = [(np.take(labels, 0, axis), np.take(labels, -1, axis)) for axis in range(3)]
    first, last = (np.concatenate([pair[i].ravel() for pair in ends]) for i in (0, 1))
    touching = (first > 0) & (last > 0)
    edges = coo_array((np.ones(touching.sum()), (first[touching], last[touching])), shape=(count + 1, count + 1))
    return connected_components(edges, directed=False)[1][labels] * (labels > 0)


@pytest.fixture(scope="module")
def rods() -> list[np.ndarray]:
    return [spheres((300, 64, 64), fraction=0.30, seed=seed) for seed in (0, 1, 2)]


@pytest.fixture(scope="module")
def diameters(rods: list[np.ndarray]) -> np.ndarray:
    """Diameters of balls of the components' volumes; every component must be as long as that along every axis."""
    found = []
    for rod in rods:
        labels = periodic_labels(rod)
        for component in np.unique(labels)[1:]:
            where = np.nonzero(labels == component)
            diameter = (6 / np.pi * len(where[0])) ** (1 / 3)
            lengths = [len(np.unique(indices)) for indices in where]
            # A ball of diameter d meets d ± 1 layers, one less where a cap slips between the voxels. Two equal balls
            # that touch would measure 1.26 d by volume, and at least 1.58 d along one axis.
            assert all(abs(length - diameter) <= 2 for length in lengths)
            found.append(diameter)
    return np.array(found)


def test_a_rod_is_a_label_volume(rods: list[np.ndarray]):
    for rod in rods:
        assert rod.shape == (300, 64, 64)
        assert rod.dtype == np.uint8
        np.testing.assert_array_equal(np.unique(rod), [0, 1])


def test_spheres_fill_the_fraction_and_at_most_one_sphere_more(rods: list[np.ndarray]):
    largest = np.pi / 6 * (MEAN + 3 * STD) ** 3
    for rod in rods:
        # The number of voxels in a ball differs from its volume by a few times √(area): 1e-3 of the box in all.
        assert -1e-3 <= rod.mean() - 0.30 <= largest / rod.size + 1e-3


def test_every_component_is_one_sphere_also_across_the_faces(rods: list[np.ndarray], diameters: np.ndarray):
    expected = sum(rod.sum() for rod in rods) / (np.pi / 6 * np.mean(diameters**3))
    assert len(diameters) == pytest.approx(expected)
    for rod in rods:
        for axis in range(3):
            across = np.take(rod, 0, axis) != np.take(rod, -1, axis)
            inside = np.diff(rod.astype(int), axis=axis) != 0
            # The periodic face is a plane like any other: some 5 % of its pairs are unlike, not the 42 % of chance.
            assert across.mean() < 2 * inside.mean()


def test_diameters_are_the_normal_distribution_of_the_paper(diameters: np.ndarray):
    # Of some five hundred spheres, ten or so lie beyond 2.3 standard deviations, and none beyond 3.
    assert MEAN - 3 * STD - 0.5 < diameters.min() < MEAN - 2.3 * STD
    assert MEAN + 3 * STD + 0.5 > diameters.max() > MEAN + 2.3 * STD
    assert kstest(diameters, truncnorm(-3, 3, MEAN, STD).cdf).pvalue > 0.01


def test_the_gap_keeps_surfaces_apart():
    """At three voxels of gap, growing every sphere by one voxel makes none touch."""
    volume = spheres((64, 64, 64), fraction=0.15, gap=3.0, seed=1)
    grown = volume.copy()
    for axis in range(3):
        grown |= np.roll(volume, 1, axis) | np.roll(volume, -1, axis)
    count = len(np.unique(periodic_labels(volume)))
    assert count > 5
    assert len(np.unique(periodic_labels(grown))) == count


def test_a_seed_is_a_volume():
    first, again, other = (spheres((40, 40, 40), fraction=0.2, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.05


def test_equal_spheres():
    volume = spheres((60, 60, 60), fraction=0.1, diameter_mean=20.0, diameter_std=0.0)
    _, counts = np.unique(periodic_labels(volume), return_counts=True)
    assert len(counts) - 1 == np.ceil(0.1 * 60**3 / (np.pi / 6 * 20**3))
    np.testing.assert_allclose(counts[1:], np.pi / 6 * 20**3, rtol=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0.0}, "fraction 0.0"),
        ({"fraction": 0.5}, "fraction 0.5"),
        ({"diameter_mean": 1.0}, "a mean above 1"),
        ({"diameter_std": -1.0}, "a mean above 1"),
        ({"gap": -1.0}, "a mean above 1"),
        ({"shape": (64, 64, 29)}, "too small for spheres"),
        ({"shape": (32, 32, 32), "diameter_std": 6.0}, "too small for spheres"),
    ],
)
def test_sizes_that_make_no_sense_are_usage_errors(options: dict, message: str):
    with pytest.raises(UsageError, match=message):
        spheres(**{"shape": (64, 64, 64)} | options)


def test_spheres_that_do_not_fit_are_a_data_error():
    with pytest.raises(DataError, match="found no room: lower the fraction"):
        spheres((30, 30, 30), fraction=0.3, diameter_std=0.0, gap=14.0)


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.4, 0.6, 0.7])
def test_overlapping_spheres_fill_the_fraction_within_2_in_a_thousand(fraction: float):
    for seed in range(3):
        volume = overlapping_spheres((150, 64, 64), fraction=fraction, seed=seed)
        assert volume.shape == (150, 64, 64)
        assert volume.dtype == np.uint8
        assert abs(volume.mean() - fraction) <= 0.002
        assert volume.max() == 1


@pytest.mark.parametrize("fraction", [0.3, 0.7])
def test_overlapping_spheres_are_the_boolean_model(fraction: float):
    """Torquato (2002), sections 5.2 and 6.2: the chance that a body holds no centre is exp(-ρ volume).

    Two points r apart lie in the matrix if two balls around them hold none, and the segment between them does if the
    capsule around it holds none.
    """
    radius, edge, count = 6.0, 100, 3
    matrices = [
        overlapping_spheres((edge,) * 3, fraction=fraction, diameter_mean=2 * radius, diameter_std=0.0, seed=seed) == 0
        for seed in range(count)
    ]
    ball = 4 / 3 * np.pi * radius**3
    density = -np.log(np.mean(matrices)) / ball
    for lag in (1, 3, 6, 9, 12, 15, 20):
        apart = min(lag, 2 * radius)
        union = 2 * ball - np.pi / 12 * (4 * radius + apart) * (2 * radius - apart) ** 2
        both = [m & np.roll(m, lag, axis) for m in matrices for axis in range(3)]
        # Three realizations scatter by 0.001, and the voxels take another 0.002 off a sphere of 12.
        assert np.mean(both) == pytest.approx(np.exp(-density * union), abs=0.004)
        whole = [np.all([np.roll(m, s, axis) for s in range(lag + 1)], axis=0) for m in matrices for axis in range(3)]
        capsule = ball + np.pi * radius**2 * lag
        assert np.mean(whole) == pytest.approx(np.exp(-density * capsule), abs=0.004)


def test_overlapping_spheres_are_periodic_and_a_seed_is_a_volume():
    volume = overlapping_spheres((60, 60, 60), fraction=0.5, seed=5)
    for axis in range(3):
        across = np.take(volume, 0, axis) != np.take(volume, -1, axis)
        inside = np.diff(volume.astype(int), axis=axis) != 0
        assert across.mean() < 2 * inside.mean()
    np.testing.assert_array_equal(volume, overlapping_spheres((60, 60, 60), fraction=0.5, seed=5))
    assert (volume != overlapping_spheres((60, 60, 60), fraction=0.5, seed=6)).mean() > 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0.0}, "fraction 0.0"),
        ({"fraction": 1.0}, "fraction 1.0"),
        ({"diameter_mean": 1.0}, "a mean above 1"),
        ({"shape": (64, 64, 26)}, "too small for spheres"),
    ],
)
def test_overlapping_sizes_that_make_no_sense_are_usage_errors(options: dict, message: str):
    with pytest.raises(UsageError, match=message):
        overlapping_spheres(**{"shape": (64, 64, 64)} | options)


def test_a_fraction_of_less_than_one_sphere_is_a_data_error():
    with pytest.raises(DataError, match=r"no sphere brings 0\.005 of \(40, 40, 40\) voxels within 0\.002"):
        overlapping_spheres((40, 40, 40), fraction=0.005, diameter_std=0.0)


def test_the_command_makes_either(tmp_path: Path):
    size = ["--length", "40", "--width", "32", "--seed", "4"]
    assert CliRunner().invoke(app, ["spheres", str(tmp_path / "apart.npy"), *size, "--fraction", "0.2"]).exit_code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "apart.npy"), spheres((40, 32, 32), fraction=0.2, seed=4))
    overlapping = ["spheres", str(tmp_path / "over.npy"), *size, "--fraction", "0.6", "--overlapping"]
    assert CliRunner().invoke(app, overlapping).exit_code == 0
    np.testing.assert_array_equal(
        np.load(tmp_path / "over.npy"), overlapping_spheres((40, 32, 32), fraction=0.6, seed=4)
    )
