"""Work on several volumes at once, of which the first failure ends all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice

from mdiff_client.denoisers import Denoiser, Fractions, Images, Steps
from mdiff_client.sampling import Plane


class HaltedError(Exception):
    """Work is given up because other work failed."""


class Crew:
    """So many workers, each of whom makes one volume at a time and writes it."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._halt, self._writing = threading.Event(), threading.Lock()

    def check(self) -> None:
        """Go on with work only while none has failed.

        Raises:
            HaltedError: some has.
        """
        if self._halt.is_set():
            raise HaltedError

    def heeding(self, planes: Sequence[Plane]) -> list[Plane]:
        """The planes with denoisers that make no more calls once work has failed."""
        return [Plane(_Heeding(plane.denoiser, self.check), plane.label) for plane in planes]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """For what must be written whole or not at all.

        Raises:
            HaltedError: work has failed, perhaps while this waited for its turn.
        """
        with self._writing:
            self.check()
            yield

    def run(self, work: Callable[[int], None], items: Iterable[int]) -> None:
        """Do the work on every item; afterwards nothing is being written, also where it fails.

        Raises:
            Exception: what the work raised first; the rest is given up.
        """
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="mdiff-volume")
        try:
            under_way: set[Future[None]] = set()
            left = iter(items)
            while True:
                # No more than there are workers: what waits would be in memory, however much there is to do.
                under_way.update(pool.submit(work, item) for item in islice(left, self._workers - len(under_way)))
                if not under_way:
                    return
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for one in done:
                    one.result()
        finally:
            self._halt.set()
            with self._writing:
                # Nobody waits for calls under way: they end with the denoiser's connection.
                pool.shutdown(wait=False, cancel_futures=True)


class _Heeding:
    def __init__(self, denoiser: Denoiser, check: Callable[[], None]) -> None:
        self.contract, self.calls_at_once = denoiser.contract, denoiser.calls_at_once
        self._denoiser, self._check = denoiser, check

    def predict(
        self, x: Images, t: Steps, label: Steps | None = None, fractions: Fractions | None = None
    ) -> tuple[Images, Images | None]:
        self._check()
        return self._denoiser.predict(x, t, label, fractions)
