"""The server is the one on the PATH, else one set up once in the user's cache, whole or not at all."""

from __future__ import annotations

import shlex
import threading
from pathlib import Path

import numpy as np
import pytest

from mdiff_core import PermanentError, UnavailableError
from mdiff_serving import environment
from mdiff_serving.environment import publish, server_environment


def test_a_tritonserver_on_the_path_is_used_with_its_own_backends(
    installed_triton,
    start_triton,
    tiny_repository,
    tmp_path,
    monkeypatch,
    client_of,
    infer_input,
    tiny_feeds,
    tiny_answer,
):
    private = server_environment()
    libraries = f"LD_LIBRARY_PATH={private.variables.get('LD_LIBRARY_PATH', '')}"
    found = tmp_path / "bin" / "tritonserver"
    found.parent.mkdir()
    found.write_text(
        f'#!/bin/sh\necho "$@" > {shlex.quote(str(tmp_path / "options"))}\n'
        f'exec env {shlex.join([libraries, "PATH=" + private.variables["PATH"], *private.command])} "$@"\n'
    )
    found.chmod(0o755)
    monkeypatch.setenv("PATH", str(found.parent), prepend=":")
    assert server_environment().command == (str(found),)
    server = start_triton(tiny_repository)
    assert "--backend-directory" not in (tmp_path / "options").read_text()
    feeds = tiny_feeds(2, seed=0)
    answer = client_of(server).infer("tiny", infer_input(feeds), client_timeout=30.0)
    np.testing.assert_allclose(answer.as_numpy("eps"), tiny_answer(feeds), atol=1e-6)


def test_it_is_set_up_only_once(installed_triton):
    messages: list[str] = []
    server_environment(messages.append)
    assert messages == []


@pytest.fixture
def no_server_yet(installed_triton: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no tritonserver on the PATH."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mdiff"


def test_packages_that_cannot_be_fetched_are_one_line_and_leave_nothing_behind(no_server_yet, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    messages: list[str] = []
    with pytest.raises(
        UnavailableError, match=r"cannot install the Triton server: No matching distribution.*PATH"
    ) as failed:
        server_environment(messages.append)
    assert "\n" not in str(failed.value)
    assert len(messages) == 1
    assert str(no_server_yet) in messages[0]
    assert list(no_server_yet.iterdir()) == []


def test_a_python_the_server_does_not_run_under_is_told_which_ones_it_does(no_server_yet, monkeypatch):
    monkeypatch.setattr(environment, "SUPPORTED_PYTHONS", ((3, 8), (3, 9)))
    with pytest.raises(PermanentError, match=r"needs Python 3\.8 or 3\.9, not 3\.\d+: .*on the PATH"):
        server_environment()


def test_a_cache_that_cannot_be_written_is_told_with_the_variable_that_moves_it(no_server_yet):
    no_server_yet.parent.write_text("a file where the folder should be")
    with pytest.raises(PermanentError, match=r"cannot write .*set XDG_CACHE_HOME"):
        server_environment()


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "cache" / "thing"

    def half(folder: Path) -> None:
        folder.mkdir()
        assert not target.exists()
        raise UnavailableError("the network is gone")

    with pytest.raises(UnavailableError):
        publish(half, target)
    assert list(target.parent.iterdir()) == []


def test_two_builders_at_once_leave_one_whole_folder(tmp_path):
    target = tmp_path / "thing"
    both_are_building = threading.Barrier(2)

    def build(folder: Path) -> None:
        folder.mkdir()
        (folder / "file").write_text("whole")
        both_are_building.wait(timeout=10)

    threads = [threading.Thread(target=publish, args=(build, target)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]
    assert (target / "file").read_text() == "whole"
