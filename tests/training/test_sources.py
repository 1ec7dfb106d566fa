"""From files to micrographs: what can be asked for together, and what comes of it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdiff_core import DataError, Descriptors, UsageError
from mdiff_training.data.micrographs import Micrographs
from mdiff_training.data.sources import Reading, read_micrographs
from mdiff_training.data.volumes import micrographs_of_grey_levels, micrographs_of_phases, micrographs_of_planes

TILE = (8, 8)


def reading(**changes: Any) -> Reading:
    return Reading(**{"phases": "rest=0+2,active=1"} | changes)


def read(*paths: Path, tile: tuple[int, int] = TILE, seed: int = 0, **changes: Any) -> Micrographs:
    return read_micrographs(paths, reading(**changes), tile, seed)


def assert_same(one: Micrographs, other: Micrographs) -> None:
    """The same images, stack by stack, and the same in all else."""
    for mine, yours in zip(one.stacks, other.stacks, strict=True):
        assert (mine.label, mine.fractions) == (yours.label, yours.fractions)
        np.testing.assert_array_equal(np.stack(mine.images), np.stack(yours.images))
    assert dataclasses.replace(one, stacks=other.stacks) == other


@pytest.fixture
def values() -> np.ndarray:
    """Values 0, 1 and 2 of a volume whose axes are all of another length."""
    return np.random.default_rng(0).choice([0, 1, 2], (10, 12, 14), p=[0.2, 0.5, 0.3]).astype(np.uint8)


@pytest.fixture
def rock(tmp_path: Path, values: np.ndarray) -> Path:
    np.save(tmp_path / "rock.npy", values)
    return tmp_path / "rock.npy"


# What comes of it


def test_phases_are_those_named_in_that_order(rock: Path, values: np.ndarray):
    assert_same(read(rock), micrographs_of_phases([(values == 1).astype(np.uint8)], ("rest", "active"), tile=TILE))
    three = np.array([2, 0, 1], dtype=np.uint8)[values]
    assert_same(read(rock, phases="b=1,c=2,a=0"), micrographs_of_phases([three], ("b", "c", "a"), tile=TILE))


@pytest.mark.parametrize("options", [{"axis": 2}, {"independent": True}, {"axis": 1, "independent": True}])
def test_slices_are_taken_as_asked(rock: Path, values: np.ndarray, options: dict[str, Any]):
    labels = (values == 1).astype(np.uint8)
    assert_same(read(rock, **options), micrographs_of_phases([labels], ("rest", "active"), tile=TILE, **options))


def test_planes_are_classes(rock: Path, values: np.ndarray):
    found = read(rock, phases="a=0,b=1,c=2", planes=True)
    assert found.classes == ("xy", "xz", "yz")
    assert_same(found, micrographs_of_planes([values], ("a", "b", "c"), tile=TILE))


def test_without_phases_files_hold_grey_levels(rock: Path, values: np.ndarray):
    assert_same(read(rock, phases=None, axis=1), micrographs_of_grey_levels([values], axis=1, tile=TILE))


def test_a_part_is_cut_out_before_anything_is_measured(rock: Path, values: np.ndarray):
    part = (values[:, 3:12, 1:11] == 1).astype(np.uint8)
    found = read(rock, crop=":,3:12,1:11", tell_fractions=True)
    assert_same(found, micrographs_of_phases([part], ("rest", "active"), tell_fractions=True, tile=TILE))
    assert found.stacks[0].fractions == (part.mean(),)


def test_raw_files_are_read_in_the_shape_and_type_given(tmp_path: Path, values: np.ndarray):
    (tmp_path / "rock.raw").write_bytes(values.astype(np.uint16).tobytes())
    found = read(tmp_path / "rock.raw", raw_shape="10x12x14", raw_dtype="uint16")
    np.testing.assert_array_equal(np.stack(found.stacks[0].images), values == 1)


def test_each_of_several_files_is_told_its_own_fractions(tmp_path: Path, values: np.ndarray):
    paths, arrays = [], []
    for i, array in enumerate((values, values[:9], values[0])):
        np.save(tmp_path / f"{i}.npy", array)
        paths.append(tmp_path / f"{i}.npy")
        arrays.append((array == 1).astype(np.uint8))
    found = read(*paths, tell_fractions=True)
    assert_same(found, micrographs_of_phases(arrays, ("rest", "active"), tell_fractions=True, tile=TILE))
    assert [stack.fractions for stack in found.stacks] == [(array.mean(),) for array in arrays]


def test_several_files_are_one_material(rock: Path, values: np.ndarray):
    labels = (values == 1).astype(np.uint8)
    assert_same(read(rock, rock), micrographs_of_phases([labels, labels], ("rest", "active"), tile=TILE))


def test_random_crops_of_a_micrograph_follow_the_seed_and_keep_its_references(rock: Path, values: np.ndarray):
    first, again, other = (read(rock, crops=25, seed=seed) for seed in (1, 1, 2))
    (stack,) = first.stacks
    assert [image.shape for image in stack.images] == [TILE] * 25
    assert_same(first, again)
    assert not np.array_equal(stack.images, other.stacks[0].images)
    assert first.references["active"] == Descriptors.of(values == 1, 4)


# What is refused


@pytest.mark.parametrize(
    "option", [{"planes": True}, {"crops": 5}, {"tell_fractions": True}, {"independent": True}], ids=", ".join
)
def test_options_about_phases_need_phases(option: dict[str, Any]):
    with pytest.raises(UsageError, match="are about phases: name them"):
        reading(phases=None, **option)


@pytest.mark.parametrize(
    "option", [{"crops": 5}, {"tell_fractions": True}, {"independent": True}, {"axis": 0}], ids=", ".join
)
def test_planes_decide_about_their_slices(option: dict[str, Any]):
    with pytest.raises(UsageError, match="--planes takes no --axis"):
        reading(planes=True, **option)


def test_the_shape_of_raw_files_is_for_raw_files(rock: Path):
    with pytest.raises(UsageError, match="--raw-shape is about RAW files"):
        read(rock, raw_shape="10x12x14")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"phases": "rest=0"}, UsageError, "phases 'rest=0'"),
        ({"phases": "rest=0,active=1"}, DataError, r"rock\.npy: value 2 belongs to no phase; its values are 0, 1, 2"),
        ({"phases": "rest=0+1+2,gold=7"}, DataError, r"rock\.npy: nothing of phase 'gold'"),
        ({"crop": "0:9"}, UsageError, "crop '0:9' names 1 axes, the array has 3"),
        ({"axis": 3}, DataError, "slice axes 0, 1 and 2, not 3"),
        ({"tile": (16, 16)}, DataError, "smaller than the tile 16×16"),
        ({"tile": (16, 16), "crops": 3}, DataError, "smaller than the tile 16×16"),
        ({"crop": ":,:,3", "planes": True}, UsageError, "'3' is not START:STOP"),
    ],
)
def test_what_does_not_fit_the_file_is_refused(rock: Path, changes: dict[str, Any], error: type, message: str):
    with pytest.raises(error, match=message):
        read(rock, **changes)


def test_the_file_that_does_not_fit_is_named(rock: Path, tmp_path: Path):
    np.save(tmp_path / "pure.npy", np.zeros((10, 12), dtype=np.uint8))
    with pytest.raises(DataError, match=r"pure\.npy: nothing of phase 'active'; its values are 0"):
        read(rock, tmp_path / "pure.npy", tell_fractions=True)
    with pytest.raises(DataError, match=r"absent\.npy: no such file"):
        read(rock, tmp_path / "absent.npy", tell_fractions=True)
