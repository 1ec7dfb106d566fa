"""``mdiff-serve`` says when it is ready, stops in order, and tells in one line why it cannot serve."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Serve = Callable[..., subprocess.Popen[str]]

COMMAND = str(Path(sys.executable).with_name("mdiff-serve"))
TIMEOUT = 60.0


@pytest.fixture
def serve(installed_triton: None, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Serve]:
    """``serve(repository, *options)``: the command on free ports, as from a terminal of its own."""
    running = []

    def start(repository: Path, *options: str) -> subprocess.Popen[str]:
        ports = [f"--{name}-port={free_port()}" for name in ("grpc", "http", "metrics")]
        process = subprocess.Popen(
            [COMMAND, "--repository", str(repository), *ports, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            start_new_session=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=TIMEOUT)


def refusal(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and the one line of stderr of a command that never got ready."""
    out, err = process.communicate(timeout=TIMEOUT)
    assert out == ""
    (line,) = err.splitlines()
    return process.returncode, line


def test_the_ready_line_names_models_and_addresses_that_answer(serve, tiny_repository):
    process = serve(tiny_repository)
    line = process.stdout.readline()
    match = re.fullmatch(
        r"ready: tiny; gRPC 127\.0\.0\.1:\d+, HTTP (127\.0\.0\.1:\d+), metrics (127\.0\.0\.1:\d+)\n", line
    )
    assert match
    for url in (f"http://{match[1]}/v2/models/tiny/ready", f"http://{match[2]}/metrics"):
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            assert answer.status == 200


def test_the_ready_line_tells_how_grpc_is_secured(serve, tiny_repository, server_certificates):
    tls = server_certificates
    options = ["--tls-cert", tls.certificate, "--tls-key", tls.key, "--tls-ca", tls.ca]
    for given, said in ((options[:4], "TLS"), (options, "mutual TLS")):
        line = serve(tiny_repository, *map(str, given)).stdout.readline()
        assert re.match(rf"ready: tiny; gRPC 127\.0\.0\.1:\d+ \({said}\), HTTP ", line)


def test_a_server_that_others_reach_unencrypted_is_warned_of(serve, tiny_repository, server_certificates):
    process = serve(tiny_repository, "--host", "0.0.0.0")
    assert process.stderr.readline().startswith("warning: anyone who reaches 0.0.0.0 may use this server")
    assert process.stdout.readline().startswith("ready: ")
    shown = ["--tls-cert", str(server_certificates.certificate), "--tls-key", str(server_certificates.key)]
    for quiet in (serve(tiny_repository, "--host", "0.0.0.0", *shown), serve(tiny_repository)):
        assert quiet.stdout.readline().startswith("ready: ")
        quiet.terminate()
        assert quiet.communicate(timeout=TIMEOUT)[1] == "stopping\n"


@pytest.mark.parametrize(
    ("options", "code", "complaint"),
    [
        (["--tls-cert", "certificate"], 2, "give both --tls-cert and --tls-key"),
        (["--tls-ca", "ca"], 2, "give --tls-cert and --tls-key"),
        (["--tls-cert", "key", "--tls-key", "key"], 3, "not a PEM certificate and its unencrypted PEM key"),
    ],
)
def test_certificates_that_do_not_fit_are_refused(
    serve, tiny_repository, server_certificates, options, code, complaint
):
    given = [word if word.startswith("--") else str(getattr(server_certificates, word)) for word in options]
    returned, line = refusal(serve(tiny_repository, *given))
    assert returned == code
    assert complaint in line


@pytest.mark.parametrize("end", ["SIGTERM", "SIGHUP", "Ctrl-C"])
def test_it_stops_in_order_and_leaves_no_process(end, serve, tiny_repository, tmp_path, processes_under):
    process = serve(tiny_repository)
    assert process.stdout.readline().startswith("ready: ")
    before = processes_under(process.pid)
    assert "tritonserver" in before.values()
    if end == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.Signals[end])
    out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, err) == (0, "", "stopping\n")
    assert not before.keys() & processes_under(1).keys()
    assert list(tmp_path.glob("*.log")) == []


def test_a_server_that_dies_is_told_and_its_children_are_ended(serve, tiny_repository, processes_under):
    process = serve(tiny_repository)
    assert process.stdout.readline().startswith("ready: ")
    before = processes_under(process.pid)
    os.kill(next(pid for pid, name in before.items() if name == "tritonserver"), signal.SIGKILL)
    code, line = refusal(process)
    assert code == 5
    assert line.startswith("error: tritonserver was killed by signal 9 (SIGKILL)")
    assert not before.keys() & processes_under(1).keys()


def test_a_taken_port_is_refused_before_anything_starts(serve, tiny_repository, tiny_triton):
    port = tiny_triton.grpc_address.rpartition(":")[2]
    code, line = refusal(serve(tiny_repository, "--grpc-port", port))
    assert code == 2
    assert (
        line == f"error: cannot listen on 127.0.0.1:{port} (Address already in use): choose another grpc port or host"
    )


def test_a_missing_repository_is_refused(serve, tmp_path):
    code, line = refusal(serve(tmp_path / "nowhere"))
    assert code == 3
    assert line == f"error: {tmp_path / 'nowhere'}: no such model repository"


def test_a_truncated_model_is_refused_in_one_line(serve, tiny_repository):
    model = tiny_repository / "tiny" / "1" / "model.onnx"
    model.write_bytes(model.read_bytes()[:300])
    code, line = refusal(serve(tiny_repository))
    assert code == 3
    assert line.startswith(f"error: model tiny: {model} cannot be loaded, export the model again: ")
