"""Where and when a benchmark was run."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import onnxruntime

ONNXRUNTIME = f"onnxruntime {onnxruntime.__version__} ({onnxruntime.get_device()})"


def conditions(*software: str, gpu: str = "") -> str:
    """Date, machine, what computes on it, and Python, in one line."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = f"{len(os.sched_getaffinity(0))} cores of {models[0] if models else platform.machine()}"
    today = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    return ", ".join([today, *([gpu] if gpu else []), cores, *software, f"Python {platform.python_version()}"])
