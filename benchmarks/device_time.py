"""Time on a device that may work on after a call has returned."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def seconds_of(what: Callable[[], object], device: torch.device) -> float:
    """Of a call, from when the device has done all it was given before until it has done this too."""
    _finish(device)
    began = time.perf_counter()
    what()
    _finish(device)
    return time.perf_counter() - began


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
