"""Case II of Micro3Diff, as a solid: closed grains of the sizes asked for, in equal parts, in walls of one voxel."""

import tracemalloc
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, label
from typer.testing import CliRunner

from mdiff_core import DataError, UsageError
from mdiff_training.cli import app
from mdiff_training.data import grains as module
from mdiff_training.data.grains import REACH, grains, laguerre, packed_balls

SHAPE, SIZES, SEED = (96, 64, 48), (10, 14, 18), 0


@pytest.fixture(scope="module")
def rod() -> np.ndarray:
    return grains(SHAPE, sizes=SIZES, seed=SEED)


@pytest.fixture(scope="module")
def tessellation() -> tuple[np.ndarray, np.ndarray]:
    """The cell of each voxel of the rod, and the diameter that each cell was meant to have."""
    centres, radii = packed_balls(SHAPE, SIZES, np.random.default_rng(SEED))
    return laguerre(centres, radii, SHAPE)[0], 2 * radii


def middles(shape: tuple[int, ...]) -> np.ndarray:
    return np.stack(np.indices(shape), axis=-1) + 0.5


def section_means(volume: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(volume, axis, 0).mean(axis=(1, 2))


def test_a_rod_is_a_label_volume(rod: np.ndarray):
    assert rod.shape == SHAPE
    assert rod.dtype == np.uint8
    np.testing.assert_array_equal(np.unique(rod), [0, 1])


def test_the_mean_size_of_the_grains_is_what_was_asked_for_within_3_percent(tessellation):
    cells, asked = tessellation
    volumes = np.bincount(cells.ravel(), minlength=len(asked))
    for size in SIZES:
        diameters = np.cbrt(6 / np.pi * volumes[asked == size])
        assert diameters.mean() == pytest.approx(size, rel=0.03)
        assert diameters.std() < 0.12 * size
        assert diameters.min() > 0.6 * size


def test_each_size_takes_a_third_of_the_volume_within_3_percent_of_it(tessellation):
    cells, asked = tessellation
    np.testing.assert_allclose([np.mean(asked[cells] == size) for size in SIZES], 1 / 3, atol=0.03)


def check_against_all_planes(centres: np.ndarray, radii: np.ndarray, shape: tuple[int, int, int]):
    """Independent: the power to every ball and all its 27 images, and the distance to every plane of equal power."""
    images = np.concatenate([centres + np.multiply(shift, shape) for shift in product((-1, 0, 1), repeat=3)])
    apart = np.linalg.norm(images[:, None] - images, axis=-1)
    points = middles(shape).reshape(-1, 3)
    power = np.sum((points[:, None] - images) ** 2, axis=-1) - np.tile(radii, 27) ** 2
    own = power.argmin(axis=1)
    with np.errstate(invalid="ignore"):  # an image is no distance apart from itself
        planes = (power - power.min(axis=1, keepdims=True)) / (2 * apart[own])
    cell, distance = (found.ravel() for found in laguerre(centres, radii, shape))
    np.testing.assert_array_equal(cell, own % len(radii))
    nearest, near = np.nanmin(planes, axis=1), distance <= REACH
    np.testing.assert_array_equal(near, nearest <= REACH)
    np.testing.assert_allclose(distance[near], nearest[near], atol=1e-9)


def test_cells_and_distances_are_those_of_a_power_diagram():
    shape = (16, 20, 18)
    check_against_all_planes(*packed_balls(shape, (5, 7, 8), np.random.default_rng(5)), shape)


def test_balls_without_a_cell_do_not_hide_a_boundary():
    """Nine balls within another are of less power, beside a boundary of its, than the ball on the other side."""
    large = np.array(list(product((5.2, 15.2), repeat=3)))
    hidden = large[0] + (0.5, 0, 0) + np.random.default_rng(0).normal(0, 0.05, (9, 3))
    check_against_all_planes(np.concatenate([large, hidden]), np.repeat([5.0, 4.0], [8, 9]), (20, 20, 20))


def test_distances_are_to_the_nearest_boundary():
    """Independent: a Euclidean distance transform on a grid seven times finer, where boundaries lie between voxels."""
    shape, fine, margin = (12, 13, 12), 7, 7
    centres, radii = packed_balls(shape, (6,), np.random.default_rng(6))
    _, distance = laguerre(centres, radii, shape)
    points = middles(tuple(np.multiply(shape, fine))) / fine
    least, cells = np.full(points.shape[:-1], np.inf), np.empty(points.shape[:-1], dtype=int)
    for i, (centre, radius) in enumerate(zip(centres, radii, strict=True)):
        offset = np.abs(points - centre)
        power = np.sum(np.minimum(offset, shape - offset) ** 2, axis=-1) - radius**2
        cells[power < least] = i
        least = np.minimum(least, power)
    cells = np.pad(cells, margin, mode="wrap")
    boundary = np.zeros(cells.shape, dtype=bool)
    for axis, step in product(range(3), (1, -1)):
        boundary |= cells != np.roll(cells, step, axis)
    middle = slice(margin + fine // 2, -margin, fine)
    expected = distance_transform_edt(~boundary)[middle, middle, middle] / fine
    np.testing.assert_allclose(np.minimum(distance, REACH), np.minimum(expected, REACH), atol=1 / fine)


def test_grains_are_closed(rod: np.ndarray, tessellation):
    """No path of face-connected dark voxels leads from one grain into another, across the faces of the box neither."""
    components, count = label(np.pad(rod, 1, mode="wrap") == 0)
    cells = np.pad(tessellation[0], 1, mode="wrap")
    dark = components > 0
    assert len(np.unique(np.stack([components[dark], cells[dark]]), axis=1).T) == count


def test_every_grain_is_one_piece(rod: np.ndarray, tessellation):
    """Of the grains that no face of the box cuts, each has a piece that holds all but a few of its dark voxels."""
    cells, asked = tessellation
    faces = [np.take(cells, end, axis).ravel() for axis in range(3) for end in (0, -1)]
    whole = np.setdiff1d(np.arange(len(asked)), np.concatenate(faces))
    assert len(whole) > 100
    components, _ = label(rod == 0)
    for grain in whole:
        pieces = np.bincount(components[(cells == grain) & (components > 0)])
        assert pieces.max() > 0.97 * pieces.sum()


@pytest.mark.parametrize("direction", [(0, 0, 1), (0, 1, 1), (1, 1, 1), (1, 2, 3), (-3, 1, 5)])
def test_walls_are_one_voxel_thick_in_every_direction(direction: tuple[int, int, int]):
    """Two balls meet on a plane; of a wall one thick, a ball of radius r about its middle holds π (r² − 1/12).

    A plane of these directions meets the grid alike after one voxel along x, so steps over it are all its offsets.
    The rim of so small a ball counts its voxels within 4 %.
    """
    shape, radius, steps = (32, 32, 32), 9, 10
    towards = 4 * np.divide(direction, np.linalg.norm(direction))
    volumes = []
    for step in range(steps):
        middle = np.array([16, 16, 16 + (step + 0.5) / steps])
        _, distance = laguerre(np.array([middle - towards, middle + towards]), np.ones(2), shape)
        inside = np.linalg.norm(middles(shape) - middle, axis=-1) < radius
        volumes.append(np.count_nonzero((distance <= REACH) & inside))
    assert np.mean(volumes) == pytest.approx(np.pi * (radius**2 - 1 / 12), rel=0.04)


def test_sections_in_all_three_directions_are_alike(rod: np.ndarray):
    unlike = np.array([np.mean(rod != np.roll(rod, 1, axis)) for axis in range(3)])
    np.testing.assert_allclose(unlike, unlike.mean(), rtol=0.02)
    # Fractions of sections scatter with the root of their area.
    scatter = [np.std(section_means(rod, axis)) * np.sqrt(rod.size / rod.shape[axis]) for axis in range(3)]
    np.testing.assert_allclose(scatter, np.mean(scatter), rtol=0.2)


def test_walls_are_seen_face_on_in_sections(rod: np.ndarray):
    """As in any solid of closed grains, and in no drawing of lines: a disc of wall seven voxels across."""
    y, x = np.indices((7, 7)) - 3
    disc = y**2 + x**2 <= 9
    for axis in range(3):
        sections = np.moveaxis(rod, axis, 0)
        windows = np.lib.stride_tricks.sliding_window_view(sections, (7, 7), axis=(1, 2))
        assert np.any(np.all(windows[..., disc], axis=-1))


def test_a_rod_is_periodic(rod: np.ndarray):
    for axis in range(3):
        across = np.take(rod, 0, axis) != np.take(rod, -1, axis)
        inside = section_means(np.diff(rod.astype(int), axis=axis) != 0, axis)
        assert across.mean() == pytest.approx(inside.mean(), abs=3 * inside.std())


def test_a_seed_is_a_volume():
    shape, sizes = (24, 20, 28), (6, 8, 10)
    first, again, other = (grains(shape, sizes=sizes, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.2


def test_memory_does_not_grow_with_the_product_of_voxels_and_neighbours():
    shape = (200, 36, 36)
    centres, radii = packed_balls(shape, SIZES, np.random.default_rng(7))
    tracemalloc.start()
    laguerre(centres, radii, shape)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < np.prod(shape) * 4 * 8  # four numbers a voxel, two of them the result


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": ()}, "at least one size"),
        ({"sizes": (2, 9)}, "all above 2"),
        ({"shape": (60, 60, 35)}, r"a box of \(60, 60, 35\) is too small for grains of \[10, 14, 18\] voxels"),
        ({"shape": (0, 60, 60)}, "too small for grains"),
        ({"shape": (50, 50, 50), "sizes": [25] * 31}, "too small for grains"),
    ],
)
def test_numbers_that_make_no_sense_are_usage_errors(arguments: dict, message: str):
    with pytest.raises(UsageError, match=message):
        grains(**arguments)


def test_grains_that_find_no_room_are_a_data_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "APART", 2)
    with pytest.raises(DataError, match=r"grain \d+ of \d+ found no room: make the box larger"):
        grains((20, 20, 20), sizes=(10,))


def test_the_command_writes_a_new_file_and_only_a_new_one(tmp_path: Path):
    out = tmp_path / "grains.npy"
    size = ["--length", "40", "--width", "36", "--seed", "7"]
    assert CliRunner().invoke(app, ["grains", str(out), *size]).exit_code == 0
    np.testing.assert_array_equal(np.load(out), grains((40, 36, 36), seed=7))
    again = CliRunner().invoke(app, ["grains", str(out)]).exception
    assert isinstance(again, UsageError)
    assert str(again) == f"{out} exists: choose another name, or remove it first"
    elsewhere = CliRunner().invoke(app, ["grains", str(tmp_path / "grains.tif")]).exception
    assert isinstance(elsewhere, UsageError)
    assert "is not an NPY file in an existing folder" in str(elsewhere)
