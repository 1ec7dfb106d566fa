"""Libraries of volumes: the same bytes however they are made, and what failures and interruptions leave."""

import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import tifffile
import zarr
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from mdiff_client.denoisers import embedded
from mdiff_client.denoisers.connection import Connection
from mdiff_client.denoisers.embedded import EmbeddedDenoiser
from mdiff_client.denoisers.place import Place
from mdiff_client.denoisers.triton import TritonDenoiser
from mdiff_client.generate import generate
from mdiff_client.sampling import PLANS, Anchor, Condition, Plane, named_plan, sample
from mdiff_client.sampling.plan import DEFAULT
from mdiff_client.store import VolumeStore
from mdiff_client.thresholds import Threshold, otsu
from mdiff_core import CONTRACT_KEY, ModelContract, PermanentError, UsageError

PLAN = named_plan(DEFAULT, steps=4)
SHORT = named_plan("paper", steps=3, harmonize=2)


def made(denoiser, out, plan=PLAN, count=3, grey=False, **options):
    return generate(denoiser, plan, out, seed=7, count=count, grey=grey, **options)


def shards(store):
    """The bytes of every volume as they lie on the disk."""
    files = (file for file in (Path(store.location) / "0").rglob("c/*/*/*/*") if file.is_file())
    return {file.relative_to(Path(store.location) / "0" / "c").parts[0]: file.read_bytes() for file in files}


@pytest.fixture
def small(make_gaussian):
    return make_gaussian(n=8)


def test_volumes_in_flight_together_are_those_made_one_after_the_other(small, tmp_path):
    alone = made(small, tmp_path / "alone.zarr", count=5)
    together = made(small, tmp_path / "together.zarr", count=5, in_flight=3)
    assert shards(alone) == shards(together)
    assert len(set(shards(alone).values())) == 5


def test_so_many_volumes_are_in_flight(small, tmp_path):
    """Three calls meet, which can only be those of three volumes: a denoiser is called once at a time by each."""
    meeting, calls = threading.Barrier(3, timeout=30), itertools.count()

    class Meeting(type(small)):
        def predict(self, *inputs):
            if next(calls) < 3:
                meeting.wait()
            return super().predict(*inputs)

    made(Meeting(n=8), tmp_path / "out.zarr", in_flight=3)


def test_a_server_on_this_machine_is_told_from_one_elsewhere():
    """By default two volumes are in flight to a server elsewhere, whose cores are not those that update a volume."""
    assert Place().is_here
    assert Place(Connection("localhost:8001")).is_here
    assert not Place(Connection("triton.example:8001")).is_here


@pytest.mark.parametrize("batch", [5, 17, 1000])
def test_the_embedded_engines_batch_changes_no_bit(told_repository, tmp_path, monkeypatch, batch):
    denoiser = EmbeddedDenoiser(told_repository, "told")
    expected = made(denoiser, tmp_path / "32.zarr", count=1)
    monkeypatch.setattr(embedded, "_PIECE", batch)
    assert shards(made(denoiser, tmp_path / "other.zarr", count=1)) == shards(expected)


@pytest.fixture
def served(tiny_triton):
    with TritonDenoiser(Connection(tiny_triton.grpc_address), "tiny") as denoiser:
        yield denoiser


def test_the_servers_batch_changes_no_bit(tiny_repository, start_triton, served, tmp_path):
    config = tiny_repository / "tiny" / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 64", "max_batch_size: 17"))
    with TritonDenoiser(Connection(start_triton(tiny_repository).grpc_address), "tiny") as seventeen:
        other = made(seventeen, tmp_path / "17.zarr", plan=SHORT, grey=True, in_flight=2)
    assert shards(other) == shards(made(served, tmp_path / "64.zarr", plan=SHORT, grey=True))


def test_calls_that_fail_and_are_made_again_change_no_bit(served, tmp_path, monkeypatch):
    expected = made(served, tmp_path / "quiet.zarr", plan=SHORT, grey=True)
    infer, calls = InferenceServerClient.infer, itertools.count()

    def flaky(*arguments, **options):
        if next(calls) % 4 == 1:
            raise InferenceServerException("Exceeds maximum queue size", "StatusCode.UNAVAILABLE")
        return infer(*arguments, **options)

    monkeypatch.setattr(InferenceServerClient, "infer", flaky)
    assert shards(made(served, tmp_path / "flaky.zarr", plan=SHORT, grey=True, in_flight=3)) == shards(expected)
    assert next(calls) > 20


def test_a_failure_ends_what_is_in_flight_and_leaves_what_is_complete(small, tmp_path):
    expected = shards(made(small, tmp_path / "whole.zarr", count=6))
    calls = len(small.batches) // 6

    class Failing(type(small)):
        def predict(self, *inputs):
            if len(self.batches) > 3.5 * calls:
                raise PermanentError("no more")
            return super().predict(*inputs)

    failing = Failing(n=8)
    with pytest.raises(PermanentError, match="no more"):
        made(failing, tmp_path / "out.zarr", count=6, in_flight=2)
    store = VolumeStore.open(tmp_path / "out.zarr")
    left = shards(store)
    assert store.complete() == [int(index) for index in sorted(left)]
    assert 2 <= len(left) <= 3
    assert all(expected[index] == volume for index, volume in left.items())


def test_others_in_flight_are_given_up_at_once(small, tmp_path):
    """One volume fails while the other, of ten thousand steps, is under way."""
    first = threading.Event()

    class Failing(type(small)):
        def predict(self, *inputs):
            if not first.is_set():
                first.set()
                raise PermanentError("no more")
            return super().predict(*inputs)

    failing = Failing(n=8)
    with pytest.raises(PermanentError, match="no more"):
        made(failing, tmp_path / "out.zarr", plan=PLANS["paper"], in_flight=2)
    assert not (tmp_path / "out.zarr").exists()
    time.sleep(0.3)
    asked = len(failing.batches)
    time.sleep(0.3)
    assert len(failing.batches) == asked < 1000


def test_a_resumed_run_makes_what_is_missing_and_nothing_else(small, tmp_path):
    expected = shards(made(small, tmp_path / "whole.zarr", count=4))
    calls = len(small.batches) // 4
    store = made(small, tmp_path / "out.zarr", count=4)
    for index in (1, 3):
        (Path(store.location) / "records" / f"{index:06d}.json").unlink()
    shard = Path(store.location) / "0" / "c" / "3" / "0" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:40])
    small.batches.clear()
    assert shards(made(small, tmp_path / "out.zarr", count=4, resume=True)) == expected
    assert store.complete() == [0, 1, 2, 3]
    assert len(small.batches) == 2 * calls


@pytest.fixture
def told(told_repository):
    return EmbeddedDenoiser(told_repository, "told")


def test_what_made_the_volumes_is_noted(told, tmp_path):
    edge, shape = np.zeros((1, 16, 20), np.float32), (16, 16, 20)
    planes = [Plane(told, 0), Plane(told), Plane(told)]
    store = made(
        planes,
        tmp_path / "out.zarr",
        plan=dataclasses.replace(PLAN, size=shape),
        count=1,
        condition=Condition(label=1),
        anchors=[Anchor(1, 3, edge)],
    )
    noted = json.loads((Path(store.location) / "zarr.json").read_text())["attributes"]["mdiff"]
    weights = told.contract.provenance.weights_sha256
    assert noted["planes"] == {
        "xy": {"model": "told", "class": "fine", "weights_sha256": weights},
        "xz": {"model": "told", "class": "coarse", "weights_sha256": weights},
        "yz": {"model": "told", "class": "coarse", "weights_sha256": weights},
    }
    (anchor,) = noted["anchors"]
    assert (anchor["axis"], anchor["index"], len(anchor["sha256"])) == ("y", 3, 64)
    with pytest.raises(UsageError, match="begun with anchors"):
        made(planes, Path(store.location), plan=dataclasses.replace(PLAN, size=shape), count=1, resume=True)


@pytest.fixture
def grey_model(small):
    small.contract = dataclasses.replace(small.contract, phases=(), references={})
    return small


GREY_PLAN = dataclasses.replace(PLAN, tilt=False, thick_slices=0.0)


def test_grey_levels_are_split_at_a_threshold_which_is_noted(grey_model, tmp_path):
    options = {"plan": GREY_PLAN, "count": 2}
    grey = made(grey_model, tmp_path / "grey.zarr", grey=True, **options)
    fixed = made(grey_model, tmp_path / "fixed.zarr", threshold=Threshold(0.1), **options)
    found = made(grey_model, tmp_path / "found.zarr", threshold=Threshold(), **options)
    for index in range(2):
        assert np.array_equal(fixed.read(index), grey.read(index) > 0.1)
        assert fixed.record(index)["threshold"] == 0.1
        level = otsu(grey.read(index))
        assert np.array_equal(found.read(index), grey.read(index) > level)
        assert found.record(index)["threshold"] == level
        assert found.record(index)["fractions"]["bright"] == found.labels(index).mean()
    assert VolumeStore.open(Path(found.location)).contract.phases[1].name == "bright"


def test_a_threshold_is_for_grey_models_and_instead_of_grey(grey_model, told, tmp_path):
    with pytest.raises(UsageError, match="one of them"):
        made(grey_model, tmp_path / "out.zarr", plan=GREY_PLAN, grey=True, threshold=Threshold())
    with pytest.raises(UsageError, match="need no threshold"):
        made(told, tmp_path / "out.zarr", threshold=Threshold())
    assert list(tmp_path.iterdir()) == []


# The command line


def renamed(model, **changes):
    """Change the contract of a repository's model, which is named as its folder."""
    (path,) = model.rglob("model.onnx")
    network = onnx.load(path)
    (entry,) = (entry for entry in network.metadata_props if entry.key == CONTRACT_KEY)
    entry.value = dataclasses.replace(ModelContract.from_json(entry.value), name=model.name, **changes).to_json()
    onnx.save(network, path)


@pytest.fixture(scope="module")
def models(told_repository, tmp_path_factory):
    """``told``, and of the same network ``other``, whose classes stand the other way round, and ``levels``, of grey."""
    folder = tmp_path_factory.mktemp("models") / "repository"
    for name, changes in {
        "told": {},
        "other": {"classes": ("coarse", "fine")},
        "levels": {"phases": (), "fractions": (), "references": {}},
    }.items():
        shutil.copytree(told_repository / "told", folder / name)
        renamed(folder / name, **changes)
    return folder


QUICK = ["--steps", 2]


def test_size_periodic_planes_ratio_and_anchors_from_the_command_line(client, models, told, tmp_path):
    shape = (16, 18, 24)
    labels = np.random.default_rng(0).integers(0, 2, (16, 24)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "slice.tif", 255 * labels)
    out = tmp_path / "out.zarr"
    run = ["generate3d", out, "--repository", models, "--model", "told", "--steps", 2, "--class", "coarse"]
    volume = ["--size", "16x18x24", "--periodic", "x", "--anchor", f"y=5:{tmp_path / 'slice.tif'}"]
    planes = ["--plane", "xy=other:fine", "--plane", "xz=told:coarse", "--plane-ratio", "2:1:1"]
    result = client(*run, *volume, "--anchor-phases", "matrix=0,sphere=255", *planes, "--json")
    assert result.returncode == 0, result.stderr
    store = VolumeStore.open(out)
    plan = dataclasses.replace(named_plan(DEFAULT, steps=2), size=shape, periodic="x", ratio=(2, 1, 1))
    anchor = Anchor(1, 5, labels[None] * np.float32(2) - 1)
    other = EmbeddedDenoiser(models, "other")
    planes = [Plane(other, 1), Plane(told, 1), Plane(told, 1)]
    expected = sample(planes, plan, 0, 0, condition=Condition(label=1), anchors=[anchor])
    assert np.array_equal(store.read(0), expected[0] > 0)
    assert np.array_equal(store.read(0)[:, 5], labels)
    assert json.loads(result.stdout)["volumes"] == 1
    evaluated = client("evaluate", out)
    assert "1 volume of told" in evaluated.stdout, evaluated.stderr
    assert client("preview", out, tmp_path / "out.png").returncode == 0


def test_grey_models_make_labels_with_a_threshold(client, tiny_repository, tmp_path):
    renamed(tiny_repository / "tiny", phases=())
    out, place = tmp_path / "out.zarr", ["--repository", tiny_repository, "--model", "tiny", "--plan", "paper", *QUICK]
    result = client("generate3d", out, *place, "--harmonize", 1, "--threshold", "otsu")
    assert result.returncode == 0, result.stderr
    assert "1 volume of tiny" in result.stdout
    assert set(np.unique(zarr.open_array(out / "0", mode="r")[0])) == {0, 1}
    assert client("preview", out, tmp_path / "out.png", "--phase", "bright").returncode == 0


def test_a_dry_run_tells_what_a_large_volume_costs(client, models, tmp_path):
    place = ["--repository", models, "--model", "told"]
    options = ["--size", "16x32x32", "--periodic", "zy", "--fraction", "0.3", "--guidance", 2]
    result = client("generate3d", tmp_path / "out.zarr", *place, *options, "--dry-run", "--json")
    cost = json.loads(result.stdout)
    plan = dataclasses.replace(PLANS[DEFAULT], size=(16, 32, 32), periodic="zy")
    contract = EmbeddedDenoiser(models, "told").contract
    assert cost["volume_size"] == "16x32x32"
    assert cost["voxels_per_volume"] == 16 * 32 * 32
    assert cost["periodic"] == "zy"
    assert cost["images_per_volume"] == 2 * plan.images(contract)


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--size", "8x16x16"], 2, "ask for at least 16 along every axis"),
        (["--size", "16x16"], 2, "as 64x128x96"),
        (["--periodic", "xw"], 2, "give some of x, y and z"),
        (["--plane-ratio", "1:2"], 2, "as 2:1:1"),
        (["--plane", "xy=levels"], 2, "differ in phases"),
        (["--plane", "xy=granite"], 2, "has no model 'granite'"),
        (["--anchor", "z=3:gone.tif"], 3, "no such file"),
        (["--anchor-phases", "matrix=0,sphere=1"], 2, "give --anchor"),
        (["--threshold", "otsu"], 2, "need no threshold"),
        (["--threshold", "3"], 2, "between the grey levels"),
        (["--plan", "gone.toml"], 3, "cannot be read"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(
    client, assert_one_line, models, tmp_path, arguments, code, complaint
):
    run = ["generate3d", tmp_path / "out.zarr", "--repository", models, "--model", "told", *arguments]
    assert_one_line(client(*run), code, complaint)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def interrupted(models, tmp_path):
    """``interrupted(signal, *options)``: a run of eight volumes that got the signal after some were complete."""

    def run(number, *options):
        out = tmp_path / "out.zarr"
        command = [sys.executable, "-m", "mdiff_client", "generate3d", out, "--repository", models, "--model", "told"]
        # A shell makes what it starts in the background deaf to Ctrl-C, and with it all that starts.
        heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        with subprocess.Popen(
            [*map(str, command), *options], stderr=subprocess.PIPE, text=True, preexec_fn=heeding
        ) as process:
            try:
                while len(list(out.glob("records/*.json"))) < 2 and process.poll() is None:
                    time.sleep(0.02)
                os.kill(process.pid, number)
                complaint = process.communicate(timeout=60)[1]
            finally:
                process.kill()
        return out, process.returncode, complaint

    return run


EIGHT = ["--count", "8", "--steps", "20"]


def test_a_killed_run_is_resumed_to_the_same_bytes(client, models, told, interrupted, tmp_path, assert_one_line):
    out, code, _ = interrupted(signal.SIGKILL, *EIGHT, "--in-flight", "2")
    assert code == -signal.SIGKILL
    store = VolumeStore.open(out)
    records = {index: (store.record(index)["seconds"]) for index in store.complete()}
    assert 2 <= len(records) < 8
    place = ["--repository", models, "--model", "told", *EIGHT]
    assert_one_line(client("generate3d", out, *place), 2, "exists: choose another name")
    assert_one_line(client("generate3d", out, *place, "--resume", "--seed", 1), 2, "begun with seed 0, not 1")
    result = client("generate3d", out, *place, "--resume", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["volumes"] == 8
    assert {index: store.record(index)["seconds"] for index in records} == records
    whole = generate(
        told, named_plan(DEFAULT, steps=20), tmp_path / "whole.zarr", seed=0, count=8, grey=False, in_flight=3
    )
    assert shards(store) == shards(whole)
    nothing_missing = client("generate3d", out, *place, "--resume", "--json")
    assert nothing_missing.returncode == 0, nothing_missing.stderr
    assert "calls" not in json.loads(nothing_missing.stdout)
    assert_one_line(
        client("generate3d", out, *place, "--resume", "--plane", "xy=told:fine"), 2, 'class null, not "fine"'
    )


def test_ctrl_c_is_one_line_and_leaves_what_is_complete(interrupted):
    out, code, complaint = interrupted(signal.SIGINT, *EIGHT, "--in-flight", "2")
    assert (code, complaint) == (130, "interrupted\n")
    store = VolumeStore.open(out)
    assert 2 <= len(store.complete()) < 8
    assert sorted(shards(store)) == [str(index) for index in store.complete()]


def test_ctrl_c_is_heard_while_the_server_is_away(tiny_repository, start_triton, tmp_path):
    server, out = start_triton(tiny_repository), tmp_path / "out.zarr"
    place = ["--url", server.grpc_address, "--model", "tiny", "--plan", "paper", "--count", "2", "--in-flight", "2"]
    command = [sys.executable, "-m", "mdiff_client", "generate3d", out, *place, "--log-json"]
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heeding) as run:
        try:
            run.stderr.readline()  # run started
            server.process.kill()
            assert "call retried" in run.stderr.readline()
            os.kill(run.pid, signal.SIGINT)
            events = [json.loads(line)["event"] for line in run.communicate(timeout=20)[1].splitlines()]
        finally:
            run.kill()
    assert (run.returncode, events[-1]) == (130, "run interrupted")
    assert not out.exists()
