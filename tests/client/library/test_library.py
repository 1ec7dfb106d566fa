"""Libraries: the same bytes whoever makes them, and what is on record about each volume."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from mdiff_client.generate import generate
from mdiff_client.library.estimate import estimate
from mdiff_client.library.library import FAILED, damaged, forget, missing, spec_of
from mdiff_client.library.quality import Limits
from mdiff_client.library.shards import Shard
from mdiff_client.library.table import finalize
from mdiff_client.plan_files import stored_plan
from mdiff_client.sampling import named_plan
from mdiff_client.store import VolumeStore
from mdiff_core import BusyError, DataError, PermanentError, UsageError

PLAN, PLAIN = named_plan("fast", steps=4), named_plan("plain", steps=3)


def shard_files(store):
    folder = Path(store.location) / "0" / "c"
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_shards_make_what_one_worker_makes(small, make_library, tmp_path, objects):
    library = make_library(small, seeds="0-6")
    whole, parts = library.store(tmp_path / "whole.zarr"), library.store(tmp_path / "parts.zarr")
    library.run(whole, in_flight=2)
    for i in (2, 0, 1):
        library.run(parts, Shard(i, 3))
    assert objects(whole) == objects(parts)
    assert shard_files(whole) == shard_files(parts)
    assert whole.complete() == list(range(7))


def test_the_volume_of_a_seed_is_the_first_that_generate3d_makes_of_it(small, make_library, tmp_path):
    library = make_library(small, seeds="5,7")
    store = library.store(tmp_path / "library.zarr")
    library.run(store)
    alone = generate(small, PLAN, tmp_path / "alone.zarr", seed=7, count=1, grey=False)
    assert np.array_equal(store.labels(1), alone.labels(0))


def test_what_is_done_is_not_made_again(small, make_library, tmp_path):
    library = make_library(small, seeds="0-3")
    store = library.store(tmp_path / "library.zarr")
    library.run(store, Shard(1, 2))
    small.batches.clear()
    library.run(store)
    assert len(small.batches) == 2 * library.evaluations
    assert missing(store) == []


def test_a_failure_leaves_what_is_complete(small, make_library, tmp_path):
    class Failing(type(small)):
        def predict(self, *inputs):
            if len(self.batches) > 2 * 6:
                raise PermanentError("no more")
            return super().predict(*inputs)

    library = make_library(Failing(n=8), seeds="0-9")
    store = library.store(tmp_path / "library.zarr")
    with pytest.raises(PermanentError, match="no more"):
        library.run(store)
    assert store.complete() == [0, 1]
    assert store.storage.names("workers") == []


def test_each_combination_has_a_volume_of_each_seed(pixels, make_pixels, make_library, tmp_path):
    told = make_pixels(fractions=((0.0, 0.5),))
    library = make_library(
        told, PLAIN, seeds="3-5", classes=("dark", "light"), fractions={"sphere": (0.1, 0.3)}, limits=Limits()
    )
    store = library.store(tmp_path / "library.zarr")
    assert store.shape == (12, 8, 8, 8)
    library.run(store)
    asked = [(store.condition(i).label, store.condition(i).fractions, store.record(i)["seed"]) for i in range(12)]
    assert asked == [(label, (fraction,), seed) for label in (0, 1) for fraction in (0.1, 0.3) for seed in (3, 4, 5)]
    assert {condition.fractions for condition in VolumeStore.open(store.location).conditions} == {(0.1,), (0.3,)}


def test_a_volume_outside_the_limits_is_made_again_of_the_next_sub_seed(small, make_library, tmp_path):
    library = make_library(small, seeds="0-9", limits=Limits(attempts=1))
    free = library.store(tmp_path / "free.zarr")
    library.run(free)
    errors = [free.record(i)["phases"]["sphere"]["fraction_error"] for i in range(10)]
    limit = sorted(errors)[4]
    library = make_library(small, seeds="0-9", limits=Limits(fraction=limit, attempts=20))
    gated = library.store(tmp_path / "gated.zarr")
    library.run(gated)
    for index, error in enumerate(errors):
        record = gated.record(index)
        assert record["phases"]["sphere"]["fraction_error"] <= limit
        assert (record["attempt"] == 0) == (error <= limit)
        assert [one["attempt"] for one in record["rejected"]] == list(range(record["attempt"]))
        assert all(one["exceeded"] and len(one["sha256"]) == 64 for one in record["rejected"])
    assert any(gated.record(index)["attempt"] for index in range(10))


def test_a_volume_that_no_attempt_makes_good_is_given_up_and_on_record(rejecting, make_library, tmp_path):
    library = make_library(rejecting, seeds="0-1", limits=Limits(fraction=0.1, attempts=2))
    store = library.store(tmp_path / "library.zarr")
    library.run(store)
    assert (store.complete(), store.documents(FAILED), missing(store)) == ([], [0, 1], [])
    rejected = store.document(FAILED, 1)["rejected"]
    assert [one["attempt"] for one in rejected] == [0, 1]
    assert rejected[0]["exceeded"][-1].startswith("matrix: fraction off by 0.")
    rejecting.batches.clear()
    library.run(store)
    assert rejecting.batches == []


def test_what_is_no_number_is_made_again_of_the_next_sub_seed(small, make_library, tmp_path):
    class Broken(type(small)):
        def predict(self, x, t, label=None, fractions=None):
            eps, v = super().predict(x, t, label, fractions)
            return (eps * np.float32("nan") if len(self.batches) == 2 else eps), v

    library = make_library(Broken(n=8), limits=Limits(attempts=2))
    store = library.store(tmp_path / "library.zarr")
    library.run(store)
    assert store.record(0)["attempt"] == 1
    (complaint,) = store.record(0)["rejected"][0]["exceeded"]
    assert "no numbers" in complaint


def test_two_workers_on_the_same_volumes_are_one_too_many(small, make_library, tmp_path):
    class Nosy(type(small)):
        refused = 0

        def predict(self, *inputs):
            if not self.batches:
                with pytest.raises(BusyError):
                    library.run(store, Shard(0, 2))
                self.refused += 1
            return super().predict(*inputs)

    nosy = Nosy(n=8)
    library = make_library(nosy)
    store = library.store(tmp_path / "library.zarr")
    library.run(store)
    assert nosy.refused == 1


def test_verify_finds_what_was_damaged_and_a_run_mends_it(small, make_library, tmp_path, objects):
    library = make_library(small, seeds="0-3")
    store = library.store(tmp_path / "library.zarr")
    library.run(store)
    expected = objects(store)
    assert [complaint for _, complaint in damaged(store, store.complete())] == [None] * 4
    folder = Path(store.location)
    shard = folder / "0" / "c" / "1" / "0" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-30])
    (folder / "0" / "c" / "2" / "0" / "0" / "0").unlink()
    zarr.open_array(folder / "0", mode="r+")[3, 0, 0, 0] = 1 - store.voxels(3)[0, 0, 0]
    found = dict(damaged(store, store.complete()))
    assert found[0] is None
    assert "damaged" in found[1]
    assert "sha256" in found[2]
    assert "sha256" in found[3]
    for index in (1, 2, 3):
        forget(store, index)
    library.run(store)
    assert objects(store) == expected


def test_a_library_is_not_resumed_with_other_models_or_limits(small, make_library, tmp_path):
    make_library(small, seeds="0-3").store(tmp_path / "library.zarr")
    assert make_library(small, seeds="0-3").store(tmp_path / "library.zarr", resume=True).shape[0] == 4
    with pytest.raises(UsageError, match="library seeds"):
        make_library(small, seeds="4-7").store(tmp_path / "library.zarr", resume=True)
    other = dataclasses.replace(small.contract.provenance, weights_sha256="other")
    small.contract = dataclasses.replace(small.contract, provenance=other)
    with pytest.raises(UsageError, match="weights_sha256"):
        make_library(small, seeds="0-3").store(tmp_path / "library.zarr", resume=True)


def test_a_creation_that_was_cut_short_is_taken_up(small, make_library, tmp_path):
    library = make_library(small)
    store = library.store(tmp_path / "library.zarr")
    metadata = Path(store.location) / "zarr.json"
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "attributes": {}}))
    with pytest.raises(DataError, match="not a store"):
        VolumeStore.open(store.location)
    assert library.store(tmp_path / "library.zarr", resume=True).shape == (1, 8, 8, 8)


def test_other_peoples_groups_are_left_alone(small, make_library, tmp_path):
    array = zarr.create_array(tmp_path / "other.zarr", name="0", shape=(4,), chunks=(4,), dtype="u1")
    array[:] = 7
    for resume in (False, True):
        with pytest.raises((UsageError, DataError)):
            make_library(small).store(tmp_path / "other.zarr", resume=resume)
    assert (zarr.open_array(tmp_path / "other.zarr" / "0", mode="r")[:] == 7).all()


@pytest.mark.parametrize("full", [False, True])
def test_other_peoples_folders_are_left_alone(small, make_library, tmp_path, monkeypatch, full):
    for name in ("0", "thoughts"):
        (tmp_path / "thesis" / name).mkdir(parents=True)
        (tmp_path / "thesis" / name / "thesis.txt").write_text("years of work")
    if full:

        def refuse(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("zarr.storage._local._put", refuse)
    for resume in (False, True):
        with pytest.raises(UsageError, match="exists"):
            make_library(small).store(tmp_path / "thesis", resume=resume)
    assert len(list((tmp_path / "thesis").rglob("thesis.txt"))) == 2


@pytest.mark.parametrize("content", [b"", b"\xff", b"{}", b'{"volume": 1, "sha256": 3}'])
def test_a_damaged_record_is_found_and_keeps_a_library_from_being_finished(small, make_library, tmp_path, content):
    library = make_library(small, seeds="0-1")
    store = library.store(tmp_path / "library.zarr")
    library.run(store)
    store.storage.write("records/000001.json", content)
    store.storage.write("records/._000001.json", b"a file system's own")
    assert [index for index, complaint in damaged(store, store.complete()) if complaint] == [1]
    with pytest.raises(DataError):
        finalize(store, parquet=False)


def test_a_library_of_another_version_is_one_clear_error(small, make_library, tmp_path):
    store = make_library(small).store(tmp_path / "library.zarr")
    more = {"colour": "red"}
    made = {**store.made, "library": {**store.made["library"], **more}}
    with pytest.raises(DataError, match=r"laid out by mdiff \d"):
        spec_of(dataclasses.replace(store, made=made))
    with pytest.raises(DataError, match="another version"):
        stored_plan({**store.plan, **more})


@pytest.mark.parametrize("guidance", [(1.0, 2.0), (2.0, 1.0)])
def test_guided_volumes_are_estimated_at_twice_the_images(pixels, make_library, tmp_path, guidance):
    def images(*strengths):
        library = make_library(pixels, PLAIN, seeds="0-1", classes=("dark",), guidance=strengths)
        return estimate(library, str(tmp_path / "library.zarr"), on_wire=True)

    both, plain = images(*guidance), images(1.0)
    assert both["images"] == 3 * plain["images"]
    assert both["bytes_on_the_wire"] == 3 * plain["bytes_on_the_wire"]


def test_grey_libraries_are_held_to_no_reference(small, make_library, tmp_path):
    library = make_library(small, grey=True)
    store = library.store(tmp_path / "library.zarr")
    library.run(store)
    assert store.read(0).dtype == np.float32
    assert store.record(0)["phases"] == {}


def test_a_store_of_generate3d_is_no_library(small, tmp_path):
    store = generate(small, PLAN, tmp_path / "out.zarr", seed=0, count=1, grey=False)
    with pytest.raises(UsageError, match="is no library"):
        spec_of(store)


@pytest.mark.parametrize("parquet", [False, True])
def test_the_table_has_a_row_for_each_volume(make_pixels, make_library, tmp_path, parquet):
    told = make_pixels(fractions=((0.0, 0.5),))
    library = make_library(told, PLAIN, seeds="0-1", fractions={"sphere": (0.1, 0.3)}, classes=("dark",))
    store = library.store(tmp_path / "library.zarr")
    with pytest.raises(UsageError, match="4 of 4 volumes are missing, the first is 0"):
        finalize(store, parquet=parquet)
    library.run(store)
    store.write_document("properties", 2, {"tortuosity_z": 1.5})
    name = finalize(store, parquet=parquet)
    assert rows(Path(store.location) / name)[2] == {
        **{"volume": "2", "seed": "0", "accepted": "True", "attempts": "1", "attempt": "0"},
        **{"class": "dark", "sphere_fraction_asked": "0.3", "guidance": "1.0"},
        **{
            f"{phase}_{what}": str(value)
            for phase, score in store.record(2)["phases"].items()
            for what, value in score.items()
            if value not in (None, "")
        },
        **{"evaluations": str(library.evaluations), "sha256": store.record(2)["sha256"], "tortuosity_z": "1.5"},
    }


def rows(table):
    import csv

    from pyarrow import parquet

    if table.suffix == ".csv":
        found = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    else:
        found = parquet.read_table(table).to_pylist()
    return [{name: str(value) for name, value in row.items() if value not in (None, "")} for row in found]


def test_a_finished_library_is_the_same_whoever_made_it(small, make_library, tmp_path):
    library = make_library(small, seeds="0-3")
    tables = []
    for name, shards in (("one", [Shard(0, 1)]), ("two", [Shard(1, 2), Shard(0, 2)])):
        store = library.store(tmp_path / f"{name}.zarr")
        for shard in shards:
            library.run(store, shard)
        finalize(store, parquet=False)
        tables.append((Path(store.location) / "table.csv").read_bytes())
    assert tables[0] == tables[1]
    consolidated = json.loads((Path(store.location) / "zarr.json").read_text())["consolidated_metadata"]
    assert list(consolidated["metadata"]) == ["0"]
    assert len((Path(store.location) / "records.jsonl").read_text().splitlines()) == 4
    assert VolumeStore.open(store.location).complete() == [0, 1, 2, 3]


def test_volumes_given_up_are_in_the_table(rejecting, make_library, tmp_path):
    library = make_library(rejecting, seeds="0", limits=Limits(fraction=0.1, attempts=2))
    store = library.store(tmp_path / "library.zarr")
    library.run(store)
    finalize(store, parquet=False)
    (row,) = rows(Path(store.location) / "table.csv")
    assert (row["accepted"], row["attempts"], row["attempt"]) == ("False", "2", "1")
