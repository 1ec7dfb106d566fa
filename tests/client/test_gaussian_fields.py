"""The sampler on Gaussian random fields, where the exact denoisers of the volume and of its slices are known.

Without tilt and clip every step is linear there, and what a plan samples follows in closed form, mode by mode:
benchmarks/gaussian_fields.py, which shares no step with the sampler and prints the figures of docs/method.md.
"""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from mdiff_client.sampling import PLANS, sample

N, VOLUMES = 32, 3
COVARIANCES = {"gaussian": lambda r: np.exp(-(r**2) / 18), "exponential": lambda r: np.exp(-r / 3)}
TURN = dataclasses.replace(PLANS["paper"], steps=40, harmonize=1)
EVERY_PLANE = dataclasses.replace(TURN, steps=20, spacing="geometric", planes="average", sampler="ddim", eta=0.0)
TWENTY = dataclasses.replace(EVERY_PLANE, thick_slices=1.0, periodic="zyx")
LAGGED = dataclasses.replace(TWENTY, planes="lagged", eta=0.5, harmonize=4, band=(0.15, 1.5), thick_slices=0.6)
DEFAULT = dataclasses.replace(next(iter(PLANS.values())), tilt=False, clip=False)  # neither is linear


@pytest.fixture(scope="module")
def theory():
    path = Path(__file__).parents[2] / "benchmarks" / "gaussian_fields.py"
    spec = importlib.util.spec_from_file_location("gaussian_fields", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass looks for its module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(params=COVARIANCES)
def field(request, theory):
    return theory.GaussianField(N, COVARIANCES[request.param])


@pytest.fixture
def sampled_spectrum(field, make_gaussian, two_phase_references):
    """Mean power of the modes [N, N, N] over a few volumes that were sampled with the field's exact slice denoiser."""
    denoiser = make_gaussian(n=N)
    k = np.minimum(np.arange(N), N - np.arange(N))
    denoiser.spectrum = field.slice[np.ix_(k, k)]
    references = two_phase_references(0.5, tuple((0.25 + field.curve / 4).tolist()))
    denoiser.contract = dataclasses.replace(denoiser.contract, references=references)

    def power(plan):
        volumes = [sample(denoiser, plan, seed=0, volume=volume)[0] for volume in range(VOLUMES)]
        return np.mean([np.abs(np.fft.fftn(volume)) ** 2 for volume in volumes], axis=0) / N**3

    return power


def worst_deviation(field, sampled, predicted):
    """Of the mean power in a shell of wavenumbers, or in all, in standard errors.

    Over its prediction the power of a mode has mean 1 and variance 1, two opposite modes being one.
    """
    predicted = field.unfolded(predicted)
    shell = field.distance.round().astype(int)
    seen = predicted > 1e-3 * predicted.max()  # the rest is near what single precision leaves
    groups = [seen, *(seen & (shell == of) for of in range(1, N // 2))]
    ratios = [(sampled / predicted)[group] for group in groups if group.any()]
    return max(abs(ratio.mean() - 1) / (2 / ratio.size / VOLUMES) ** 0.5 for ratio in ratios)


@pytest.mark.parametrize(
    "plan",
    [
        DEFAULT,
        LAGGED,
        TWENTY,
        dataclasses.replace(TWENTY, eta=1.0),
        dataclasses.replace(TWENTY, sampler="dpm-solver++"),
        dataclasses.replace(TURN, harmonize=2),
    ],
    ids=["default", "lagged", "best width", "ancestral", "second order", "in turn, harmonized"],
)
def test_the_sampler_makes_of_a_field_what_the_theory_says(theory, field, sampled_spectrum, plan):
    assert worst_deviation(field, sampled_spectrum(plan), theory.sampled_spectrum(field, plan)) < 4


def test_a_wrong_spectrum_would_be_seen(theory, field, sampled_spectrum):
    """A third more power, or slices of 0.6 of the width, are told from the plan."""
    sampled = sampled_spectrum(TWENTY)
    assert worst_deviation(field, sampled, 4 / 3 * theory.sampled_spectrum(field, TWENTY)) > 6
    thinner = dataclasses.replace(TWENTY, thick_slices=0.6)
    assert worst_deviation(field, sampled, theory.sampled_spectrum(field, thinner)) > 6


@pytest.mark.parametrize(
    ("plan", "error", "cost"),
    [
        (TWENTY, 25, 5),
        (dataclasses.replace(TWENTY, steps=60), 15, 5),
        (dataclasses.replace(TWENTY, sampler="dpm-solver++"), 10, 10),
    ],
    ids=["20 steps", "60 steps", "20 steps of second order"],
)
def test_slices_reproduce_the_covariance(theory, field, plan, error, cost):
    """To ``error`` per cent, of which slices cost at most ``cost``: the rest the exact 3D denoiser has too."""
    slices, exact = (field.error(theory.sampled_spectrum(field, plan, exact=exact)) for exact in (False, True))
    assert slices < error
    assert slices < exact + cost


def test_planes_in_turn_starve_the_field(theory, field, sampled_spectrum):
    """They lead to the geometric mean of the slices' spectra, which is what sampling gives, and far from the field."""
    plan = dataclasses.replace(TWENTY, steps=60, planes="turn", thick_slices=0.0)
    predicted = theory.sampled_spectrum(field, plan)
    assert worst_deviation(field, sampled_spectrum(plan), predicted) < 4
    assert field.variance(predicted) == pytest.approx(field.variance(theory.limit(field, 0)), rel=0.1)
    assert field.variance(predicted) < 0.6
    assert field.error(predicted) > 60


def test_harmonizing_leads_on_to_the_harmonic_mean_of_the_slices_spectra(theory, field):
    spectra = [theory.limit(field, passes) for passes in (0, 1, 10, 100, np.inf)]
    variances = [field.variance(spectrum) for spectrum in spectra]
    assert variances == sorted(variances, reverse=True)
    assert variances[3] == pytest.approx(variances[4], rel=0.01)
    harmonized = dataclasses.replace(TURN, steps=100, harmonize=10)
    assert field.variance(theory.sampled_spectrum(field, harmonized)) == pytest.approx(variances[2], rel=0.03)


def test_a_blob_is_seen_at_the_power_three_halves_of_its_size_in_3d_and_at_its_size_in_a_slice(theory):
    small, large = (theory.GaussianField(64, lambda r, size=size: np.exp(-((r / size) ** 2))) for size in (4.0, 8.0))
    assert np.sqrt(large.volume[0, 0, 0] / small.volume[0, 0, 0]) == pytest.approx(2**1.5, rel=1e-3)
    assert np.sqrt(large.slice[0, 0] / small.slice[0, 0]) == pytest.approx(2, rel=1e-3)
