"""Batches: every image, every place, every orientation alike, as the network sees them, each with its condition."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from mdiff_core import DataError, Descriptors, Phase
from mdiff_core.contract import NOT_TOLD
from mdiff_training.data.micrographs import Batch, Micrographs, Stack

TWO = (Phase("matrix", 0), Phase("pore", 255))
THREE = (Phase("pore", 0), Phase("active", 128), Phase("binder", 255))

# Unlike itself in all eight orientations, and so are its four mirror images among each other.
ANGLE = np.array([[1, 1, 1], [1, 0, 0], [0, 1, 0]], dtype=np.uint8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(*shape: int, start: int = 0) -> np.ndarray:
    """An image whose every pixel is its own number, so that a tile tells where it comes from."""
    return np.arange(start, start + np.prod(shape), dtype=np.float32).reshape(shape)


def smallest_of(batch: Batch) -> list[int]:
    """The smallest pixel of each tile: its upper left corner, before it was turned."""
    return batch.x0.amin(dim=(1, 2, 3)).int().tolist()


def assert_equally_often(found: Iterable[object], expected: set) -> None:
    """Exactly the expected values, as often as chance would have it."""
    counts = Counter(found)
    assert set(counts) == expected
    assert chisquare(list(counts.values())).pvalue > 0.001


# What the network sees


def test_two_phases_share_one_channel():
    micrographs = Micrographs((Stack((ANGLE,)),), TWO)
    x0 = micrographs.batch(5, (3, 3), generator()).x0
    assert (micrographs.channels, x0.shape, x0.dtype) == (1, (5, 1, 3, 3), torch.float32)
    assert x0.unique().tolist() == [-1, 1]
    assert (x0 > 0).sum(dim=(1, 2, 3)).tolist() == [ANGLE.sum()] * 5


def test_three_phases_are_one_hot():
    """The pixel of phase k is +1 in channel k and -1 in the others."""
    image = np.repeat(np.array([0, 1, 2, 1], dtype=np.uint8), 4).reshape(4, 4)
    micrographs = Micrographs((Stack((image,)),), THREE)
    x0 = micrographs.batch(50, (4, 4), generator()).x0
    assert (micrographs.channels, x0.shape, x0.dtype) == (3, (50, 3, 4, 4), torch.float32)
    assert x0.unique().tolist() == [-1, 1]
    assert torch.all((x0 > 0).sum(dim=1) == 1)
    orientations = {np.rot90(image, turns).tobytes() for turns in range(4)}
    assert {tile.argmax(dim=0).numpy().astype(np.uint8).tobytes() for tile in x0} == orientations


def test_grey_levels_are_left_as_they_are():
    image = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4)
    micrographs = Micrographs((Stack((image,)),), ())
    x0 = micrographs.batch(3, (4, 4), generator()).x0
    assert (micrographs.channels, x0.shape, x0.dtype) == (1, (3, 1, 4, 4), torch.float32)
    for tile in x0:
        np.testing.assert_array_equal(np.sort(tile.numpy(), axis=None), image.ravel())


# Where tiles come from


def test_tiles_come_from_every_image_and_every_place_equally_often():
    images = [numbered(6, 5, start=30 * i) for i in range(4)]
    batch = Micrographs((Stack(tuple(images)),), ()).batch(6000, (4, 4), generator())
    corners = {int(image[y, x]) for image in images for y in range(3) for x in range(2)}
    assert_equally_often(smallest_of(batch), corners)
    for tile in batch.x0[:50]:
        steps = [tile[0].diff(dim=axis).abs().unique().tolist() for axis in (0, 1)]
        assert sorted(steps) == [[1], [5]]  # neighbours stayed neighbours


def test_a_stack_is_drawn_from_as_often_as_one_with_more_images():
    few, many = (numbered(2, 2),), tuple(numbered(2, 2, start=4 + 4 * i) for i in range(9))
    batch = Micrographs((Stack(few), Stack(many)), ()).batch(4000, (2, 2), generator())
    assert_equally_often(["few" if corner == 0 else "many" for corner in smallest_of(batch)], {"few", "many"})
    assert_equally_often([corner for corner in smallest_of(batch) if corner], {int(i.min()) for i in many})


def test_images_of_one_stack_may_differ_in_size():
    images = (numbered(3, 3), numbered(3, 5, start=9), numbered(4, 3, start=24))
    batch = Micrographs((Stack(images),), ()).batch(2000, (3, 3), generator())
    assert set(smallest_of(batch)) == {0, 9, 10, 11, 24, 27}


def test_all_eight_orientations_occur_equally_often():
    batch = Micrographs((Stack((ANGLE,)),), TWO).batch(4000, (3, 3), generator())
    orientations = {np.rot90(image, turns).tobytes() for image in (ANGLE, ANGLE.T) for turns in range(4)}
    assert len(orientations) == 8
    assert_equally_often([(tile[0] > 0).numpy().astype(np.uint8).tobytes() for tile in batch.x0], orientations)


def test_mirrored_only_leaves_the_four_orientations_that_keep_the_axes():
    batch = Micrographs((Stack((ANGLE,)),), TWO, mirrored_only=True).batch(4000, (3, 3), generator())
    orientations = {np.flip(ANGLE, axes).tobytes() for n in range(3) for axes in itertools.combinations(range(2), n)}
    assert len(orientations) == 4
    assert_equally_often([(tile[0] > 0).numpy().astype(np.uint8).tobytes() for tile in batch.x0], orientations)


def test_batches_follow_the_generator():
    images = np.random.default_rng(0).integers(0, 2, (5, 9, 9)).astype(np.uint8)
    micrographs = Micrographs((Stack(tuple(images), label=0), Stack((ANGLE,), label=1)), TWO, classes=("a", "b"))
    first, again, other = (micrographs.batch(16, (3, 3), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.x0, again.x0)
    assert torch.equal(first.label, again.label)
    assert not torch.equal(first.x0, other.x0)


# Random crops in place of the images


def test_crops_come_from_every_place_equally_often():
    image = numbered(6, 5)
    (stack,) = Micrographs((Stack((image,)),), ()).cropped(3000, (4, 4), seed=0).stacks
    corners = [divmod(int(crop[0, 0]), 5) for crop in stack.images]
    assert_equally_often(corners, set(itertools.product(range(3), range(2))))
    for (y, x), crop in zip(corners, stack.images, strict=True):
        np.testing.assert_array_equal(crop, image[y : y + 4, x : x + 4])


def test_crops_come_from_every_image_of_a_stack_equally_often():
    images = (numbered(6, 5), numbered(4, 7, start=30), numbered(9, 4, start=58))
    (stack,) = Micrographs((Stack(images),), ()).cropped(3000, (4, 4), seed=0).stacks
    assert {crop.shape for crop in stack.images} == {(4, 4)}
    found = [next(i for i, image in enumerate(images) if crop[0, 0] in image) for crop in stack.images]
    assert_equally_often(found, {0, 1, 2})


def test_crops_follow_the_seed_and_keep_all_but_the_images():
    curves = {"pore": Descriptors(0.5, 0.1, (0.5,), (0.5,))}
    whole = Micrographs(
        (Stack((numbered(9, 9),), label=0, fractions=(0.25,)), Stack((numbered(7, 8),), label=1, fractions=(0.75,))),
        TWO,
        references=curves,
        classes=("fine", "coarse"),
    )
    first, again, other = (whole.cropped(6, (3, 3), seed=seed) for seed in (1, 1, 2))
    assert [len(stack.images) for stack in first.stacks] == [6, 6]
    assert [(stack.label, stack.fractions) for stack in first.stacks] == [(0, (0.25,)), (1, (0.75,))]
    assert dataclasses.replace(first, stacks=whole.stacks) == whole
    for stack, same, different in zip(first.stacks, again.stacks, other.stacks, strict=True):
        np.testing.assert_array_equal(stack.images, same.images)
        assert not np.array_equal(stack.images, different.images)


# Conditions


@pytest.fixture
def conditional() -> Micrographs:
    """Three stacks whose pixels are 0, 1 and 2, with label 2, 0 and 1."""
    fractions = [(0.0, 0.5), (0.25, 0.25), (0.125, 0.75)]
    stacks = [
        Stack((np.full((4, 4), i, dtype=np.uint8),), label=label, fractions=fractions[i])
        for i, label in enumerate((2, 0, 1))
    ]
    return Micrographs(tuple(stacks), THREE, classes=("a", "b", "c"))


def test_every_image_comes_with_the_condition_of_its_stack(conditional: Micrographs):
    batch = conditional.batch(100, (2, 2), generator())
    stacks = [conditional.stacks[i] for i in batch.x0[:, :, 0, 0].argmax(dim=1).tolist()]
    assert len({stack.label for stack in stacks}) == 3
    assert batch.label is not None and batch.fractions is not None
    assert (batch.label.dtype, batch.fractions.dtype) == (torch.int64, torch.float32)
    assert batch.label.tolist() == [stack.label for stack in stacks]
    assert [tuple(row) for row in batch.fractions.tolist()] == [stack.fractions for stack in stacks]


def test_without_conditions_there_are_none(conditional: Micrographs):
    plain = Micrographs(tuple(Stack(stack.images) for stack in conditional.stacks), THREE)
    batch = plain.batch(4, (2, 2), generator())
    assert batch.label is None
    assert batch.fractions is None
    assert plain.fractions == ()


def test_the_range_of_fractions_told_is_that_of_the_stacks(conditional: Micrographs):
    assert conditional.fractions == ((0.0, 0.25), (0.25, 0.75))


def test_a_dropped_condition_is_the_null_class_and_fractions_not_told():
    x0, label = torch.randn((4, 1, 2, 2), generator=generator()), torch.tensor([0, 1, 1, 0])
    fractions, dropped = torch.tensor([[0.1], [0.2], [0.3], [0.4]]), torch.tensor([False, True, False, True])
    batch = Batch(x0, label, fractions).with_conditions_dropped(dropped, null_class=2)
    assert torch.equal(batch.x0, x0)
    assert batch.label is not None and batch.fractions is not None
    assert batch.label.tolist() == [0, 2, 1, 2]
    torch.testing.assert_close(batch.fractions, torch.tensor([[0.1], [NOT_TOLD], [0.3], [NOT_TOLD]]))
    assert label.tolist() == [0, 1, 1, 0]  # the batch it was made of is as it was


def test_all_fractions_of_an_image_are_dropped_together():
    batch = Batch(torch.zeros(2, 3, 2, 2), None, torch.tensor([[0.1, 0.2], [0.0, 0.4]]))
    fractions = batch.with_conditions_dropped(torch.tensor([False, True]), null_class=None).fractions
    torch.testing.assert_close(fractions, torch.tensor([[0.1, 0.2], [NOT_TOLD, NOT_TOLD]]))


def test_without_a_null_class_labels_are_not_dropped():
    batch = Batch(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]), None)
    dropped = batch.with_conditions_dropped(torch.tensor([True, True]), null_class=None)
    assert dropped.label is not None and dropped.label.tolist() == [0, 1]
    assert dropped.fractions is None


def test_a_batch_moves_whole_and_lays_its_channels_last():
    batch = Batch(torch.randn((2, 3, 4, 4), generator=generator()), torch.tensor([0, 1]), torch.rand(2, 2))
    moved = batch.to(torch.device("cpu"))
    assert moved.x0.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved.x0, batch.x0)
    assert moved.label is batch.label and moved.fractions is batch.fractions
    there = batch.to(torch.device("meta"))
    assert {there.x0.device, there.label.device, there.fractions.device} == {torch.device("meta")}
    assert Batch(batch.x0, None, None).to(torch.device("cpu")).label is None


def test_a_part_of_a_batch_keeps_the_conditions_of_its_images():
    batch = Batch(torch.randn((4, 3, 2, 2), generator=generator()), torch.arange(4), torch.rand(4, 2))
    part = batch.part(slice(1, 3))
    assert torch.equal(part.x0, batch.x0[1:3])
    assert part.label is not None and part.fractions is not None and batch.fractions is not None
    assert part.label.tolist() == [1, 2]
    assert torch.equal(part.fractions, batch.fractions[1:3])
    bare = Batch(batch.x0, None, None).part(slice(0, 1))
    assert (len(bare.x0), bare.label, bare.fractions) == (1, None, None)


@pytest.mark.parametrize("shape", [(7, 8), (8, 7)])
def test_one_image_smaller_than_the_tile_is_a_data_error(shape: tuple[int, int]):
    micrographs = Micrographs((Stack((numbered(8, 8), numbered(9, 12))), Stack((numbered(8, 9), numbered(*shape)))), ())
    with pytest.raises(DataError, match=rf"an image of {shape[0]}×{shape[1]} is smaller than the tile 8×8"):
        micrographs.check_tile((8, 8))
    micrographs.check_tile((7, 7))
