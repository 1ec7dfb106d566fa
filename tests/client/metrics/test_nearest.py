"""The nearest training crop: copies are found, whatever their place and orientation."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mdiff_client.metrics import Tools
from mdiff_client.metrics.nearest import memorization_rows, nearest, pixel_rows, symmetries


def patches(shape, seed, phases=2):
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2)
    return np.digitize(noise, np.quantile(noise, np.arange(1, phases) / phases)).astype(np.uint8)


@pytest.fixture(scope="module")
def training():
    return patches((50, 60), seed=0)


def median_of(rows):
    (row,) = rows
    return row.figure(row.samples)


def test_there_are_eight_symmetries():
    square = np.arange(9).reshape(3, 3)
    assert len({one.tobytes() for one in symmetries(square)}) == 8


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_distance_is_that_of_an_exhaustive_search(symmetric):
    rng = np.random.default_rng(1)
    sections, images = rng.random((3, 5, 5)), rng.random((2, 9, 11))

    def encode(image):
        return np.stack([image, image**2], axis=-3)

    found = nearest(sections, [images, images[:, :4]], encode, symmetric=symmetric)
    for section, distance in zip(sections, found, strict=True):
        turned = symmetries(section) if symmetric else [section]
        every = [
            np.sum((encode(one) - encode(image[top : top + 5, left : left + 5])) ** 2)
            for one in turned
            for image in images
            for top in range(5)
            for left in range(7)
        ]
        assert distance == pytest.approx(min(every), abs=1e-4)


@pytest.mark.parametrize("symmetry", range(8))
def test_a_rotated_copy_is_found(training, symmetry, setting, volumes):
    copy = symmetries(training[20:36, 7:23])[symmetry]
    assert median_of(memorization_rows(volumes(copy), setting(tools=Tools((training,))))) == pytest.approx(0, abs=1e-5)


def test_e_px_knows_no_symmetries(training, setting, volumes):
    of = setting(tools=Tools((training,)))
    crop = training[20:36, 7:23]
    assert median_of(pixel_rows(volumes(crop), of)) == pytest.approx(0, abs=1e-2)
    assert median_of(pixel_rows(volumes(np.rot90(crop)), of)) > 1


def test_other_material_is_no_copy(training, setting, volumes):
    other = patches((50, 60), seed=9)[20:36, 7:23]
    assert 0.2 < median_of(memorization_rows(volumes(other), setting(tools=Tools((training,))))) < 1


def test_three_phases_differ_where_their_labels_do(setting, volumes):
    """E_px weighs by the grey levels, memorization does not."""
    training = patches((40, 40), seed=2, phases=3)
    of = setting(("a", "b", "c"), tools=Tools((training,)))
    crop = training[5:21, 9:25].copy()
    crop[0, :4] = (crop[0, :4] + 1) % 3
    fractions = np.bincount(crop.ravel(), minlength=3) / 256
    overall = np.bincount(training.ravel(), minlength=3) / 1600
    assert median_of(memorization_rows(volumes(crop), of)) == pytest.approx(
        4 / 256 / (1 - fractions @ overall), rel=1e-3
    )
    greys = np.array([0, 0.5, 1])
    expected = 100 * np.mean((greys[crop] - greys[training[5:21, 9:25]]) ** 2)
    assert median_of(pixel_rows(volumes(crop), of)) == pytest.approx(expected, rel=1e-2)


def test_a_section_of_a_training_volume_is_found_in_every_plane(setting, volumes):
    training = patches((30, 30, 30), seed=3)
    copied = training[4:20, 6:22, 3:19]
    of = setting(tools=Tools((training,)))
    (row,) = memorization_rows(volumes(copied), of)
    assert row.samples.shape == (1, 24)
    assert row.samples.max() == pytest.approx(0, abs=1e-5)
