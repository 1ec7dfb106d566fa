"""The progress bar of long work: on stderr, and only at a terminal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress(total: int, unit: str, *, hidden: bool = False) -> Iterator[Callable[[], object]]:
    """A bar of ``total`` units; the value is a function that advances it by one, from any thread."""
    lock = threading.Lock()
    with tqdm(total=total, unit=unit, disable=hidden or None, dynamic_ncols=True) as bar:

        def advance() -> None:
            with lock:
                bar.update()

        yield advance
