"""Where stores lie, and what goes wrong there."""

import os
import socket
import subprocess
import sys
import threading

import pytest

from mdiff_client.storage import Storage
from mdiff_core import UsageError


@pytest.fixture
def in_bucket(s3, monkeypatch):
    """A place in a real bucket."""
    _, variables = s3
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Storage("s3://volumes/some/where.zarr")


@pytest.fixture
def silent():
    """Address of a server that takes calls and never answers."""
    server, calls = socket.create_server(("127.0.0.1", 0)), []

    def take():
        while True:
            try:
                calls.append(server.accept()[0])
            except OSError:
                return

    threading.Thread(target=take, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
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


@pytest.mark.parametrize("operation", ["write('a', 'b')", "read('a')", "read_many(['a'])", "names('a')", "delete('a')"])
def test_an_object_store_that_hangs_is_given_up(silent, operation):
    """In a process of its own, because s3fs stays with the server that a process has met first."""
    code = f"""
from mdiff_client import storage
storage._LONGEST_SECONDS = 1.0
try:
    storage.Storage("s3://silent/store.zarr").{operation}
except storage.UnavailableError as error:
    print(error)
"""
    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"), "test")
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **keys, "AWS_ENDPOINT_URL": silent},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "the object store cannot answer now (nothing within 1 s)" in found.stdout


@pytest.mark.parametrize("location", ["gs://bucket/x.zarr", "file:///x.zarr", "foo://x"])
def test_other_places_are_refused(location):
    with pytest.raises(UsageError, match="a store is a folder, or lies in a bucket"):
        Storage(location).read("zarr.json")
