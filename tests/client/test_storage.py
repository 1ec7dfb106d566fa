"""Where stores lie, and what goes wrong there."""

import socket
import threading
import time

import pytest
from s3fs import S3FileSystem

from mdiff_client import storage
from mdiff_client.storage import Storage
from mdiff_core import UnavailableError, UsageError


@pytest.fixture
def anew():
    """Whatever S3 server a process has met, it asks the one that the variables name now."""
    S3FileSystem.clear_instance_cache()
    yield
    S3FileSystem.clear_instance_cache()


@pytest.fixture
def in_bucket(s3, monkeypatch, anew):
    """A place in a real bucket."""
    _, variables = s3
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Storage("s3://volumes/some/where.zarr")


@pytest.fixture
def silent(monkeypatch, anew):
    """A place in a bucket of a server that takes calls and never answers."""
    server, calls = socket.create_server(("127.0.0.1", 0)), []

    def take():
        while True:
            try:
                calls.append(server.accept()[0])
            except OSError:
                return

    threading.Thread(target=take, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "DEFAULT_REGION"):
        monkeypatch.setenv(f"AWS_{name}", "us-east-1")
    monkeypatch.setattr(storage, "_LONGEST_SECONDS", 1.0)
    yield Storage("s3://silent/store.zarr")
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    for call in calls:
        call.close()


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_texts_are_written_read_listed_and_taken_away(where, tmp_path, in_bucket):
    place = in_bucket if where == "bucket" else Storage(str(tmp_path / "store.zarr"))
    assert place.read("a/1.json") is None
    assert place.names("a") == []
    for name in ("2", "1"):
        place.write(f"a/{name}.json", f"text {name}")
    assert place.names("a") == ["1.json", "2.json"]
    assert place.read_many(["a/1.json", "a/3.json", "a/2.json"]) == ["text 1", None, "text 2"]
    place.delete("a/1.json")
    place.delete("a/1.json")
    assert place.names("a") == ["2.json"]
    place.delete("a/2.json")


def test_an_object_store_that_hangs_is_given_up(silent):
    for operation in (
        lambda: silent.write("a", "b"),
        lambda: silent.read("a"),
        lambda: silent.read_many(["a", "b"]),
        lambda: silent.names("a"),
        lambda: silent.delete("a"),
    ):
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="nothing within 1 s"):
            operation()
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("location", ["gs://bucket/x.zarr", "file:///x.zarr", "foo://x"])
def test_other_places_are_refused(location):
    with pytest.raises(UsageError, match="a store is a folder, or lies in a bucket"):
        Storage(location).read("zarr.json")
