"""Sections of volumes and of training material."""

import numpy as np
import pytest

from mdiff_client.metrics import training_images
from mdiff_client.metrics.sections import planes, random_sections, sections_of
from mdiff_core import DataError


@pytest.fixture
def numbered():
    """A volume whose voxels know their place along z."""
    return np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None], (40, 40, 40))


def test_sections_lie_evenly_across_every_axis(numbered):
    cut = planes(numbered, 4, 16)
    assert cut.shape == (12, 16, 16)
    assert [set(one.ravel().tolist()) for one in cut[:4]] == [{5}, {15}, {25}, {35}]
    assert all(set(one[:, 0].tolist()) == set(range(12, 28)) for one in cut[4:])


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 24)), (3, (3, 9)), (8, (8, 3)), (20, (8, 3))])
def test_there_are_at_least_24_sections_of_at_most_eight_volumes(numbered, volumes, count, shape):
    cut = sections_of(volumes(*[numbered] * count), 16)
    assert (len(cut), *{len(one) for one in cut}) == shape


def test_images_are_their_own_sections(numbered, volumes):
    assert np.array(sections_of(volumes(*numbered), 16)).shape == (40, 1, 16, 16)


def test_random_sections_come_from_all_planes_but_of_independent_images_from_themselves(numbered):
    def sorts(material):
        return {len(np.unique(one)) for one in random_sections(material, 40, 16)}

    assert sorts([numbered]) == {1, 16}
    assert sorts(training_images([numbered], independent=True)) == {1}


def test_material_smaller_than_a_section_is_left_out(numbered):
    assert random_sections([numbered[:8, :8, :8], numbered], 5, 16).shape == (5, 16, 16)


def test_sections_larger_than_all_material_are_refused():
    with pytest.raises(DataError, match="sections of 32 pixels cannot be cut: all images are smaller"):
        random_sections([np.zeros((16, 40), np.uint8)], 3, 32)
