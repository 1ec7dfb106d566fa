"""Grey levels: one scale that keeps the contrast."""

import numpy as np
import pytest

from mdiff_core import DataError
from mdiff_training.data.grey import grey_range, scaled


def test_a_range_becomes_minus_one_to_one_and_what_lies_outside_is_clipped():
    grey = scaled(np.array([[0, 10, 60, 110, 65535]], dtype=np.uint16), (10, 110))
    assert grey.dtype == np.float32
    np.testing.assert_allclose(grey, [[-1, -1, 0, 1, 1]], atol=1e-6)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float64, np.bool_])
def test_of_two_levels_the_darker_is_minus_one_and_the_brighter_one(kind: type):
    image = np.array([[0, 1], [1, 0]]).astype(kind)
    np.testing.assert_array_equal(scaled(image, grey_range([np.repeat(image, 500, axis=0)])), [[-1, 1], [1, -1]])


def test_the_range_is_that_of_all_images_and_leaves_hot_pixels_out():
    dark, bright = np.full((100, 100), 200, dtype=np.uint16), np.full((100, 100), 3000, dtype=np.uint16)
    bright[0, 0] = 65535
    assert grey_range([dark, bright]) == (200, 3000)


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (np.full((4, 4), 7, dtype=np.uint8), "no contrast: nearly all of them are 7"),
        (np.array([[0, np.nan]] * 2), "not finite"),
        (np.array([[0, np.inf]] * 2), "not finite"),
    ],
)
def test_grey_levels_without_contrast_are_a_data_error(image: np.ndarray, complaint: str):
    with pytest.raises(DataError, match=complaint):
        grey_range([image])
