"""Signals: noted while training runs, obeyed again afterwards; and what the command does about them."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mdiff_training.checkpoint import Checkpoint
from mdiff_training.stopping import stop_requests

TINY = [
    f"--set={override}"
    for override in (
        "model.base_channels=8",
        "model.multipliers=[1]",
        "model.attention=[false]",
        "model.head_channels=8",
        "training.image_size=[16, 16]",
        "training.batch=2",
        "training.steps=100000",
    )
]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_not_obeyed(number: signal.Signals):
    handler = signal.getsignal(number)
    with stop_requests() as request:
        assert request.signal == 0
        os.kill(os.getpid(), number)
        assert request.signal == number
    assert signal.getsignal(number) == handler


def test_outside_the_main_thread_signals_are_left_alone():
    handlers = []

    def work() -> None:
        with stop_requests() as request:
            handlers.extend([signal.getsignal(signal.SIGTERM), request.signal])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM), 0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_saves_tells_how_to_go_on_and_leaves_with_the_code_of_the_signal(
    tmp_path: Path, number: signal.Signals, code: int
):
    np.save(tmp_path / "rock.npy", np.random.default_rng(0).integers(0, 2, (16, 16)).astype(np.uint8))
    fit = ["fit", "rock.npy", "rock.safetensors", "--name", "rock", "--licence", "CC0-1.0", "--source", "noise"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from mdiff_training.cli import main; main()", *fit, "--phases", "pore=0,rock=1", *TINY],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not (tmp_path / "rock.csv").exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    step = Checkpoint.load(tmp_path / "rock.safetensors").step
    assert step >= 1
    assert (process.returncode, out) == (code, "")
    kept = f"rock.safetensors keeps step {step}; the same command with --resume goes on from it"
    assert err == f"stopped by {number.name}: {kept}\n"
