"""The sampling loop, with denoisers whose answer is known in closed form."""

import dataclasses

import numpy as np
import pytest

from mdiff_client.sampling import PLANS, Condition, sample
from mdiff_client.sampling.noise import Noise, Purpose
from mdiff_core import Descriptors, Phase, UsageError

FIELD = {"tilt": False, "clip": False}  # a Gaussian field is neither two-phase nor bounded


def gaussian_plan(name, **changes):
    return dataclasses.replace(PLANS[name], **FIELD, **changes)


def algorithm_1(denoiser, timesteps, betas, n_h, noise):
    """Micro3Diff's Algorithm 1, line by line, on a cube; its t = n_T … 1 are the indices n_T - 1 … 0 here."""
    n = denoiser.contract.image_size[0]
    alpha_bar = np.cumprod(1 - betas)
    x = noise.normal(Purpose.START, 0, 0, (1, n, n, n))[0].astype(float)
    for i in reversed(range(len(betas))):
        plane = i % 3
        slices = np.moveaxis(x, plane, 0)
        for t_h in range(1, n_h + 1):
            z = noise.normal(Purpose.REVERSE, i, t_h - 1, (1, n, n, n))[0] if i > 0 else np.zeros((n, n, n))
            eps = denoiser.predict(slices[:, None].astype(np.float32), np.full(n, timesteps[i]))[0][:, 0]
            mean = (slices - betas[i] / np.sqrt(1 - alpha_bar[i]) * eps) / np.sqrt(1 - betas[i])
            previous = mean + np.sqrt(betas[i]) * np.moveaxis(z, plane, 0)
            if t_h < n_h and i > 0:
                z_h = noise.normal(Purpose.RENOISE, i, t_h - 1, (1, n, n, n))[0]
                slices = np.sqrt(1 - betas[i]) * previous + np.sqrt(betas[i]) * np.moveaxis(z_h, plane, 0)
        x = np.moveaxis(previous, 0, plane)
    return x


@pytest.mark.parametrize(("steps", "n_h"), [(None, 1), (None, 3), (12, 4)])
def test_the_papers_plan_is_algorithm_1(make_gaussian, steps, n_h):
    denoiser = make_gaussian(n=8, timesteps=40)
    plan = dataclasses.replace(PLANS["paper"], steps=steps, harmonize=n_h)
    schedule = plan.schedule(denoiser.contract.schedule.build())
    expected = algorithm_1(denoiser, schedule.timesteps, schedule.beta, n_h, Noise(5, 2))
    assert np.abs(sample(denoiser, plan, seed=5, volume=2)[0] - expected).max() < 1e-3


def covariance_error(plan, denoiser, volumes):
    """Error of the samples' covariance against the field's, per cent of the variance spectrum (relative L2)."""
    n = denoiser.contract.image_size[0]
    r = np.minimum(np.arange(n), n - np.arange(n))
    distance = np.linalg.norm(np.meshgrid(r, r, r, indexing="ij"), axis=0)
    exact = np.interp(distance, np.arange(len(denoiser.covariance)), denoiser.covariance, right=0)
    power = np.mean([np.abs(np.fft.fftn(sample(denoiser, plan, 0, v)[0])) ** 2 for v in range(volumes)], axis=0)
    sampled = np.fft.ifftn(power / n**3).real
    shells = np.array(
        [sampled[np.abs(distance - d) < 0.5].mean() - exact[np.abs(distance - d) < 0.5].mean() for d in range(n // 2)]
    )
    reference = np.array([exact[np.abs(distance - d) < 0.5].mean() for d in range(n // 2)])
    return 100 * np.linalg.norm(shells) / np.linalg.norm(reference)


def test_planes_in_turn_starve_the_field_and_calibrated_thick_slices_do_not(make_gaussian):
    """Why the default plan is not Algorithm 1 at few steps, where the exact 3D answer is known."""
    denoiser = make_gaussian(n=32, width=6.0)
    calibrated = covariance_error(gaussian_plan("calibrated"), denoiser, volumes=4)
    plain = covariance_error(gaussian_plan("calibrated", thick_slices=0.0), denoiser, volumes=4)
    in_turn = covariance_error(gaussian_plan("paper", steps=60, harmonize=1), denoiser, volumes=4)
    assert calibrated < 35
    assert plain > 1.5 * calibrated
    assert in_turn > 2 * calibrated


@pytest.mark.parametrize("name", ["calibrated", "lagged"])
def test_a_volume_depends_on_seed_and_number_only(gaussian, name):
    plan = gaussian_plan(name, steps=4)
    first = sample(gaussian, plan, seed=1, volume=3)
    sample(gaussian, plan, seed=1, volume=0)
    assert np.array_equal(sample(gaussian, plan, seed=1, volume=3), first)
    assert not np.array_equal(sample(gaussian, plan, seed=1, volume=4), first)
    assert not np.array_equal(sample(gaussian, plan, seed=2, volume=3), first)


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_costs_what_it_says(gaussian, name):
    plan = gaussian_plan(name, steps=6)
    seen = []
    sample(gaussian, plan, seed=0, on_evaluation=lambda: seen.append(1))
    evaluations = plan.evaluations(gaussian.contract.schedule.build())
    assert len(seen) == evaluations
    assert gaussian.batches == [32] * evaluations


def test_rolling_makes_the_volume_periodic(make_gaussian):
    """Wrap ratio: mismatch across the wrap face over the mismatch between neighbours inside."""
    volume = sample(make_gaussian(n=32), gaussian_plan("calibrated", steps=10), seed=0)[0]
    for axis in range(3):
        planes = np.moveaxis(volume, axis, 0)
        inside = np.abs(planes[1:] - planes[:-1]).mean()
        assert np.abs(planes[0] - planes[-1]).mean() / inside == pytest.approx(1, abs=0.2)


def test_the_tilt_holds_the_reference_fraction(make_gaussian, two_phase_references):
    denoiser = make_gaussian(n=16)
    curves = two_phase_references(0.2, denoiser.contract.references["sphere"].s2)
    denoiser.contract = dataclasses.replace(denoiser.contract, references=curves)
    volume = sample(denoiser, dataclasses.replace(PLANS["calibrated"], steps=5), seed=0)
    assert (volume > 0).mean() == pytest.approx(0.2, abs=1e-3)


@pytest.fixture
def three_phases(make_gaussian):
    """Three channels, each a Gaussian field of its own, for phases of fraction .5, .3 and .2."""
    denoiser = make_gaussian(n=16)
    covariance = np.array(denoiser.contract.references["sphere"].s2) - 0.25
    phases, references = (Phase("pore", 0), Phase("active", 128), Phase("binder", 255)), {}
    for phase, fraction in zip(phases, (0.5, 0.3, 0.2), strict=True):
        s2 = tuple((fraction**2 + 4 * fraction * (1 - fraction) * covariance).tolist())
        references[phase.name] = Descriptors(fraction, 0.1, s2, s2)
    denoiser.contract = dataclasses.replace(denoiser.contract, channels=3, phases=phases, references=references)
    return denoiser


def test_the_tilt_holds_the_fractions_of_three_phases(three_phases):
    volume = sample(three_phases, dataclasses.replace(PLANS["lagged"], steps=5), seed=0)
    assert volume.shape == (3, 16, 16, 16)
    shares = np.bincount(volume.argmax(axis=0).ravel(), minlength=3) / 16**3
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=2e-3)


def test_the_gain_is_about_the_mean_of_each_phases_channel(three_phases):
    """What is predicted to be its mean everywhere stays so, whatever the gain."""
    means = 2 * np.array([0.5, 0.3, 0.2], np.float32)[:, None, None] - 1

    def predict(x, t, label=None, fractions=None):
        a = three_phases.alpha_bar[t][:, None, None, None].astype(np.float32)
        return (x - np.sqrt(a) * means) / np.sqrt(1 - a), None

    three_phases.predict = predict
    volume = sample(three_phases, gaussian_plan("calibrated", steps=8), seed=0)
    assert np.abs(volume - means[..., None]).max() < 1e-3


def test_a_plan_that_needs_the_reference_says_so(gaussian):
    gaussian.contract = dataclasses.replace(gaussian.contract, references={})
    with pytest.raises(UsageError, match="--plan paper"):
        sample(gaussian, PLANS["calibrated"], seed=0)


def test_images_that_are_not_square_make_no_cube(gaussian):
    gaussian.contract = dataclasses.replace(gaussian.contract, image_size=(32, 16))
    with pytest.raises(UsageError, match="square"):
        sample(gaussian, PLANS["paper"], seed=0)


def test_the_tilt_holds_the_fraction_that_is_asked_for(make_gaussian):
    denoiser = make_gaussian(n=16)
    denoiser.contract = dataclasses.replace(denoiser.contract, fractions=((0.1, 0.9),))
    plan = dataclasses.replace(PLANS["calibrated"], steps=5)
    volume = sample(denoiser, plan, seed=0, condition=Condition(fractions=(0.2,)))
    assert (volume > 0).mean() == pytest.approx(0.2, abs=1e-3)
    assert {told.tobytes() for _, told in denoiser.asked} == {np.full((16, 1), 0.2, np.float32).tobytes()}


def test_slices_are_calibrated_for_the_fraction_that_is_asked_for(make_gaussian, two_phase_references):
    """As if the reference had that fraction, and its autocovariance f(1 - f) were as large as such a material's is."""
    told, own = make_gaussian(n=16), make_gaussian(n=16)
    covariance = np.array(own.contract.references["sphere"].s2) - 0.5**2
    s2 = tuple((0.2**2 + covariance * 0.16 / 0.25).tolist())
    own.contract = dataclasses.replace(own.contract, references=two_phase_references(0.2, s2))
    plan = gaussian_plan("calibrated", steps=6)
    expected = sample(own, plan, seed=0)
    assert np.allclose(sample(told, plan, seed=0, condition=Condition(fractions=(0.2,))), expected, atol=1e-4)
    assert not np.allclose(sample(told, plan, seed=0), expected, atol=0.01)


def test_each_plane_is_asked_for_its_own_class(make_gaussian):
    denoiser = make_gaussian(n=8)
    denoiser.contract = dataclasses.replace(
        denoiser.contract, classes=("across", "along"), planes={"xy": 0, "xz": 1, "yz": 1}
    )
    sample(denoiser, gaussian_plan("calibrated", steps=2, harmonize=1), seed=0)
    assert [label.tolist() for label, _ in denoiser.asked] == 2 * [[0] * 8, [1] * 8, [1] * 8]


def test_a_guided_volume_asks_each_slice_with_its_condition_and_without(make_gaussian):
    denoiser = make_gaussian(n=8)
    denoiser.contract = dataclasses.replace(denoiser.contract, classes=("fine", "coarse"), null_class=2)
    sample(denoiser, gaussian_plan("paper", steps=1, harmonize=1), seed=0, condition=Condition(1, guidance=3.0))
    assert [label.tolist() for label, _ in denoiser.asked] == [[1] * 8 + [2] * 8]
