"""Anchors: slices from files, as the network knows images."""

import dataclasses

import numpy as np
import pytest
import tifffile
from PIL import Image

from mdiff_client.anchor_files import read_anchors
from mdiff_core import DataError, Phase, UsageError

SHAPE = (8, 10, 12)


@pytest.fixture
def contract(make_gaussian):
    return make_gaussian(n=8).contract


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 2, (8, 12)).astype(np.uint8)


def test_a_slice_lies_where_it_is_said_and_keeps_its_phases(tmp_path, contract, labels):
    tifffile.imwrite(tmp_path / "slice.tif", labels)
    (anchor,) = read_anchors([f"y=3:{tmp_path / 'slice.tif'}"], contract, SHAPE)
    assert (anchor.axis, anchor.index) == (1, 3)
    assert np.array_equal(anchor.x0, [np.where(labels == 1, 1, -1)])
    assert anchor.x0.dtype == np.float32


def test_the_values_of_the_phases_may_be_told(tmp_path, contract, labels):
    Image.fromarray(255 * labels).save(tmp_path / "slice.png")
    (anchor,) = read_anchors([f"y=3:{tmp_path / 'slice.png'}"], contract, SHAPE, "sphere=255,matrix=0")
    assert np.array_equal(anchor.x0, [np.where(labels == 1, 1, -1)])


def test_of_many_phases_each_has_its_channel(tmp_path, contract):
    phases = tuple(Phase(name, 0) for name in "abc")
    rock = dataclasses.replace(contract, phases=phases, channels=3, references={})
    labels = np.arange(80).reshape(8, 10) % 3
    np.save(tmp_path / "slice.npy", labels)
    (anchor,) = read_anchors([f"x=11:{tmp_path / 'slice.npy'}"], rock, SHAPE)
    assert np.array_equal(anchor.x0.argmax(axis=0), labels)
    assert np.array_equal(np.unique(anchor.x0), [-1, 1])
    assert np.array_equal(anchor.x0.sum(axis=0), np.full((8, 10), -1))


def test_grey_levels_have_eight_bits(tmp_path, contract):
    grey_model = dataclasses.replace(contract, phases=(), references={})
    grey = np.linspace(0, 255, 120).round().reshape(10, 12).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "slice.png")
    (anchor,) = read_anchors([f"z=0:{tmp_path / 'slice.png'}"], grey_model, SHAPE)
    assert anchor.x0.shape == (1, 10, 12)
    assert (anchor.x0.min(), anchor.x0.max()) == (-1, 1)
    assert np.abs(anchor.x0[0] - (grey / 127.5 - 1)).max() < 1e-6
    np.save(tmp_path / "slice.npy", grey.astype(np.float32))
    with pytest.raises(DataError, match="8 bits"):
        read_anchors([f"z=0:{tmp_path / 'slice.npy'}"], grey_model, SHAPE)


@pytest.mark.parametrize(
    ("place", "error", "complaint"),
    [
        ("w=3", UsageError, "not of the form z=12:slice.tif"),
        ("y3", UsageError, "not of the form"),
        ("y=-1", UsageError, "not of the form"),
        ("y=10", UsageError, "has 10 slices there"),
        ("z=3", UsageError, "has 10x12 pixels in this volume, not 8x12"),
    ],
)
def test_a_slice_that_does_not_fit_is_refused(tmp_path, contract, labels, place, error, complaint):
    np.save(tmp_path / "slice.npy", labels)
    with pytest.raises(error, match=complaint):
        read_anchors([f"{place}:{tmp_path / 'slice.npy'}"], contract, SHAPE)


def test_a_volume_is_no_slice(tmp_path, contract):
    np.save(tmp_path / "rod.npy", np.arange(8 * 8 * 8).reshape(8, 8, 8) % 2)
    with pytest.raises(DataError, match="one slice"):
        read_anchors([f"z=0:{tmp_path / 'rod.npy'}"], contract, SHAPE)


def test_phases_without_anchors_are_refused(contract):
    with pytest.raises(UsageError, match="give --anchor"):
        read_anchors([], contract, SHAPE, "matrix=0,sphere=255")
