"""How different volumes are from each other."""

import numpy as np
import pytest

from mdiff_client.metrics.diversity import curve_rows, voxel_rows


def test_unrelated_volumes_have_diversity_one_whatever_their_fractions(setting, volumes):
    rng = np.random.default_rng(0)
    for fraction in (0.5, 0.2):
        sample = volumes(*(rng.random((32, 32, 32)) < fraction for _ in range(6)))
        (row,) = voxel_rows(sample, setting(edge=32))
        assert len(row.samples) == 15
        assert row.samples.mean() == pytest.approx(1, abs=0.02)


def test_one_volume_again_and_again_has_none(setting, volumes):
    one = np.random.default_rng(1).random((16, 16, 16)) < 0.5
    assert next(iter(voxel_rows(volumes(one, one, one), setting()))).samples.max() == 0
    assert next(iter(curve_rows(volumes(one, one), setting()))).samples.max() == 0


def test_the_distance_of_curves_is_their_area_over_that_of_their_mean(setting, volumes):
    """All of a volume, and layers of half of it, which the section across z misses: S2 by hand."""
    full = np.ones((16, 16, 16), bool)
    half = np.broadcast_to(np.arange(16)[:, None, None] < 8, full.shape)
    rows = {row.of: row for row in curve_rows(volumes(full, half), setting())}
    lags = np.arange(9)
    across = (np.maximum(8 - lags, 0) / (16 - lags) + 0.5) / 2
    mean = (1 + 2 * across / 3) / 2
    expected = 100 * np.trapezoid(1 - 2 * across / 3) / np.trapezoid(mean)
    assert rows["active"].samples == pytest.approx([expected])


def test_images_scatter_as_the_sections_of_volumes_do(setting, volumes):
    rng = np.random.default_rng(2)
    stack = rng.random((6, 32, 32, 32)) < 0.4

    def distance(sample):
        return {row.of: row.samples.mean() for row in curve_rows(sample, setting(edge=32))}["active"]

    assert distance(volumes(*stack)) == pytest.approx(distance(volumes(*stack[:, 0])), rel=0.3)


def test_one_volume_alone_has_no_diversity(setting, volumes):
    alone = volumes(np.eye(16)[None].repeat(16, axis=0))
    assert list(voxel_rows(alone, setting())) == list(curve_rows(alone, setting())) == []
