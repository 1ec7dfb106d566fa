"""The digest of what is trained on: the same for the same images and conditions, and for no others."""

import dataclasses

import numpy as np
import pytest

from mdiff_training.data.digest import digest
from mdiff_training.data.micrographs import Micrographs, Stack
from mdiff_training.data.volumes import phases

VOLUME = np.random.default_rng(0).integers(0, 2, (6, 6, 6)).astype(np.uint8)


def material(*images: np.ndarray, label: int | None = None, fractions: tuple[float, ...] = ()) -> Micrographs:
    return Micrographs((Stack(images, label, fractions),), phases(("matrix", "pore")))


def test_it_knows_the_pixels_and_not_how_they_lie_in_memory():
    turned = np.ascontiguousarray(VOLUME.transpose(2, 1, 0)).transpose(2, 1, 0)
    assert turned.strides != VOLUME.strides
    assert digest(material(*turned)) == digest(material(*VOLUME.copy())) == digest(material(*VOLUME))
    assert len(digest(material(*VOLUME))) == 64


@pytest.mark.parametrize(
    "other",
    [
        material(*np.moveaxis(VOLUME, 2, 0)),
        material(*VOLUME[::-1]),
        material(*VOLUME[:5]),
        material(*VOLUME.reshape(6, 4, 9)),
        material(*VOLUME.view(np.int8)),
        material(*(VOLUME ^ (np.arange(216) == 215).reshape(6, 6, 6))),
        material(*VOLUME, label=0),
        material(*VOLUME, fractions=(0.5,)),
        Micrographs((Stack(tuple(VOLUME[:3])), Stack(tuple(VOLUME[3:]))), phases(("matrix", "pore"))),
    ],
    ids=["axis", "order", "fewer", "shape", "type", "one pixel", "label", "fractions", "stacks"],
)
def test_whatever_else_is_trained_on_has_another(other: Micrographs):
    assert digest(other) != digest(material(*VOLUME))


def test_what_is_measured_and_named_is_left_to_the_contract():
    assert digest(dataclasses.replace(material(*VOLUME), phases=phases(("a", "b")))) == digest(material(*VOLUME))
