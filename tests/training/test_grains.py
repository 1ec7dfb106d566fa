"""Case II of Micro3Diff: grains of the sizes asked for, in equal parts, within closed lines of one pixel."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, label
from scipy.spatial import cKDTree
from typer.testing import CliRunner

from mdiff_core import UsageError
from mdiff_training.cli import app
from mdiff_training.data.grains import grains, laguerre, packed_discs

EDGE, SIZES, COUNT = 64, (6, 9, 12), 40


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return grains(COUNT, EDGE, sizes=SIZES, seed=0)


@pytest.fixture(scope="module")
def tessellations() -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each image: the cell of each pixel, and the diameter that each cell was meant to have."""
    found = []
    for rng in np.random.default_rng(0).spawn(COUNT):
        centres, radii = packed_discs(EDGE, SIZES, rng)
        found.append((laguerre(centres, radii, EDGE)[0], 2 * radii))
    return found


def test_images_are_labels_and_independent(images: np.ndarray):
    assert images.shape == (COUNT, EDGE, EDGE)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(np.unique(images), [0, 1])
    # Independent images of boundary fraction f differ in 2 f (1 − f) of their pixels.
    f = images.mean()
    differing = np.mean(images[:-1] != images[1:], axis=(1, 2))
    np.testing.assert_allclose(differing, 2 * f * (1 - f), atol=0.03)


def test_the_mean_size_of_the_grains_is_what_was_asked_for_within_3_percent(tessellations):
    areas = np.concatenate([np.bincount(cells.ravel(), minlength=len(meant)) for cells, meant in tessellations])
    asked = np.concatenate([meant for _, meant in tessellations])
    for size in SIZES:
        diameters = np.sqrt(4 / np.pi * areas[asked == size])
        assert diameters.mean() == pytest.approx(size, rel=0.03)
        assert diameters.std() < 0.15 * size
        assert diameters.min() > 0.4 * size


def test_each_size_takes_a_third_of_every_image_within_4_percent_and_on_average_within_2(tessellations):
    shares = np.array([[np.mean(meant[cells] == size) for size in SIZES] for cells, meant in tessellations])
    np.testing.assert_allclose(shares, 1 / 3, atol=0.04)
    np.testing.assert_allclose(shares.mean(axis=0), 1 / 3, atol=0.02)


def test_cells_are_those_of_a_power_diagram():
    """Independent: points at height √(R² − r²) over the plane, where the nearest is the one of least power."""
    centres, radii = packed_discs(EDGE, SIZES, np.random.default_rng(5))
    height = np.sqrt(radii.max() ** 2 - radii**2)
    tree = cKDTree(np.column_stack([centres, height]), boxsize=[EDGE, EDGE, 0])
    y, x = np.indices((EDGE, EDGE)) + 0.5
    np.testing.assert_array_equal(laguerre(centres, radii, EDGE)[0], tree.query(np.stack([y, x, 0 * x], axis=-1))[1])


def test_memory_does_not_grow_with_the_product_of_pixels_and_grains():
    edge = 192
    centres, radii = packed_discs(edge, SIZES, np.random.default_rng(7))
    tracemalloc.start()
    laguerre(centres, radii, edge)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < edge**2 * len(radii) * 8 / 4


def test_distances_are_to_the_nearest_boundary():
    """Independent: a Euclidean distance transform on a grid nine times as fine, where boundaries lie between pixels."""
    edge, fine = 32, 9
    centres, radii = packed_discs(edge, SIZES, np.random.default_rng(6))
    _, distance = laguerre(centres, radii, edge)
    cells = np.pad(laguerre(centres * fine, radii * fine, edge * fine)[0], edge * fine // 2, mode="wrap")
    boundary = np.zeros(cells.shape, dtype=bool)
    for axis in (0, 1):
        for step in (1, -1):
            boundary |= cells != np.roll(cells, step, axis)
    middle = slice(edge * fine // 2 + fine // 2, -(edge * fine // 2), fine)
    np.testing.assert_allclose(distance, distance_transform_edt(~boundary)[middle, middle] / fine, atol=1 / fine)


def test_lines_are_closed(images: np.ndarray, tessellations):
    """No path of side-by-side dark pixels leads from one grain into another."""
    for image, (cells, _) in zip(images, tessellations, strict=True):
        components, count = label(np.tile(image == 0, (2, 2)))
        joined = {(c, g) for c, g in zip(components.ravel(), np.tile(cells, (2, 2)).ravel(), strict=True) if c}
        assert len(joined) == count


@pytest.mark.parametrize("degrees", range(0, 180, 15))
def test_lines_are_one_pixel_wide_in_every_direction(degrees: int):
    """Two discs meet on a straight line; 40 pixels of it, at random offsets from the grid, cover 40 pixels each."""
    towards = 8 * np.array([np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))])
    areas = []
    for middle in np.random.default_rng(degrees).uniform(45, 55, (40, 2)):
        _, distance = laguerre(np.array([middle - towards, middle + towards]), np.ones(2), 100)
        y, x = np.indices((100, 100)) + 0.5 - middle[:, None, None]
        areas.append(np.count_nonzero((distance <= 0.5) & (np.hypot(y, x) < 20)))
    assert np.mean(areas) == pytest.approx(40, abs=3 * np.std(areas) / np.sqrt(40) + 0.5)


def test_images_are_periodic(images: np.ndarray):
    for axis in (1, 2):
        across = np.take(images, 0, axis) != np.take(images, -1, axis)
        inside = np.diff(images.astype(int), axis=axis) != 0
        assert across.mean() == pytest.approx(inside.mean(), abs=0.03)


def test_an_image_depends_on_the_seed_and_not_on_how_many_there_are(images: np.ndarray):
    np.testing.assert_array_equal(grains(3, EDGE, seed=0), images[:3])
    assert (grains(1, EDGE, seed=1)[0] != images[0]).mean() > 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "at least one image"),
        ({"sizes": ()}, "at least one image"),
        ({"sizes": (2, 9)}, "sizes above 2"),
        ({"edge": 12}, "an image of 12 pixels is too small for grains"),
        ({"edge": 30, "sizes": (25,)}, "too small for grains"),
    ],
)
def test_numbers_that_make_no_sense_are_usage_errors(arguments: dict, message: str):
    with pytest.raises(UsageError, match=message):
        grains(**{"count": 2} | arguments)


def test_the_command_writes_a_new_file_and_only_a_new_one(tmp_path: Path):
    out = tmp_path / "grains.npy"
    assert CliRunner().invoke(app, ["grains", str(out), "--count", "2", "--width", "32", "--seed", "7"]).exit_code == 0
    np.testing.assert_array_equal(np.load(out), grains(2, 32, seed=7))
    again = CliRunner().invoke(app, ["grains", str(out)]).exception
    assert isinstance(again, UsageError)
    assert str(again) == f"{out} exists: choose another name, or remove it first"
    elsewhere = CliRunner().invoke(app, ["grains", str(tmp_path / "grains.tif")]).exception
    assert isinstance(elsewhere, UsageError)
    assert "is not an NPY file in an existing folder" in str(elsewhere)
