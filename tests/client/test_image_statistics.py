"""Images beside the reference that belongs to what was asked for."""

import dataclasses

import numpy as np
import pytest

from mdiff_client.image_statistics import ImageStatistics
from mdiff_client.sampling import Condition
from mdiff_core import Descriptors, reference_descriptors


def measured(contract, images, **asked):
    statistics = ImageStatistics(contract, Condition(**asked))
    statistics.add(images)
    return statistics.comparisons()


@pytest.fixture
def images():
    return (np.random.default_rng(0).random((6, 32, 32)) < 0.3).astype(np.uint8)


def test_images_are_compared_phase_by_phase_with_the_training_data(gaussian, images):
    references = reference_descriptors(images, ("matrix", "sphere"), (32, 32))
    comparison = measured(dataclasses.replace(gaussian.contract, references=references), images)["sphere"]
    assert comparison.samples == 6
    assert comparison.fraction == pytest.approx(np.mean(images))
    assert comparison.fraction_reference == references["sphere"].fraction


def test_images_of_a_fraction_are_compared_with_a_material_of_it(gaussian, images, two_phase_references):
    s2 = gaussian.contract.references["sphere"].s2
    told = (two_phase_references(0.2, s2), two_phase_references(0.4, s2))
    contract = dataclasses.replace(gaussian.contract, fractions=((0.2, 0.4),), references_told=told)
    assert measured(contract, images, fractions=(0.3,))["sphere"].fraction_reference == pytest.approx(0.3)


def test_images_of_a_plane_are_compared_with_the_axes_within_it(gaussian, images):
    fractions = {"z": 0.1, "y": 0.2, "x": 0.4}
    along = {axis: {"sphere": Descriptors(f, 0.1, (f,) * 4, (f,) * 4)} for axis, f in fractions.items()}
    contract = dataclasses.replace(
        gaussian.contract, classes=("across", "along"), planes={"xy": 0, "xz": 1, "yz": 1}, references_along=along
    )
    assert measured(contract, images, label=0)["sphere"].fraction_reference == pytest.approx(0.3)
    assert measured(contract, images, label=1)["sphere"].fraction_reference == pytest.approx(
        (0.1 + 0.4 + 0.1 + 0.2) / 4
    )
