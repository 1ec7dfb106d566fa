"""SIGTERM and Ctrl-C: training saves its state before it obeys."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(Exception):  # noqa: N818 (nothing went wrong)
    """Training was told to stop, and saved its state first; the message says how to go on, and only once for all ranks.

    ``exit_code`` is 128 + the signal's number, as shells have it: 143 for SIGTERM, 130 for Ctrl-C.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class StopRequest:
    """``signal`` is the number of the last signal that came; 0: none has."""

    signal: int = 0


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """While this is open, SIGTERM and Ctrl-C are noted and not obeyed; outside the main thread they are left alone."""
    request = StopRequest()

    def note(number: int, _: FrameType | None) -> None:
        request.signal = number

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
