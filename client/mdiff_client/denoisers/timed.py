"""How long the calls of a denoiser take, whichever it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mdiff_client.denoisers import Denoiser, Fractions, Images, Steps

BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, float("inf"))
"""Upper bounds of the histogram's buckets, in seconds."""


@dataclass(frozen=True)
class Latency:
    """Distribution of the time that calls took, retries included.

    ``histogram``: how many took at most so many seconds, cumulative as Prometheus counts, by :data:`BOUNDS`.
    """

    count: int
    median_seconds: float
    p95_seconds: float
    p99_seconds: float
    longest_seconds: float
    histogram: dict[str, int]

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Of at least one call."""
        times = np.sort(seconds)
        median, p95, p99, longest = np.quantile(times, [0.5, 0.95, 0.99, 1.0]).tolist()
        counts = np.searchsorted(times, BOUNDS, side="right").tolist()
        histogram = {f"{bound:g}": count for bound, count in zip(BOUNDS, counts, strict=True)}
        return cls(len(times), median, p95, p99, longest, histogram)


class TimedDenoiser:
    """A denoiser that notes how long each answer took.

    Attributes:
        seconds: of the answers so far.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.contract, self.calls_at_once = denoiser.contract, denoiser.calls_at_once
        self._denoiser = denoiser
        self.seconds: list[float] = []

    def predict(
        self, x: Images, t: Steps, label: Steps | None = None, fractions: Fractions | None = None
    ) -> tuple[Images, Images | None]:
        """See :class:`mdiff_client.denoisers.Denoiser`."""
        began = time.perf_counter()
        answer = self._denoiser.predict(x, t, label, fractions)
        self.seconds.append(time.perf_counter() - began)
        return answer

    def latency(self) -> Latency:
        """Of the calls so far, of which there is at least one."""
        return Latency.of(self.seconds)
