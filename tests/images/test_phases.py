"""One phase of interest against the rest."""

import numpy as np
import pytest

from mdiff_core import DataError
from mdiff_images import group_phases

LABELS = np.array([[0, 1, 2], [2, 5, 0]], dtype=np.uint8)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2], [[False, False, True], [True, False, False]]),
        ([0, 5], [[True, False, False], [False, True, True]]),
    ],
)
def test_voxels_of_the_named_values_are_the_phase(values: list[int], expected: list[list[bool]]):
    phase = group_phases(LABELS, values)
    assert phase.dtype == np.bool_
    np.testing.assert_array_equal(phase, expected)


def test_float_labels_are_labels_too():
    np.testing.assert_array_equal(group_phases(LABELS.astype(np.float32), [5]), LABELS == 5)


@pytest.mark.parametrize("value", [3, -1, 300])
def test_a_value_that_does_not_occur_names_those_that_do(value: int):
    with pytest.raises(DataError, match=rf"rock\.tif has no voxel of value {value}: its values are 0, 1, 2, 5$"):
        group_phases(LABELS, [1, value], "rock.tif")


def test_many_values_are_not_all_listed():
    with pytest.raises(DataError, match=r"0, 1, 2, 3, 4, 5, 6, 7, 8, 9 …$"):
        group_phases(np.arange(200).reshape(10, 20), [200])


def test_a_phase_that_fills_everything_is_no_microstructure():
    with pytest.raises(DataError, match="nothing beside the phase"):
        group_phases(LABELS, [0, 1, 2, 5])
