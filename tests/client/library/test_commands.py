"""The command line of libraries, in a folder and in a real S3 server."""

import csv
import errno
import json
import re
import signal
import subprocess
import sys
import time

import pytest

from mdiff_client.storage import Storage
from mdiff_client.store import VolumeStore
from mdiff_core.errors import DataError, UnavailableError

DESCRIPTION = """
model = "told"
plan = "PLAN"
seeds = "0-1"
classes = ["coarse"]
fractions = { sphere = [0.3, 0.5] }

[limits]
attempts = 1
"""


@pytest.fixture
def description(tmp_path):
    plan = tmp_path / "short.toml"
    plan.write_text('plan = "draft"\nsteps = 4\n')
    path = tmp_path / "library.toml"
    path.write_text(DESCRIPTION.replace("PLAN", str(plan)))
    return path


def test_plan_says_what_it_would_cost_and_writes_nothing(client, told_repository, description, tmp_path):
    asked = ("library", "plan", tmp_path / "lib.zarr", "--from", description, "--repository", told_repository)
    result = client(*asked, "--seeds", "0-9", "--json")
    assert result.returncode == 0, result.stderr
    cost = json.loads(result.stdout)
    assert (cost["volumes"], cost["combinations"], cost["bytes_on_the_wire"]) == (20, 2, 0)
    assert cost["evaluations"] == 20 * 6
    assert cost["bytes_before_compression"] == 20 * 16**3
    assert cost["hours_of_one_worker"] == pytest.approx(20 * cost["seconds_per_volume"] / 3600, abs=1e-3)
    assert not (tmp_path / "lib.zarr").exists()


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_a_library_from_plan_to_table(client, told_repository, description, tmp_path, s3, where):
    _, variables = s3
    store = tmp_path / "lib.zarr" if where == "folder" else "s3://volumes/lib.zarr"

    def library(command, *options):
        result = client("library", command, store, *options, **variables)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        return json.loads(result.stdout)

    models = ("--repository", told_repository, "--json")
    assert library("create", "--from", description, *models)["volumes"] == 4
    assert library("create", "--from", description, "--resume", *models)["volumes"] == 4
    assert library("run", "--shard", "1/3", *models)["volumes"] == 1
    assert library("status", "--json") == {
        **{"library": str(store), "volumes": 4, "done": 1, "given_up": [], "missing": [0, 2, 3], "workers": []},
    }
    assert library("run", *models)["volumes"] == 3
    assert library("verify", "--json") == {"library": str(store), "checked": 4, "damaged": {}}
    assert library("finalize", "--json")["given_up"] == 0
    if where == "folder":
        rows = list(csv.DictReader((store / "table.csv").read_text().splitlines()))
        assert [(row["seed"], row["sphere_fraction_asked"], row["class"]) for row in rows] == [
            (seed, fraction, "coarse") for fraction in ("0.3", "0.5") for seed in ("0", "1")
        ]
    for command in (("evaluate", store), ("preview", store, tmp_path / "p.png", "--volume", "2")):
        result = client(*command, **variables)
        assert result.returncode == 0, result.stderr


def test_a_bucket_holds_the_same_bytes_as_a_folder(client, told_repository, description, tmp_path, s3):
    s3, variables = s3
    folder, models = tmp_path / "same.zarr", ("--repository", told_repository)
    for place in (folder, "s3://volumes/same.zarr"):
        for command in (("create", place, "--from", description), ("run", place)):
            result = client("library", *command, *models, **variables)
            assert result.returncode == 0, result.stderr
    files = {str(file.relative_to(folder)): file for file in (folder / "0").rglob("*") if file.is_file()}
    listed = s3.list_objects_v2(Bucket="volumes", Prefix="same.zarr/0/")["Contents"]
    assert {one["Key"].removeprefix("same.zarr/") for one in listed} == set(files)
    for name, file in files.items():
        assert s3.get_object(Bucket="volumes", Key=f"same.zarr/{name}")["Body"].read() == file.read_bytes()


def test_a_bucket_where_something_else_lies_is_refused(client, assert_one_line, told_repository, description, s3):
    s3, variables = s3
    s3.put_object(Bucket="volumes", Key="thesis/0/thesis.txt", Body=b"years of work")
    for more in ((), ("--resume",)):
        create = ("library", "create", "s3://volumes/thesis", "--from", description, "--repository", told_repository)
        assert_one_line(client(*create, *more, **variables), 2, "exists")
    assert s3.get_object(Bucket="volumes", Key="thesis/0/thesis.txt")["Body"].read() == b"years of work"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.EBUSY, "Please reduce your request rate."), UnavailableError),  # as s3fs tells SlowDown
        (TimeoutError(), UnavailableError),
        (PermissionError("Access Denied"), DataError),
        (FileNotFoundError("The specified bucket does not exist"), DataError),
    ],
)
def test_an_object_store_that_cannot_answer_now_is_told_from_one_that_refuses(error, kind):
    with pytest.raises(kind), Storage("s3://volumes/x.zarr").guarded("written"):
        raise error
    with pytest.raises(DataError), Storage("x.zarr").guarded("written"):
        raise error


def test_an_object_store_that_does_not_answer_is_told_from_one_without_the_library(
    client, assert_one_line, s3, free_port
):
    _, variables = s3
    assert_one_line(client("library", "status", "s3://volumes/none.zarr", **variables), 3, "no such store")
    assert_one_line(client("library", "status", "s3://no-such-bucket/none.zarr", **variables), 3, "no such store")
    away = {**variables, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    result = client("library", "status", "s3://volumes/none.zarr", **away)
    assert_one_line(result, UnavailableError.exit_code, "does not answer")


def test_a_killed_worker_loses_the_volume_in_flight_and_nothing_else(client, told_repository, description, tmp_path):
    """It is killed wherever it happens to be, again and again, until the library is complete."""
    store, whole = tmp_path / "killed.zarr", tmp_path / "whole.zarr"
    many = ("--seeds", "0-7", "--repository", told_repository)
    for place in (store, whole):
        assert client("library", "create", place, "--from", description, *many).returncode == 0
    assert client("library", "run", whole, "--repository", told_repository).returncode == 0
    kills = 0
    while True:
        worker = subprocess.Popen(
            [sys.executable, "-m", "mdiff_client", "library", "run", store, "--repository", told_repository],
            stdout=subprocess.DEVNULL,
        )
        before = len(VolumeStore.open(store).complete())
        while worker.poll() is None and len(VolumeStore.open(store).complete()) < before + 4:
            time.sleep(0.002)
        if worker.poll() is not None:
            break
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        kills += 1
    assert worker.returncode == 0
    assert kills >= 2
    result = client("library", "verify", store)
    assert result.returncode == 0, result.stderr
    one, other = VolumeStore.open(store), VolumeStore.open(whole)
    assert one.complete() == other.complete() == list(range(16))
    assert all(one.record(i)["sha256"] == other.record(i)["sha256"] for i in range(16))
    assert list((store / "workers").iterdir()) == []


def test_what_cannot_be_done_is_one_line(client, assert_one_line, told_repository, description, tmp_path):
    store, repository = tmp_path / "lib.zarr", ("--repository", told_repository)
    create = ("library", "create", store, "--from", description, *repository)
    assert_one_line(client("library", "run", store), 3, "no such store")
    assert client(*create).returncode == 0
    assert_one_line(client(*create), 2, "exists")
    assert_one_line(client(*create, "--resume", "--seeds", "9"), 2, "library seeds")
    assert_one_line(client("library", "run", store, "--shard", "3/3", *repository), 2, "shard 3/3")
    assert_one_line(client("library", "run", store), 2, "no model 'told'")
    assert_one_line(client("library", "finalize", store), 2, "4 of 4 volumes are missing")
    other = tmp_path / "other.zarr"
    assert_one_line(client("library", "create", other, "--limit", "s2=x", *repository), 2, "give a number")
    assert_one_line(client("library", "create", other, "--limit", "percolates=pore"), 2, "no phase 'pore'")
    assert_one_line(client("library", "create", other, "--size", "8x8x8"), 2, "at least")
    assert_one_line(client("library", "create", "foo://bar/x.zarr"), 2, "foo")
    assert not other.exists()


def test_damage_is_reported_and_repaired(client, told_repository, description, tmp_path):
    store = tmp_path / "lib.zarr"
    client("library", "create", store, "--from", description, "--repository", told_repository)
    client("library", "run", store, "--repository", told_repository)
    (store / "0" / "c" / "2" / "0" / "0" / "0").unlink()
    found = client("library", "verify", store, "--json")
    assert found.returncode == 3
    assert list(json.loads(found.stdout)["damaged"]) == ["2"]
    assert re.search(r"1 volumes? (is|are) damaged", found.stderr)
    assert client("library", "verify", store, "--repair").returncode == 0
    assert json.loads(client("library", "status", store, "--json").stdout)["missing"] == [2]
    assert client("library", "run", store, "--repository", told_repository).returncode == 0
    assert client("library", "verify", store).returncode == 0
