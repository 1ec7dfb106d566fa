import time

import numpy as np
import pytest

from mdiff_client.denoisers.timed import BOUNDS, Latency, TimedDenoiser


def test_latency_tells_quantiles_and_a_cumulative_histogram():
    latency = Latency.of([0.004, *[0.01] * 97, 0.3, 70.0])
    assert latency.count == 100
    assert latency.median_seconds == latency.p95_seconds == 0.01
    assert 0.3 <= latency.p99_seconds < 70.0
    assert latency.longest_seconds == 70.0
    # A bound belongs to its bucket, as Prometheus has it.
    steps = {"0.002": 0, "0.005": 1, "0.01": 98, "0.2": 98, "0.5": 99, "50": 99, "inf": 100}
    assert {bound: latency.histogram[bound] for bound in steps} == steps
    assert list(latency.histogram) == [f"{bound:g}" for bound in BOUNDS]


def test_a_timed_denoiser_answers_as_the_other_and_counts_its_calls(make_pixels):
    class Slow(type(make_pixels())):
        def predict(self, *inputs):
            time.sleep(0.05)
            return super().predict(*inputs)

    plain, timed = make_pixels(learned=True), TimedDenoiser(Slow(learned=True))
    x, t, label = np.ones((2, 1, 8, 8), np.float32), np.array([3, 50]), np.array([0, 1])
    for _ in range(3):
        for one, other in zip(timed.predict(x, t, label), plain.predict(x, t, label), strict=True):
            assert (one == other).all()
    assert timed.contract == plain.contract
    assert timed.latency().count == 3
    assert timed.latency().median_seconds >= 0.05
    assert timed.latency().histogram["0.02"] == 0


def test_a_call_that_fails_is_not_counted(make_pixels):
    timed = TimedDenoiser(make_pixels())
    x, t = np.ones((1, 1, 8, 8), np.float32), np.array([0])
    with pytest.raises(IndexError):
        timed.predict(x, t, np.array([7]))
    timed.predict(x, t, np.array([0]))
    assert timed.latency().count == 1
