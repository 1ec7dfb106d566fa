"""Two workers on the same volumes, on a real folder."""

import json
import os
import subprocess
import sys
import time

import pytest

from mdiff_client.library.lease import WORKERS, Lease, at_work
from mdiff_client.library.shards import WHOLE, Shard
from mdiff_client.storage import Storage
from mdiff_core import BusyError

BEAT = 0.1


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path / "library.zarr"))


@pytest.fixture
def lease(storage):
    return lambda shard=WHOLE: Lease(storage, shard, 100, BEAT)


def claim(storage, shard="000000-of-000001", **content):
    """A file as another worker leaves it."""
    key = f"{WORKERS}/{shard}-another.json"
    storage.write(key, json.dumps({"host": "elsewhere", "system": "another", "pid": 1, "started": "1", **content}))
    return key


def test_a_second_worker_on_the_same_volumes_is_refused(lease):
    with lease(Shard(1, 3)), pytest.raises(BusyError, match=r"a worker on .* volumes of shard 4/6"):
        lease(Shard(4, 6)).__enter__()


def test_workers_of_other_volumes_do_not_meet(lease, storage):
    with lease(Shard(0, 2)), lease(Shard(1, 4)), lease(Shard(3, 4)):
        assert len(at_work(storage)) == 3
    assert storage.names(WORKERS) == []


def test_a_worker_that_is_refused_leaves_nothing_behind(lease, storage):
    with lease():
        with pytest.raises(BusyError):
            lease().__enter__()
        assert len(storage.names(WORKERS)) == 1
    with lease():
        pass


def test_the_claim_of_a_process_that_was_killed_here_is_void_at_once(lease, storage):
    dead = "from mdiff_client.library.lease import _self; import json; print(json.dumps(_self()))"
    process = subprocess.run([sys.executable, "-c", dead], capture_output=True, text=True, check=True)
    key = claim(storage, **json.loads(process.stdout))
    assert at_work(storage) == []
    began = time.monotonic()
    with lease():
        assert time.monotonic() - began < 3 * BEAT
        assert storage.read(key) is None


def test_the_claim_of_a_process_that_is_dead_and_not_yet_buried_is_void(lease, storage):
    """Its parent has not asked how it ended: the process is still listed."""
    code = (
        "import os; from mdiff_client.library.lease import _self; import json; print(json.dumps(_self()), flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        claim(storage, **json.loads(process.stdout.readline()))
        assert process.stdout.read() == ""
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert at_work(storage) == []
        with lease():
            pass


def test_what_file_systems_put_between_the_claims_is_none(lease, storage):
    for name in (".nfs0000000000000001", f"000000-of-000001-{'0' * 32}.{'1' * 32}.partial", "._x.json"):
        storage.write(f"{WORKERS}/{name}", "[]")
    assert at_work(storage) == []
    with lease():
        assert len(at_work(storage)) == 1


def test_a_claim_that_cannot_be_read_lapses(lease, storage):
    key = claim(storage)
    for content in (b"\xff", b"[]"):
        storage.write(key, content)
        with lease():
            assert storage.read(key) is None


def test_a_claim_from_elsewhere_that_nobody_renews_lapses(lease, storage):
    key = claim(storage)
    assert at_work(storage) == ["shard 0/1 on elsewhere"]
    with lease():
        assert storage.read(key) is None


def test_a_claim_from_elsewhere_that_is_renewed_stands(lease, storage):
    key = claim(storage, beat=1)
    code = (
        "import sys, time\nfrom mdiff_client.storage import Storage\nfor beat in range(100):\n"
        f'    Storage(sys.argv[1]).write({key!r}, \'{{"host": "elsewhere", "system": "x", "beat": %d}}\' % beat)\n'
        "    print(beat, flush=True)\n    time.sleep(0.1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, storage.location], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(BusyError, match="a worker on elsewhere"):
            lease().__enter__()
        other.kill()


def test_a_worker_whose_claim_was_taken_stops(lease, storage):
    with lease() as one:
        one.check()
        storage.delete(f"{WORKERS}/{storage.names(WORKERS)[0]}")
        deadline = time.monotonic() + 10
        with pytest.raises(BusyError, match="took this one for lost"):
            while time.monotonic() < deadline:
                one.check()
                time.sleep(BEAT)


def test_a_worker_that_cannot_renew_its_claim_stops(lease, storage, monkeypatch):
    from mdiff_core import DataError

    def full(*_):
        raise DataError("the disk is full")

    with lease() as one:
        monkeypatch.setattr(Storage, "write", full)
        deadline = time.monotonic() + 10
        with pytest.raises(DataError, match="full"):
            while time.monotonic() < deadline:
                one.check()
                time.sleep(BEAT)
