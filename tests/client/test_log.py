"""``--log-json``: what a run tells on its way, a JSON object a line, and what it says of its calls at the end."""

import json
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial

import pytest


def lines(stderr):
    events = [json.loads(line) for line in stderr.splitlines()]
    assert all(datetime.fromisoformat(event["time"]).tzinfo == UTC for event in events)
    return events


@pytest.fixture
def place(told_repository):
    return ["--repository", told_repository, "--model", "told"]


def test_a_run_of_volumes_is_told_from_start_to_finish(client, place, tmp_path):
    began = datetime.now(UTC)
    run = ["generate3d", tmp_path / "out.zarr", *place, "--count", 2, "--steps", 3, "--seed", 5]
    result = client(*run, "--json", "--log-json")
    assert result.returncode == 0, result.stderr
    report, (started, *volumes, finished) = json.loads(result.stdout), lines(result.stderr)
    evaluations = report["evaluations"]
    asked = {"event": "run started", "level": "info", "model": "told", "volumes": 2, "seed": 5}
    asked["evaluations"] = 2 * evaluations
    assert started.items() >= asked.items()
    assert began.replace(microsecond=0) <= datetime.fromisoformat(started["time"]) <= datetime.now(UTC)
    assert [(volume["event"], volume["volume"], volume["evaluations"]) for volume in volumes] == [
        ("volume done", 0, evaluations),
        ("volume done", 1, evaluations),
    ]
    assert sum(volumes[0]["fractions"].values()) == pytest.approx(1)
    assert finished["event"] == "run finished"
    assert finished["seconds"] >= volumes[0]["seconds"] + volumes[1]["seconds"]
    assert finished["calls"] == report["calls"]
    assert report["calls"]["count"] == report["calls"]["histogram"]["inf"] == 2 * evaluations


def test_a_run_of_images_is_told_batch_by_batch(client, place, tmp_path):
    run = ["generate2d", tmp_path / "out.npy", *place, "--count", 70, "--steps", 2]
    result = client(*run, "--json", "--log-json")
    events = lines(result.stderr)
    assert [event["event"] for event in events] == ["run started", "images done", "images done", "run finished"]
    assert [(event["first"], event["images"]) for event in events[1:3]] == [(0, 64), (64, 6)]
    assert json.loads(result.stdout)["calls"] == events[-1]["calls"]
    assert events[-1]["calls"]["count"] == 4


def test_people_read_the_calls_in_one_line(client, place, tmp_path):
    for command, out in (("generate2d", "out.npy"), ("generate3d", "out.zarr")):
        result = client(command, tmp_path / out, *place, "--steps", 2)
        assert result.stderr == ""
        (line,) = [line for line in result.stdout.splitlines() if line.startswith("calls: ")]
        assert re.fullmatch(r"calls: \d+; median \S+ s, p95 \S+ s, p99 \S+ s, longest \S+ s", line)


def test_an_evaluation_has_no_calls(client, place, tmp_path):
    client("generate3d", tmp_path / "out.zarr", *place, "--steps", 1)
    assert "calls" not in json.loads(client("evaluate", tmp_path / "out.zarr", "--json").stdout)


@pytest.mark.parametrize(
    ("option", "value", "code", "error"),
    [("--url", "127.0.0.1:PORT", 5, "no server answers"), ("--tls-ca", "ca.pem", 2, "are about a server: give --url")],
)
def test_the_error_that_ends_a_run_is_an_event_too(client, tmp_path, free_port, option, value, code, error):
    value = value.replace("PORT", str(free_port()))
    result = client("generate3d", tmp_path / "out.zarr", option, value, "--log-json")
    assert result.returncode == code
    (event,) = lines(result.stderr)
    assert (event["event"], event["level"], event["exit_code"]) == ("run failed", "error", code)
    assert error in event["error"]


def test_a_call_that_is_made_again_is_told(tmp_path, tiny_repository, start_triton):
    server = start_triton(tiny_repository)
    command = [sys.executable, "-m", "mdiff_client", "generate3d", tmp_path / "out.zarr", "--url", server.grpc_address]
    options = ["--model", "tiny", "--plan", "paper", "--steps", "1000", "--harmonize", "1", "--patience", "1"]
    with subprocess.Popen([*command, *options, "--log-json"], stderr=subprocess.PIPE, text=True) as run:
        started = run.stderr.readline()
        server.process.kill()
        rest = run.communicate(timeout=60)[1]
    events = [event["event"] for event in lines(started + rest)]
    assert events[0] == "run started"
    assert events.count("call retried") == len(events) - 2 >= 2
    assert events[-1] == "run failed"
    assert run.returncode == 5


def test_ctrl_c_is_an_event_too(tmp_path, tiny_repository):
    command = [sys.executable, "-m", "mdiff_client", "generate3d", tmp_path / "out.zarr", "--plan", "paper"]
    # A shell makes what it starts in the background deaf to Ctrl-C, and with it all that starts.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen([*command, "--log-json"], stderr=subprocess.PIPE, text=True, preexec_fn=heeding) as run:
        try:
            started = run.stderr.readline()
            os.kill(run.pid, signal.SIGINT)
            rest = run.communicate(timeout=60)[1]
        finally:
            run.kill()
    assert [event["event"] for event in lines(started + rest)] == ["run started", "run interrupted"]
    assert run.returncode == 130
