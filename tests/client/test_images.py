"""Sampling of images, with denoisers whose answer is known in closed form."""

import dataclasses

import numpy as np
import pytest

from mdiff_client.denoisers.embedded import EmbeddedDenoiser
from mdiff_client.sampling import IMAGES, Condition, changed, sample_images
from mdiff_client.sampling.noise import Noise, Purpose

FREE = changed(IMAGES, clip=False)  # a Gaussian field is not bounded


def ancestral(denoiser, schedule, seed, image, variance):
    """Ho et al. 2020, algorithm 2, line by line for one image; its t = T … 1 are the indices T - 1 … 0 here."""
    shape = (1, *denoiser.contract.image_size)
    noise, betas = Noise(seed, image), schedule.beta
    alpha_bar = np.cumprod(1 - betas)
    x = noise.normal(Purpose.START, 0, 0, shape).astype(float)
    for i in reversed(range(len(betas))):
        z = noise.normal(Purpose.REVERSE, i, 0, shape) if i > 0 else np.zeros(shape)
        t = np.array([schedule.timesteps[i]])
        eps, v = denoiser.predict(x[None].astype(np.float32), t, np.array([1]))
        mean = (x - betas[i] / np.sqrt(1 - alpha_bar[i]) * eps[0]) / np.sqrt(1 - betas[i])
        posterior = (1 - alpha_bar[i - 1]) / (1 - alpha_bar[i]) * betas[i] if i > 0 else 0.0
        x = mean + np.sqrt(variance(betas[i], posterior, v)) * z if i > 0 else mean
    return x


@pytest.mark.parametrize("steps", [None, 12])
def test_ddpm_is_ancestral_sampling_with_beta(make_gaussian, steps):
    denoiser = make_gaussian(n=8, timesteps=40)
    plan = dataclasses.replace(FREE, sampler="ddpm", steps=steps)
    schedule = plan.schedule(denoiser.contract.schedule.build())
    expected = ancestral(denoiser, schedule, 5, 3, lambda beta, posterior, v: beta)
    assert np.abs(sample_images(denoiser, plan, seed=5, first=3)[0] - expected).max() < 1e-4


def test_ddim_with_eta_1_is_ancestral_sampling_with_the_posterior_variance(make_gaussian):
    denoiser = make_gaussian(n=8, timesteps=40)
    plan = dataclasses.replace(FREE, steps=None, eta=1.0)
    expected = ancestral(denoiser, denoiser.contract.schedule.build(), 5, 3, lambda beta, posterior, v: posterior)
    assert np.abs(sample_images(denoiser, plan, seed=5, first=3)[0] - expected).max() < 1e-4


@pytest.mark.parametrize("steps", [None, 12])
def test_ddpm_takes_the_learned_variance(make_pixels, steps):
    """Nichol & Dhariwal 2021, eq. 15; on fewer steps with their β and β̃ (section 4)."""
    denoiser = make_pixels(timesteps=40, learned=True)
    plan = dataclasses.replace(FREE, sampler="ddpm", steps=steps)
    schedule = plan.schedule(denoiser.contract.schedule.build())
    expected = ancestral(denoiser, schedule, 5, 3, lambda beta, posterior, v: beta ** v[0] * posterior ** (1 - v[0]))
    assert np.abs(sample_images(denoiser, plan, 5, 3, condition=Condition(label=1))[0] - expected).max() < 1e-4


@pytest.mark.parametrize("change", [{}, {"eta": 1.0}, {"sampler": "ddpm"}])
def test_images_have_the_covariance_of_the_field(make_gaussian, change):
    denoiser = make_gaussian(n=16, timesteps=1000)
    images = sample_images(denoiser, changed(FREE, steps=100, **change), seed=0, count=300)[:, 0]
    power = (np.abs(np.fft.fft2(images)) ** 2).mean(axis=0)
    covariance = np.fft.ifft2(power).real / 16**2
    assert covariance[0, :9] == pytest.approx(denoiser.covariance, abs=0.06)


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("change", [{}, {"sampler": "ddpm"}])
def test_guidance_between_gaussians_moves_the_mean(pixels, scale, change):
    """Guided, the scores of N(m, τ²) and N(m₀, τ²) are linear, and are that of N(m₀ + s (m - m₀), τ²), at any noise."""
    plan = changed(FREE, steps=100, **change)
    images = sample_images(pixels, plan, seed=0, count=50, condition=Condition(label=1, guidance=scale))
    assert images.mean() == pytest.approx(0.25 + scale * (0.5 - 0.25), abs=0.02)
    assert images.std() == pytest.approx(0.2, abs=0.02)


def test_an_image_depends_on_seed_and_number_only(gaussian):
    plan = changed(FREE, steps=4, eta=0.5)
    together = sample_images(gaussian, plan, seed=1, count=6)
    assert np.array_equal(sample_images(gaussian, plan, seed=1, first=3, count=2), together[3:5])
    assert not np.array_equal(sample_images(gaussian, plan, seed=2, first=3), together[3:4])
    assert len({image.tobytes() for image in together}) == 6


def test_an_image_is_the_same_in_any_batch_of_the_network(repository):
    denoiser = EmbeddedDenoiser(repository, "spheres64")
    plan = changed(IMAGES, steps=3)
    together = sample_images(denoiser, plan, seed=1, count=5)
    assert np.array_equal(sample_images(denoiser, plan, seed=1, first=4), together[4:])


def test_all_images_are_asked_for_at_once(gaussian):
    seen = []
    images = sample_images(gaussian, changed(FREE, steps=7), seed=0, count=5, on_evaluation=lambda: seen.append(1))
    assert gaussian.batches == [5] * 7
    assert len(seen) == 7
    assert images.shape == (5, 1, 32, 32)
    assert images.dtype == np.float32


def test_clipped_images_stay_within_the_range_of_the_data(gaussian):
    images = sample_images(gaussian, changed(IMAGES, steps=10), seed=0, count=5)
    assert np.abs(images).max() == 1
    assert np.abs(sample_images(gaussian, changed(FREE, steps=10), seed=0, count=5)).max() > 1
