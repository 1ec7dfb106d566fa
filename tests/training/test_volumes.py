"""Micrographs of volumes: which slices, in which orientation, under which condition, and the references beside them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from mdiff_client.sampling import named_plan, sample
from mdiff_core import DataError, Descriptors, ModelContract, Phase, Provenance, ScheduleSpec
from mdiff_training.data.micrographs import Micrographs
from mdiff_training.data.volumes import (
    micrographs_of_grey_levels,
    micrographs_of_phases,
    micrographs_of_planes,
    phases,
)

NAMES = ("matrix", "pore")
THREE = ("pore", "active", "binder")


@pytest.fixture
def volume() -> np.ndarray:
    """Two phases; no two axes are equally long."""
    return (np.random.default_rng(2).random((10, 12, 14)) < 0.3).astype(np.uint8)


@pytest.fixture
def cube() -> np.ndarray:
    """Three phases in layers across axis 0, eight voxels along every axis, with a mark that tells all axes apart."""
    layers = np.tile(np.array([0, 1, 1, 2, 0, 1, 1, 2], dtype=np.uint8)[:, None, None], (1, 8, 8))
    layers[1, 2:4, 5] = layers[6, 0, :3] = 2
    return layers


def images(micrographs: Micrographs) -> np.ndarray:
    """The images of the only stack."""
    (stack,) = micrographs.stacks
    return np.stack(stack.images)


# Slices and images of phases


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_lie_across_the_axis(volume: np.ndarray, axis: int):
    sliced = images(micrographs_of_phases([volume], NAMES, axis=axis, tile=(10, 10)))
    assert len(sliced) == volume.shape[axis]
    for i, image in enumerate(sliced):
        np.testing.assert_array_equal(image, volume.take(i, axis))


@pytest.mark.parametrize("axis", [0, 2])
def test_an_image_is_one_image_whatever_the_axis(volume: np.ndarray, axis: int):
    np.testing.assert_array_equal(images(micrographs_of_phases([volume[0]], NAMES, axis=axis, tile=(8, 8))), volume[:1])


def test_several_arrays_are_one_material(volume: np.ndarray):
    arrays = [volume, 1 - volume[:, :, :11], volume[3]]
    found = micrographs_of_phases(arrays, NAMES, tile=(8, 8))
    (stack,) = found.stacks
    assert (stack.label, stack.fractions) == (None, ())
    for image, expected in zip(stack.images, [*arrays[0], *arrays[1], arrays[2]], strict=True):
        np.testing.assert_array_equal(image, expected)
    assert found.references["pore"] == Descriptors.mean([Descriptors.of(array == 1, 4) for array in arrays])


def test_isotropic_material_is_turned_and_has_neither_classes_nor_planes(volume: np.ndarray):
    found = micrographs_of_phases([volume], NAMES, tile=(8, 8))
    assert (found.classes, found.planes, found.references_along, found.mirrored_only) == ((), {}, {}, False)


@pytest.mark.parametrize(
    ("names", "shades"), [(NAMES, [0, 255]), (THREE, [0, 128, 255]), (("a", "b", "c", "d"), [0, 85, 170, 255])]
)
def test_phases_are_shaded_evenly_from_black_to_white(names: tuple[str, ...], shades: list[int]):
    assert phases(names) == tuple(Phase(name, shade) for name, shade in zip(names, shades, strict=True))


# References


def test_references_are_the_descriptors_of_every_phase_up_to_half_a_tile(cube: np.ndarray):
    references = micrographs_of_phases([cube], THREE, tile=(8, 6)).references
    assert references == {name: Descriptors.of(cube == label, 3) for label, name in enumerate(THREE)}
    assert sum(of.fraction for of in references.values()) == pytest.approx(1)


def test_references_of_few_slices_are_measured_within_them(volume: np.ndarray):
    few = volume[:3]
    references = micrographs_of_phases([few], NAMES, tile=(10, 10)).references
    assert references["pore"] == Descriptors.of(few == 1, 5, axes=(1, 2))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_references_of_independent_images_leave_the_slice_axis_out(volume: np.ndarray, axis: int):
    within = [other for other in range(3) if other != axis]
    found = micrographs_of_phases([volume], NAMES, axis=axis, independent=True, tile=(10, 10))
    assert found.references["pore"] == Descriptors.of(volume == 1, 5, axes=within)
    related = micrographs_of_phases([volume], NAMES, axis=axis, tile=(10, 10)).references
    assert found.references["pore"] != related["pore"] == Descriptors.of(volume == 1, 5)
    np.testing.assert_array_equal(images(found), np.moveaxis(volume, axis, 0))


def test_references_of_one_independent_image_are_measured_along_both_its_axes(volume: np.ndarray):
    found = micrographs_of_phases([volume[4]], NAMES, independent=True, tile=(10, 10))
    assert found.references["pore"] == Descriptors.of(volume[4] == 1, 5)


def test_references_of_told_fractions_are_those_of_each_material_and_of_the_middle_one(volume: np.ndarray):
    middle = volume.copy()
    middle[:5] = 1
    arrays = [volume, np.maximum(middle, 1 - volume), middle]
    found = micrographs_of_phases(arrays, NAMES, tell_fractions=True, tile=(8, 8))
    by_fraction = [volume, middle, np.maximum(middle, 1 - volume)]
    assert [of["pore"] for of in found.references_told] == [Descriptors.of(array == 1, 4) for array in by_fraction]
    assert found.references == found.references_told[1]


# Conditions: phase fractions


def test_fractions_told_are_those_of_each_whole_array(cube: np.ndarray):
    arrays = [cube, cube[:4], cube[3]]
    found = micrographs_of_phases(arrays, THREE, tell_fractions=True, tile=(8, 8))
    told = [np.bincount(array.ravel(), minlength=3)[1:] / array.size for array in arrays]
    assert [stack.fractions for stack in found.stacks] == [pytest.approx(tuple(of_array)) for of_array in told]
    assert told[2].tolist() == [0, 1]
    assert found.fractions == ((0, max(a for a, _ in told)), (min(b for _, b in told), 1))


def test_fractions_are_told_only_where_that_is_asked(cube: np.ndarray):
    found = micrographs_of_phases([cube], THREE, tile=(8, 8))
    assert found.stacks[0].fractions == ()
    assert found.fractions == ()


# Conditions: planes


def test_each_plane_is_a_class_of_mirrored_slices(cube: np.ndarray):
    found = micrographs_of_planes([cube], THREE, tile=(8, 8))
    assert found.classes == ("xy", "xz", "yz")
    assert found.planes == {"xy": 0, "xz": 1, "yz": 2}
    assert found.mirrored_only
    assert [stack.label for stack in found.stacks] == [0, 1, 2]
    for z in range(8):
        np.testing.assert_array_equal(found.stacks[0].images[z], cube[z])
        np.testing.assert_array_equal(found.stacks[1].images[z], cube[:, z])
        np.testing.assert_array_equal(found.stacks[2].images[z], cube[:, :, z])


class Memory:
    """A denoiser that remembers the slices of each label, and takes for noise all that is not they."""

    calls_at_once = 1

    def __init__(self, micrographs: Micrographs, edge: int):
        self.contract = ModelContract(
            name="memory",
            image_size=(edge, edge),
            channels=micrographs.channels,
            phases=micrographs.phases,
            schedule=ScheduleSpec("linear", 100, 1e-3, 0.1),
            prediction="epsilon",
            provenance=Provenance("a mark in layers", "Apache-2.0", "pytest", "unknown"),
            classes=micrographs.classes,
            planes=micrographs.planes,
        )
        self._alpha_bar = self.contract.schedule.build().alpha_bar
        self._known = {
            stack.label: np.moveaxis(2 * np.eye(3)[np.stack(stack.images)] - 1, -1, 1) for stack in micrographs.stacks
        }
        self.asked: set[int] = set()

    def predict(self, x, t, label=None, fractions=None):
        self.asked.update(label.tolist())
        alpha_bar = self._alpha_bar[t][:, None, None, None]
        noise = (x - np.sqrt(alpha_bar) * self._known[label[0]]) / np.sqrt(1 - alpha_bar)
        return noise.astype(np.float32), None


def test_the_sampler_cuts_the_slices_in_the_orientation_and_under_the_label_of_training(cube: np.ndarray):
    """Then what the denoiser remembers of the three planes agrees, and the training volume itself is sampled."""
    memory = Memory(micrographs_of_planes([cube], THREE, tile=(8, 8)), edge=8)
    plan = named_plan("paper", steps=3, harmonize=1, planes="average", sampler="ddim", eta=0.0)
    np.testing.assert_allclose(sample(memory, plan, seed=0), np.moveaxis(2 * np.eye(3)[cube] - 1, -1, 0), atol=1e-3)
    assert memory.asked == {0, 1, 2}


def test_references_along_each_axis_are_measured_along_it_alone(cube: np.ndarray):
    found = micrographs_of_planes([cube], THREE, tile=(8, 8))
    assert found.references == {name: Descriptors.of(cube == label, 4) for label, name in enumerate(THREE)}
    for axis, name in enumerate("zyx"):
        along = {phase: Descriptors.of(cube == label, 4, axes=[axis]) for label, phase in enumerate(THREE)}
        assert found.references_along[name] == along
    assert set(found.references_along) == {"z", "y", "x"}
    # Across the layers no run of the first phase is longer than one voxel; along them it never ends.
    assert found.references_along["z"]["pore"].lineal_path[1] == 0
    assert found.references_along["x"]["pore"].lineal_path[4] == pytest.approx(0.25, abs=0.01)


def test_planes_of_a_volume_that_is_no_cube(volume: np.ndarray):
    stacks = micrographs_of_planes([volume], NAMES, tile=(10, 10)).stacks
    assert [np.shape(stack.images) for stack in stacks] == [(10, 12, 14), (12, 10, 14), (14, 10, 12)]


def test_three_images_are_the_planes_of_an_anisotropic_material(cube: np.ndarray):
    """Along x the material is seen in the planes xy and xz, along y in xy and yz, along z in xz and yz."""
    xy, xz, yz = cube[3], cube[:, 2], cube[:, :, 5]
    found = micrographs_of_planes([xy, xz, yz], THREE, tile=(8, 8))
    assert [np.array(stack.images).tolist() for stack in found.stacks] == [[i.tolist()] for i in (xy, xz, yz)]
    assert (found.classes, found.mirrored_only) == (("xy", "xz", "yz"), True)

    def mean(*measured: tuple[np.ndarray, int]) -> Descriptors:
        return Descriptors.mean([Descriptors.of(image == 1, 4, axes=[axis]) for image, axis in measured])

    assert found.references_along["z"]["active"] == mean((xz, 0), (yz, 0))
    assert found.references_along["y"]["active"] == mean((xy, 0), (yz, 1))
    assert found.references_along["x"]["active"] == mean((xy, 1), (xz, 1))


@pytest.mark.parametrize(
    ("shape", "message"),
    [((12, 14), "planes need one volume, or three images"), ((7, 12, 14), "smaller than the tile 8×8")],
)
def test_planes_need_a_volume_as_large_as_the_tile(shape: tuple[int, ...], message: str):
    with pytest.raises(DataError, match=message):
        micrographs_of_planes([np.indices(shape).sum(axis=0).astype(np.uint8) % 2], NAMES, tile=(8, 8))


# Grey levels


def test_grey_volumes_are_sliced_as_labelled_ones_are_but_have_neither_phases_nor_references():
    volume = np.resize(np.array([0, 255, 51, 204], dtype=np.uint8), (5, 6, 7))
    found = micrographs_of_grey_levels([volume], axis=1, tile=(5, 5))
    np.testing.assert_allclose(images(found), np.moveaxis(volume, 1, 0) / 127.5 - 1, atol=1e-6)
    assert (found.phases, found.references, found.channels, found.fractions) == ((), {}, 1, ())
    assert found.batch(2, (5, 5), torch.Generator().manual_seed(0)).x0.dtype == torch.float32


# Refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda v: micrographs_of_phases([v], NAMES, tile=(13, 13)), "12×14 is smaller than the tile 13×13"),
        (lambda v: micrographs_of_phases([v, v[:, :9]], NAMES, tile=(10, 10)), "9×14 is smaller than the tile 10×10"),
        (lambda v: micrographs_of_grey_levels([v], axis=2, tile=(12, 12)), "10×12 is smaller than the tile 12×12"),
        (lambda v: micrographs_of_phases([v[:, :4, :4]], NAMES, tile=(20, 20)), "too few for curves of 10 lags"),
        (lambda v: micrographs_of_phases([v], NAMES, axis=3, tile=(8, 8)), "slice axes 0, 1 and 2, not 3"),
        (lambda v: micrographs_of_phases([v], NAMES, axis=-1, tile=(8, 8)), "slice axes 0, 1 and 2, not -1"),
        (lambda v: micrographs_of_grey_levels([v], axis=3, tile=(8, 8)), "slice axes 0, 1 and 2, not 3"),
    ],
)
def test_volumes_that_give_no_tiles_are_data_errors(volume: np.ndarray, make: Callable, message: str):
    with pytest.raises(DataError, match=message):
        make(volume)
