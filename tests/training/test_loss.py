"""The objective against closed forms."""

import math

import pytest
import torch

from mdiff_core import NoiseSchedule
from mdiff_training.loss import add_noise, simple_loss

ALPHA_BAR = torch.from_numpy(NoiseSchedule.linear(1000).alpha_bar).float()


@pytest.fixture
def draws() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clean images of standard normal pixels, their steps, and noise."""
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 256, 1, 16, 16, generator=generator)
    return x0, torch.randint(0, 1000, (256,), generator=generator), noise


def test_noise_is_added_in_proportion_to_its_step(draws):
    x0, t, noise = draws
    noisy = add_noise(x0, noise, ALPHA_BAR[t])
    for i in (0, 100, 255):
        a = ALPHA_BAR[t[i]].item()
        torch.testing.assert_close(noisy[i], math.sqrt(a) * x0[i] + math.sqrt(1 - a) * noise[i])


def test_a_denoiser_that_knows_the_noise_has_no_loss(draws):
    x0, t, noise = draws
    assert simple_loss(lambda x, steps: noise, x0, t, noise, ALPHA_BAR) == 0


def test_a_denoiser_that_says_nothing_loses_the_power_of_the_noise(draws):
    """E ε² = 1 with variance 2: five standard errors over n pixels."""
    x0, t, noise = draws
    loss = simple_loss(lambda x, steps: torch.zeros_like(x), x0, t, noise, ALPHA_BAR)
    assert loss.item() == pytest.approx(noise.square().mean().item())
    assert loss.item() == pytest.approx(1, abs=5 * math.sqrt(2 / noise.numel()))


def test_the_best_denoiser_of_white_images_loses_alpha_bar(draws):
    """For x_0 ~ N(0, 1) the posterior mean of ε is √(1−ᾱ) x_t, which leaves the variance ᾱ: E (ε − ε̂)² = ᾱ."""
    x0, _, noise = draws
    for step in (0, 200, 500):
        a = ALPHA_BAR[step].item()
        t = torch.full((256,), step)
        loss = simple_loss(
            lambda x, steps: (1 - ALPHA_BAR[steps])[:, None, None, None].sqrt() * x, x0, t, noise, ALPHA_BAR
        )
        assert loss.item() == pytest.approx(a, rel=5 * math.sqrt(2 / noise.numel()))


def test_the_denoiser_sees_the_noisy_image_and_its_step(draws):
    x0, t, noise = draws
    seen = {}

    def denoise(x: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        seen.update(x=x, t=steps)
        return x

    simple_loss(denoise, x0, t, noise, ALPHA_BAR)
    assert torch.equal(seen["t"], t)
    torch.testing.assert_close(seen["x"], add_noise(x0, noise, ALPHA_BAR[t]))


def test_a_half_precision_prediction_is_compared_in_single_precision(draws):
    x0, t, noise = draws
    loss = simple_loss(lambda x, steps: noise.bfloat16(), x0, t, noise, ALPHA_BAR)
    assert loss.dtype == torch.float32
    assert 0 < loss.item() < 2**-16  # bfloat16 keeps 8 bits: relative error up to 2⁻⁹, squared 2⁻¹⁸, times E ε² = 1
