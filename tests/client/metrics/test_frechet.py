"""The Fréchet distance, with features that need no network."""

import sys

import numpy as np
import pytest
from scipy import linalg

from mdiff_client.metrics import Tools
from mdiff_client.metrics.frechet import curve_features, fid_rows, frechet_distance, lacks_extractor


def test_a_set_is_at_no_distance_from_itself():
    features = np.random.default_rng(0).standard_normal((20, 50))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(40, 30, 5), (12, 30, 20)])
def test_it_is_equation_11(n, m, d):
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)), rng.standard_normal((m, d)) + 1
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.sqrt(linalg.eigvals(covariances[0] @ covariances[1]).astype(complex)).real.sum()
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(covariances[0] + covariances[1]) - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_two_normal_distributions():
    """Closed form in one dimension: (μ₁ − μ₂)² + (σ₁ − σ₂)²."""
    a = np.array([[-1.0], [1.0]]) / np.sqrt(2)
    assert frechet_distance(3 * a, a + 4) == pytest.approx(16 + 4)


def test_the_features_of_a_section_are_its_curves():
    section = np.zeros((1, 8, 8), np.uint8)
    section[0, :, :4] = 1
    features = curve_features(section, 2)
    assert features.shape == (1, 2 * 2 * 2 * 5)
    assert features[0, 20:25] == pytest.approx([0.5] * 5)  # S2 of phase 1 along the layers


def test_denser_sections_are_farther_away(setting, volumes):
    rng = np.random.default_rng(2)
    training = rng.random((32, 32, 32)) < 0.3

    def distance(fraction):
        of = setting(tools=Tools((training.astype(np.uint8),), extractor="curves"))
        (row,) = fid_rows(volumes(rng.random((32, 32, 32)) < fraction), of)
        return row.figure(row.samples)

    assert 5 * distance(0.3) < distance(0.4) < distance(0.5)


def test_one_image_has_no_distance(setting, volumes):
    of = setting(tools=Tools((np.zeros((32, 32), np.uint8),), extractor="curves"))
    assert list(fid_rows(volumes(np.zeros((32, 32), np.uint8)), of)) == []


def test_what_is_missing_is_told(monkeypatch, tmp_path, setting):
    training = (np.zeros((32, 32), np.uint8),)
    assert "--training" in lacks_extractor(setting(tools=Tools(extractor="curves")))
    assert lacks_extractor(setting(tools=Tools(training, extractor="curves"))) is None
    monkeypatch.setattr("mdiff_client.metrics.frechet.find_spec", lambda name: None)
    assert "pip install '.[fid]' in a checkout" in lacks_extractor(setting(tools=Tools(training)))
    monkeypatch.setattr("mdiff_client.metrics.frechet.find_spec", lambda name: sys)
    assert "--fid-weights" in lacks_extractor(setting(tools=Tools(training)))
    absent = tmp_path / "none.pth"
    assert "no such file" in lacks_extractor(setting(tools=Tools(training, fid_weights=absent)))
