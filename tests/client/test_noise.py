import numpy as np
from scipy import stats

from mdiff_client.sampling.noise import Noise, Purpose


def test_the_same_place_gives_the_same_noise_in_any_order():
    early = Noise(7, 3).normal(Purpose.REVERSE, 5, 1, (4, 4))
    source = Noise(7, 3)
    source.normal(Purpose.START, 0, 0, (100,))
    assert np.array_equal(source.normal(Purpose.REVERSE, 5, 1, (4, 4)), early)


def test_every_part_of_the_key_makes_another_stream():
    base = (7, 3, Purpose.REVERSE, 5, 1)
    changed = [
        (8, *base[1:]),
        (7, 4, *base[2:]),
        (7, 3, Purpose.START, 5, 1),
        (7, 3, Purpose.REVERSE, 6, 1),
        (*base[:4], 2),
    ]
    streams = [
        Noise(seed, volume).normal(purpose, step, repeat, (64,))
        for seed, volume, purpose, step, repeat in [base, *changed]
    ]
    streams += [Noise(7, 3).normal(Purpose.REVERSE, 5, 1, (64,), part=part) for part in (1, 31)]
    correlations = np.corrcoef(streams) - np.eye(len(streams))
    assert np.abs(correlations).max() < 5 / np.sqrt(64)
    assert len({stream.tobytes() for stream in streams}) == len(streams)


def test_noise_is_standard_normal():
    draws = Noise(0, 0).normal(Purpose.START, 0, 0, (50_000,))
    assert draws.dtype == np.float32
    assert stats.kstest(draws, "norm").pvalue > 1e-3


def test_shifts_cover_the_volume():
    shifts = np.array([Noise(0, 0).shift(step, 0, (4, 5, 6)) for step in range(300)])
    assert [sorted(set(axis.tolist())) for axis in shifts.T] == [list(range(n)) for n in (4, 5, 6)]
