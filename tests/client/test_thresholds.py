"""Grey levels become two phases."""

import dataclasses

import numpy as np
import pytest

from mdiff_client.thresholds import Threshold, otsu
from mdiff_core import Phase, UsageError


def variance_within(levels, threshold):
    parts = [levels[levels <= threshold], levels[levels > threshold]]
    return sum(part.size * part.var() for part in parts if part.size) / levels.size


@pytest.mark.parametrize(("low", "high", "share"), [(-0.5, 0.4, 0.5), (-0.9, 0.1, 0.2), (0.2, 0.5, 0.8)])
def test_otsu_leaves_the_least_variance_within_the_classes(low, high, share):
    rng = np.random.default_rng(0)
    bright = rng.random(4000) < share
    grey = np.clip(rng.normal(np.where(bright, high, low), 0.2), -1, 1).astype(np.float32)
    levels = np.rint((grey + 1) * 127.5)
    best = min(variance_within(levels, threshold) for threshold in range(255))
    assert variance_within(levels, (otsu(grey) + 1) * 127.5) == pytest.approx(best)


def test_otsu_stands_in_the_middle_of_a_gap():
    assert otsu(np.repeat([-0.6, 0.2], [30, 70])) == pytest.approx(-0.2, abs=1 / 127.5)


def test_values_beyond_the_range_count_as_its_ends():
    assert otsu(np.repeat([-9.0, 9.0], 10)) == pytest.approx(otsu(np.repeat([-1.0, 1.0], 10)))


def test_a_threshold_is_given_or_found():
    grey = np.repeat([-0.6, 0.2], [30, 70])
    assert Threshold.parse("0.1").of(grey) == 0.1
    assert Threshold.parse("0").of(grey) == 0
    assert Threshold.parse("otsu").of(grey) == otsu(grey)


@pytest.mark.parametrize(("text", "complaint"), [("li", "otsu, or a grey level"), ("1.5", "-1 and 1"), ("nan", "-1")])
def test_what_is_no_threshold_is_refused(text, complaint):
    with pytest.raises(UsageError, match=complaint):
        Threshold.parse(text)


def test_the_material_has_the_phases_dark_and_bright(gaussian):
    grey_model = dataclasses.replace(gaussian.contract, phases=(), references={})
    assert Threshold().contract(grey_model).phases == (Phase("dark", 0), Phase("bright", 255))
    with pytest.raises(UsageError, match="need no threshold"):
        Threshold().contract(gaussian.contract)
    with pytest.raises(UsageError, match="3 channels"):
        Threshold().contract(dataclasses.replace(grey_model, channels=3))
