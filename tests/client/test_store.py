import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from mdiff_client.image_files import write_images
from mdiff_client.sampling import IMAGES, PLANS, UNCONDITIONAL, Condition
from mdiff_client.store import VolumeStore, provenance
from mdiff_core import DataError, UsageError


@pytest.fixture
def contract(make_gaussian):
    return make_gaussian(n=8).contract


@pytest.fixture
def store(tmp_path, contract):
    return VolumeStore.create(tmp_path / "out.zarr", contract, PLANS["balanced"], seed=4, count=3, grey=False)


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 2, (8, 8, 8)).astype(np.uint8)


def test_volumes_come_back_as_they_were_written(store, labels):
    store.write(1, labels, evaluations=60)
    reopened = VolumeStore.open(store.location)
    assert reopened.complete() == [1]
    assert np.array_equal(reopened.read(1), labels)
    assert reopened.record(1)["evaluations"] == 60


def test_an_all_zero_volume_is_complete_too(store):
    store.write(0, np.zeros((8, 8, 8), np.uint8))
    assert store.complete() == [0]
    assert not store.read(0).any()


def test_one_shard_is_one_volume(store, labels):
    store.write(0, labels)
    store.write(2, labels)
    files = sorted(
        file.relative_to(Path(store.location) / "0" / "c")
        for file in (Path(store.location) / "0").rglob("c/**/*")
        if file.is_file()
    )
    assert [file.parts[0] for file in files] == ["0", "2"]


@pytest.mark.parametrize(
    ("size", "chunk"),
    [((8, 64, 128), (8, 64, 64)), ((96, 192, 97), (48, 64, 97)), ((127, 134, 512), (127, 134, 64))],
)
def test_chunks_divide_a_volume_of_any_size(tmp_path, contract, size, chunk):
    plan = dataclasses.replace(PLANS["balanced"], size=size)
    store = VolumeStore.create(tmp_path / "o.zarr", contract, plan, seed=0, count=2, grey=False)
    array = zarr.open_array(Path(store.location) / "0", mode="r")
    assert (array.shape, array.shards, array.chunks) == ((2, *size), (1, *size), (1, *chunk))


def test_a_size_that_the_model_does_not_know_leaves_nothing(tmp_path, contract):
    plan = dataclasses.replace(PLANS["balanced"], size=(8, 7, 8))
    with pytest.raises(UsageError, match="at least 8"):
        VolumeStore.create(tmp_path / "o.zarr", contract, plan, seed=0, count=1, grey=False)
    assert list(tmp_path.iterdir()) == []


def test_a_volume_without_its_record_is_not_complete(store, labels):
    store.write(0, labels)
    next((Path(store.location) / "records").iterdir()).unlink()
    assert VolumeStore.open(store.location).complete() == []
    with pytest.raises(DataError, match="volume 0 is not there"):
        store.read(0)


def test_provenance_travels_with_the_volumes(store, contract):
    reopened = VolumeStore.open(store.location)
    assert reopened.contract == contract
    assert reopened.made["seed"] == 4
    assert reopened.plan["steps"] == PLANS["balanced"].steps


def test_the_condition_travels_with_the_volumes(tmp_path, contract):
    asked = Condition(label=1, fractions=(0.4,), guidance=2.5)
    VolumeStore.create(tmp_path / "o.zarr", contract, PLANS["paper"], seed=0, count=1, grey=False, conditions=[asked])
    assert VolumeStore.open(tmp_path / "o.zarr").conditions == (asked,)


def test_a_store_from_before_there_were_conditions_is_read(store):
    group = zarr.open_group(Path(store.location), mode="r+")
    mdiff = group.attrs["mdiff"]
    del mdiff["conditions"]
    group.attrs["mdiff"] = mdiff
    assert VolumeStore.open(store.location).conditions == (UNCONDITIONAL,)


def test_images_are_no_volumes(tmp_path, contract):
    attributes = provenance(contract, IMAGES, [UNCONDITIONAL], seed=0)
    write_images(tmp_path / "i.zarr", contract, attributes, 1, np.uint8, [np.zeros((1, 8, 8), np.uint8)])
    with pytest.raises(DataError, match="not a store of volumes"):
        VolumeStore.open(tmp_path / "i.zarr")


def test_the_metadata_is_ome_zarr(store):
    ome = json.loads((Path(store.location) / "zarr.json").read_text())["attributes"]["ome"]
    multiscale = ome["multiscales"][0]
    array = zarr.open_array(Path(store.location) / multiscale["datasets"][0]["path"], mode="r")
    names = [axis["name"] for axis in multiscale["axes"]]
    assert ome["version"] == "0.5"
    assert names == ["volume", "z", "y", "x"] == list(array.metadata.dimension_names)
    assert [axis.get("type") for axis in multiscale["axes"]] == [None, "space", "space", "space"]
    scale = multiscale["datasets"][0]["coordinateTransformations"][0]
    assert scale == {"type": "scale", "scale": [1.0, 1.0, 1.0, 1.0]}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_the_metadata_is_json_that_every_reader_takes(tmp_path, contract, plan):
    store = VolumeStore.create(tmp_path / "out.zarr", contract, plan, seed=0, count=1, grey=False)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    json.loads((Path(store.location) / "zarr.json").read_text(), parse_constant=refuse)


def test_grey_levels_are_float_and_give_labels(tmp_path, contract, labels):
    store = VolumeStore.create(tmp_path / "grey.zarr", contract, PLANS["balanced"], seed=0, count=1, grey=True)
    grey = np.where(labels, 0.8, -0.9).astype(np.float32)
    store.write(0, grey)
    assert np.array_equal(store.read(0), grey)
    assert np.array_equal(store.labels(0), labels)


def test_an_existing_path_is_left_alone(tmp_path, contract):
    (tmp_path / "out.zarr").write_text("precious")
    with pytest.raises(UsageError, match="exists"):
        VolumeStore.create(tmp_path / "out.zarr", contract, PLANS["paper"], seed=0, count=1, grey=False)
    assert (tmp_path / "out.zarr").read_text() == "precious"


@pytest.fixture
def again(store, contract):
    """The store asked for once more, with some of its arguments changed."""

    def create(**changes):
        same = {"contract": contract, "plan": PLANS["balanced"], "seed": 4, "count": 3, "grey": False}
        return VolumeStore.create(store.location, **(same | changes), resume=True)

    return create


def test_a_store_is_resumed_as_it_lies(store, again, labels):
    store.write(1, labels)
    (Path(store.location) / "records" / "000002.partial").write_text("{")
    assert again() == VolumeStore.open(store.location)
    assert again().complete() == [1]


def test_a_store_that_is_not_there_is_created(tmp_path, contract):
    store = VolumeStore.create(
        tmp_path / "new.zarr", contract, PLANS["paper"], seed=0, count=1, grey=False, resume=True
    )
    assert store.complete() == []


def test_a_store_of_other_volumes_is_not_resumed(again, contract):
    weights = dataclasses.replace(contract.provenance, weights_sha256="other")
    for changes, complaint in (
        ({"seed": 5}, "begun with seed 4, not 5"),
        ({"count": 5}, "begun with count 3, not 5"),
        ({"grey": True}, "grey false, not true"),
        ({"plan": dataclasses.replace(PLANS["balanced"], steps=7)}, f"plan steps {PLANS['balanced'].steps}, not 7"),
        ({"plan": dataclasses.replace(PLANS["balanced"], size=(8, 8, 9))}, r"plan size null, not \[8, 8, 9\]"),
        ({"conditions": [Condition(fractions=(0.4,))]}, 'conditions .*"fractions": \\[\\].*, not .*'),
        ({"contract": dataclasses.replace(contract, provenance=weights)}, 'weights_sha256 "", not "other"'),
        ({"more": {"threshold": {"level": 0.1}}}, 'threshold null, not {"level": 0.1}'),
    ):
        with pytest.raises(UsageError, match=complaint):
            again(**changes)


def test_a_path_that_cannot_be_written_is_one_clear_error(tmp_path, contract):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        VolumeStore.create(tmp_path / "file" / "out.zarr", contract, PLANS["paper"], seed=0, count=1, grey=False)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: zarr.create_group(path)])
def test_something_else_is_not_a_store(tmp_path, make):
    make(tmp_path / "other.zarr")
    with pytest.raises(DataError, match=r"no such store|not a store"):
        VolumeStore.open(tmp_path / "other.zarr")
