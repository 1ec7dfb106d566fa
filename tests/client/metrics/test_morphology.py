"""Euler number, chords and percolation of bodies that are known."""

import numpy as np
import pytest

from mdiff_client.library.quality import percolates
from mdiff_client.metrics.morphology import (
    chord_distribution_rows,
    chord_lengths,
    chord_rows,
    euler_number,
    euler_rows,
    largest_body_rows,
    percolation_rows,
)


def ball(radius, shape=(24, 24, 24), centre=(12, 12, 12)):
    grid = np.indices(shape)
    return sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)) <= radius**2


def torus(ring=8, tube=3):
    z, y, x = np.indices((24, 24, 24)) - 12
    return (np.hypot(y, x) - ring) ** 2 + z**2 <= tube**2


def laminate(thickness, period, n=40):
    return np.broadcast_to((np.arange(n) % period < thickness)[:, None, None], (n, 8, 8))


@pytest.mark.parametrize(
    ("body", "number"),
    [
        (ball(6), 1),
        (ball(8) & ~ball(4), 2),  # a body and a cavity
        (torus(), 0),
        (sum(ball(2, centre=c) for c in [(5, 5, 5), (5, 15, 15), (18, 5, 18)]) > 0, 3),
        (np.zeros((8, 8, 8), bool), 0),
    ],
    ids=["ball", "shell", "torus", "three balls", "nothing"],
)
def test_the_euler_number_counts_bodies_tunnels_and_cavities(body, number):
    assert euler_number(body) == number


def test_voxels_that_share_an_edge_are_two_bodies_and_do_not_percolate():
    staircase = np.zeros((2, 2, 2), bool)
    staircase[0, 0] = staircase[1, 1] = True
    assert euler_number(staircase) == 2
    assert percolates(staircase) == "x"


def test_the_largest_body_is_told_by_its_share(volumes, setting):
    labels = (ball(6, centre=(8, 8, 8)) | ball(2, centre=(20, 20, 20))).astype(np.uint8)
    rows = {row.of: row.figure(row.samples) for row in largest_body_rows(volumes(labels, labels), setting())}
    assert rows["active"] == pytest.approx(ball(6).sum() / (ball(6).sum() + ball(2).sum()))
    assert rows["rest"] == 1


def test_the_chords_of_a_laminate_are_as_long_as_it_is_thick():
    layers = laminate(3, 10)  # 0-2, 10-12, 20-22 and 30-32; the first begins at the edge, so it may be longer
    assert set(chord_lengths(layers, 0)) == {3}
    assert len(chord_lengths(layers, 0)) == 3 * 64
    assert len(chord_lengths(layers, 1)) == 0
    assert set(chord_lengths(~layers, 0)) == {7}


def test_the_chords_of_a_checkerboard_are_one_voxel():
    board = np.indices((9, 9, 9)).sum(axis=0) % 2 == 0
    assert set(chord_lengths(board, 1)) == {1}
    assert len(chord_lengths(board, 1)) == 41 * 3 + 40 * 4  # of the five in a line those at its ends are cut


def test_chords_cut_by_an_edge_do_not_count():
    line = np.array([[1, 1, 0, 1, 1, 1, 0, 0, 1, 0, 1]], bool)
    assert list(chord_lengths(line, 1)) == [3, 1]
    assert list(chord_lengths(np.array([[0, 0, 1, 1]], bool), 1)) == []
    assert list(chord_lengths(np.ones((1, 5), bool), 1)) == []


def test_random_chords_are_those_found_one_by_one():
    rng = np.random.default_rng(0)
    lines = rng.random((50, 30)) < 0.6
    expected = [len(run) for line in lines for run in "".join("01"[int(v)] for v in line).strip("1").split("0") if run]
    assert sorted(chord_lengths(lines, 1)) == sorted(expected)


def test_the_mean_chord_is_of_all_chords_alike(setting, volumes):
    """One volume has 192 chords of 3 voxels, the other 64 × 2 of 5."""
    rows = {row.of: row for row in chord_rows(volumes(laminate(3, 10), laminate(5, 12, 36)), setting())}
    row = rows["active along z"]
    assert row.figure(row.samples) == pytest.approx((192 * 3 + 128 * 5) / (192 + 128))
    assert set(rows) == {"active along z", "rest along z"}


def test_the_distance_of_chord_distributions_is_how_far_chords_are_stretched(setting, volumes):
    rows = {row.of: row for row in chord_distribution_rows(volumes(laminate(5, 12)), setting(real=laminate(3, 10)))}
    assert rows["active"].figure(rows["active"].samples) == pytest.approx(2)
    same = next(iter(chord_distribution_rows(volumes(laminate(3, 10)), setting(real=laminate(3, 10)))))
    assert same.figure(same.samples) == 0


def test_a_rod_percolates_along_itself(setting, volumes):
    rod = np.zeros((12, 12, 12), bool)
    rod[:, 4:8, 4:8] = True
    rows = {row.of: float(row.samples.mean()) for row in percolation_rows(volumes(rod, ~rod), setting())}
    assert rows["active along z"] == 1
    assert rows["active along y"] == rows["active along x"] == 0.5


def test_the_euler_number_is_told_for_1000_voxels(setting, volumes):
    rows = {row.of: row for row in euler_rows(volumes(ball(6)), setting())}
    assert rows["active"].samples == pytest.approx([1000 / 24**3])
    assert list(euler_rows(volumes(np.zeros((8, 8))), setting())) == []
