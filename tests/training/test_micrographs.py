"""Training images: every slice, every orientation, the right values, and references measured on the data."""

from collections import Counter

import numpy as np
import pytest
import torch
from mdiff_training.slices import slices_of_grey_levels, slices_of_phases
from scipy.stats import chisquare

from mdiff_core import DataError, Descriptors, Phase

NAMES = ("matrix", "pore")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(2).random((10, 12, 14)) < 0.3


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_lie_across_the_axis(volume: np.ndarray, axis: int):
    slices = slices_of_phases(volume, axis, (10, 10), NAMES)
    assert slices.images.dtype == torch.float32
    for i in range(volume.shape[axis]):
        np.testing.assert_array_equal(slices.images[i].numpy() > 0, volume.take(i, axis))
    assert slices.images.unique().tolist() == [-1, 1]
    assert slices.phases == (Phase("matrix", 0), Phase("pore", 255))


def test_one_image_is_one_slice(volume: np.ndarray):
    assert slices_of_phases(volume[0], 0, (8, 8), NAMES).images.shape == (1, 12, 14)


def test_all_eight_orientations_occur_equally_often():
    image = np.zeros((3, 3), dtype=bool)
    image[0, :2] = image[1, 0] = image[0, 2] = True
    image[2, 1] = True
    flips = (image, image.T)
    orientations = [np.rot90(flip, quarter).tobytes() for flip in flips for quarter in range(4)]
    assert len(set(orientations)) == 8

    batch = slices_of_phases(image, 0, (3, 3), NAMES).batch(4000, (3, 3), generator())
    counts = Counter((tile[0].numpy() > 0).tobytes() for tile in batch)
    assert set(counts) == set(orientations)
    assert chisquare(list(counts.values())).pvalue > 0.001


def test_tiles_come_from_every_slice_and_every_place_equally_often():
    """Every pixel is its own number, so a tile tells where it comes from: 4 slices, 3 × 2 places."""
    numbers = np.arange(4 * 6 * 5, dtype=np.float32).reshape(4, 6, 5)
    slices = slices_of_grey_levels(numbers, 0, (4, 4))
    batch = slices.batch(6000, (4, 4), generator())
    assert batch.shape == (6000, 1, 4, 4)
    smallest = (batch.amin(dim=(1, 2, 3)).double() + 1) / 2 * (numbers.size - 1)
    counts = Counter(smallest.round().int().tolist())
    corners = {int(numbers[i, y, x]) for i in range(4) for y in range(3) for x in range(2)}
    assert set(counts) == corners
    assert chisquare(list(counts.values())).pvalue > 0.001
    for tile in batch[:50]:
        rows, columns = tile[0].diff(dim=0).abs(), tile[0].diff(dim=1).abs()
        assert rows.std() < 1e-5 and columns.std() < 1e-5  # neighbours stayed neighbours


def test_batches_follow_the_generator(volume: np.ndarray):
    slices = slices_of_phases(volume, 0, (8, 8), NAMES)
    assert torch.equal(slices.batch(16, (8, 8), generator(1)), slices.batch(16, (8, 8), generator(1)))
    assert not torch.equal(slices.batch(16, (8, 8), generator(1)), slices.batch(16, (8, 8), generator(2)))


def test_references_are_the_descriptors_of_both_phases_up_to_half_a_tile(volume: np.ndarray):
    references = slices_of_phases(volume, 0, (10, 10), NAMES).references
    assert references == {"pore": Descriptors.of(volume, 5), "matrix": Descriptors.of(~volume, 5)}
    assert references["pore"].fraction + references["matrix"].fraction == pytest.approx(1)


def test_references_of_few_slices_are_measured_within_them(volume: np.ndarray):
    few = volume[:3]
    references = slices_of_phases(few, 0, (10, 10), NAMES).references
    assert references["pore"] == Descriptors.of(few, 5, axes=(1, 2))


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([[0, 255], [51, 204]], dtype=np.uint8), [[-1, 1], [-0.6, 0.6]]),
        (np.array([[0, 65535], [13107, 100]], dtype=np.uint16), [[-1, 1], [-0.6, 200 / 65535 - 1]]),
        (np.array([[-128, 127], [0, 1]], dtype=np.int8), [[-1, 1], [1 / 255, 3 / 255]]),
        (np.array([[2.0, 4.0], [3.0, 2.5]]), [[-1, 1], [0, -0.5]]),
        (np.array([[True, False], [False, False]]), [[1, -1], [-1, -1]]),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_grey_levels_are_scaled_by_the_range_of_integers_and_the_extremes_of_floats(array: np.ndarray, expected):
    slices = slices_of_grey_levels(array, 0, (2, 2))
    np.testing.assert_allclose(slices.images[0], expected, atol=1e-6)
    assert slices.phases == ()
    assert slices.references == {}


@pytest.mark.parametrize(
    "array",
    [np.full((4, 4), 7, dtype=np.uint8), np.ones((4, 4)), np.array([[0, np.nan]] * 2), np.array([[0, np.inf]] * 2)],
)
def test_grey_levels_without_contrast_are_a_data_error(array: np.ndarray):
    with pytest.raises(DataError, match="constant or not finite"):
        slices_of_grey_levels(array, 0, (2, 2))


def test_images_smaller_than_the_tile_are_a_data_error(volume: np.ndarray):
    for make in (
        lambda: slices_of_phases(volume, 0, (13, 13), NAMES),
        lambda: slices_of_grey_levels(volume, 2, (12, 12)),
    ):
        with pytest.raises(DataError, match="smaller than the tile"):
            make()


def test_a_volume_has_three_axes(volume: np.ndarray):
    with pytest.raises(DataError, match="slice axes 0, 1 and 2, not 3"):
        slices_of_phases(volume, 3, (8, 8), NAMES)
