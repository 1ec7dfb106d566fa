"""The objective against closed forms, and against the papers' equations written out in float64."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Normal, kl_divergence

from mdiff_core import NoiseSchedule
from mdiff_training.loss import Objective

SCHEDULES = {
    "linear": NoiseSchedule.linear(1000),
    "cosine": NoiseSchedule.cosine(1000),
    "duereth2023": NoiseSchedule.linear(4000, 2.5e-5, 5e-3),
    "short": NoiseSchedule.linear(20, 1e-3, 0.3),
}
LINEAR = SCHEDULES["linear"]
SIMPLE = Objective(LINEAR, learned_variance=False)


@pytest.fixture
def draws() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clean images of standard normal pixels, their steps, and noise."""
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 256, 1, 16, 16, generator=generator)
    return x0, torch.randint(0, 1000, (256,), generator=generator), noise


# L_simple


def test_the_denoiser_sees_the_noisy_image_and_its_step(draws):
    """x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε (Ho et al. 2020, eq. 4)."""
    x0, t, noise = draws
    seen = {}

    def predict(x: torch.Tensor, steps: torch.Tensor) -> tuple[torch.Tensor, None]:
        seen.update(x=x, t=steps)
        return x, None

    SIMPLE.terms(predict, x0, t, noise)
    assert torch.equal(seen["t"], t)
    for i in (0, 100, 255):
        a = LINEAR.alpha_bar[t[i]].item()
        torch.testing.assert_close(seen["x"][i], math.sqrt(a) * x0[i] + math.sqrt(1 - a) * noise[i])


def test_a_denoiser_that_knows_the_noise_has_no_loss(draws):
    x0, t, noise = draws
    assert torch.equal(SIMPLE.terms(lambda x, steps: (noise, None), x0, t, noise), torch.zeros(256))


def test_a_denoiser_that_says_nothing_loses_the_power_of_each_image_s_noise(draws):
    x0, t, noise = draws
    losses = SIMPLE.terms(lambda x, steps: (torch.zeros_like(x), None), x0, t, noise)
    torch.testing.assert_close(losses, noise.square().mean(dim=(1, 2, 3)))


def test_the_best_denoiser_of_white_images_loses_alpha_bar(draws):
    """For x_0 ~ N(0, 1) the posterior mean of ε is √(1−ᾱ) x_t, which leaves the variance ᾱ: E (ε − ε̂)² = ᾱ."""
    x0, _, noise = draws
    for step in (0, 200, 500):
        a = LINEAR.alpha_bar[step].item()
        losses = SIMPLE.terms(lambda x, t, a=a: (math.sqrt(1 - a) * x, None), x0, torch.full((256,), step), noise)
        assert losses.mean().item() == pytest.approx(a, rel=5 * math.sqrt(2 / noise.numel()))


def test_a_half_precision_prediction_is_compared_in_single_precision(draws):
    x0, t, noise = draws
    losses = SIMPLE.terms(lambda x, steps: (noise.bfloat16(), None), x0, t, noise)
    assert losses.dtype == torch.float32
    assert 0 < losses.mean().item() < 2**-16  # bfloat16 keeps 8 bits: error up to 2⁻⁹, squared 2⁻¹⁸, times E ε² = 1


# L_hybrid


def grey_images(levels: int = 256) -> torch.Tensor:
    """Images [8, 2, 6, 6] of 8-bit grey levels scaled to [-1, 1], both ends among them."""
    level = np.random.default_rng(3).integers(0, levels, (8, 2, 6, 6))
    level[:, :, 0, 0], level[:, :, 0, 1] = 0, levels - 1
    return torch.from_numpy(level / (levels - 1) * 2 - 1)


def reference_hybrid(
    schedule: NoiseSchedule, x0: np.ndarray, t: int, noise: np.ndarray, eps: np.ndarray, v: np.ndarray, weight: float
) -> float:
    """One image's L_simple + λ L_vlb, every quantity by its own equation in float64.

    Nichol & Dhariwal 2021: eqs. 5-7 (terms of L_vlb), 9 (x_t), 10-12 (posterior), 13 (mean), 15 (variance), 16.
    Steps are counted from 0 here and from 1 there.
    """
    beta = np.array(schedule.betas)
    alpha = 1 - beta
    alpha_bar = np.cumprod(alpha)
    before = np.append(1.0, alpha_bar[:-1])
    beta_tilde = (1 - before) / (1 - alpha_bar) * beta
    beta_tilde[0] = beta_tilde[1]  # their code, for the logarithm in eq. 15

    x_t = np.sqrt(alpha_bar[t]) * x0 + np.sqrt(1 - alpha_bar[t]) * noise
    mu = (x_t - beta[t] / np.sqrt(1 - alpha_bar[t]) * eps) / np.sqrt(alpha[t])
    sigma = np.exp(v * np.log(beta[t]) + (1 - v) * np.log(beta_tilde[t])) ** 0.5
    if t == 0:
        upper = np.where(x0 > 0.999, np.inf, x0 + 1 / 255)
        lower = np.where(x0 < -0.999, -np.inf, x0 - 1 / 255)
        mass = stats.norm.cdf(upper, mu, sigma) - stats.norm.cdf(lower, mu, sigma)
        nats = -np.log(mass)
    else:
        mu_tilde = (
            np.sqrt(before[t]) * beta[t] / (1 - alpha_bar[t]) * x0
            + np.sqrt(alpha[t]) * (1 - before[t]) / (1 - alpha_bar[t]) * x_t
        )
        posterior = Normal(torch.from_numpy(mu_tilde), math.sqrt(beta_tilde[t]))
        nats = kl_divergence(posterior, Normal(torch.from_numpy(mu), torch.from_numpy(sigma))).numpy()
    bits_per_dimension = nats.mean() / np.log(2)
    return ((noise - eps) ** 2).mean() + weight * len(beta) * bits_per_dimension


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("error", [0.03, 1.0], ids=["trained", "untrained"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_hybrid_objective_is_that_of_the_papers(name: str, error: float, dtype: torch.dtype):
    schedule = SCHEDULES[name]
    x0 = grey_images()
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    eps = noise + error * torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    v = torch.rand(x0.shape, generator=generator, dtype=torch.float64) * 1.4 - 0.2  # nothing holds it within 0 and 1
    last = len(schedule) - 1
    t = torch.tensor([0, 1, 2, last // 10, last // 3, last // 2, last - 1, last])

    x0, noise, eps, v = (a.to(dtype) for a in (x0, noise, eps, v))
    objective = Objective(schedule, learned_variance=True, vlb_weight=0.001)
    terms = objective.terms(lambda x, steps: (eps, v), x0, t, noise)
    assert terms.dtype == dtype
    arrays = [a.double().numpy() for a in (x0, noise, eps, v)]
    expected = [
        reference_hybrid(schedule, a, step, b, c, d, 0.001)
        for a, b, c, d, step in zip(*arrays, t.tolist(), strict=True)
    ]
    np.testing.assert_allclose(terms.double().numpy(), expected, rtol=1e-5)


def test_vlb_weight_scales_the_sum_over_all_steps():
    x0, t = grey_images(), torch.arange(8)
    noise = torch.zeros_like(x0)
    v = torch.full_like(x0, 0.3)
    losses = [
        Objective(SCHEDULES["short"], True, weight).terms(lambda x, steps: (noise, v), x0, t, noise)
        for weight in (0.0, 0.001, 0.002)
    ]
    assert torch.equal(losses[0], torch.zeros_like(losses[0]))  # the mean is right, so L_simple is nothing
    assert (losses[1] > 0).all()
    torch.testing.assert_close(losses[2], 2 * losses[1])


def test_the_bound_of_a_gaussian_is_its_entropy():
    """For x_0 ~ N(0, s²) the reverse process is Gaussian too and known; with it, L_vlb is E −log p(x_0), no more.

    With s = 0.2 the levels' ends play no part, and a level of 2/255 turns the density into a mass: the entropy is
    log₂(s √(2πe) 255/2) bits. Tolerance: five standard errors over seeds, of .014.
    """
    s, steps, images = 0.2, 100, 4
    schedule = NoiseSchedule.linear(steps, 1e-4, 0.2)
    beta, a, before = (torch.from_numpy(p) for p in (schedule.beta, schedule.alpha_bar, schedule.alpha_bar_previous))
    low = torch.from_numpy(schedule.log_posterior_variance)

    def exact(x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        total = a * s**2 + 1 - a  # variance of x_t
        variance = beta * (before * s**2 + 1 - before) / total  # of x_{t-1} given x_t
        v = (variance.log() - low) / (beta.log() - low)
        return ((1 - a).sqrt() / total)[t, None, None, None] * x, v[t, None, None, None].expand_as(x)

    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, steps * images, 1, 64, 64, generator=generator, dtype=torch.float64)
    x0 = torch.round((s * x0 + 1) * 127.5) / 127.5 - 1
    t = torch.arange(steps).repeat(images)
    # Each step stands for the sum over all T, so the mean over images and evenly taken steps is the bound.
    simple, hybrid = (
        Objective(schedule, True, weight).terms(exact, x0, t, noise).mean().item() for weight in (0.0, 1.0)
    )
    assert hybrid - simple == pytest.approx(math.log2(s * math.sqrt(2 * math.pi * math.e) * 255 / 2), abs=0.07)


def test_the_mean_learns_from_l_simple_alone_and_the_variance_from_l_vlb_alone():
    x0 = grey_images().float()
    generator = torch.Generator().manual_seed(1)
    noise, eps, v = (torch.randn(x0.shape, generator=generator) for _ in range(3))
    t = torch.arange(8) * 2
    gradients = {}
    for learned in (True, False):
        inputs = eps.clone().requires_grad_(), v.sigmoid().requires_grad_()
        Objective(SCHEDULES["short"], learned, 0.5).terms(lambda x, steps: inputs, x0, t, noise).sum().backward()  # noqa: B023
        gradients[learned] = [i.grad for i in inputs]
    assert torch.equal(gradients[True][0], gradients[False][0])
    assert gradients[False][1] is None
    assert gradients[True][1].abs().amin(dim=(1, 2, 3)).all()


@pytest.mark.parametrize("t", [0, 1, 999])
def test_the_variance_is_driven_to_where_the_errors_are(t: int):
    """At t > 0 the best Σ is β̃ + (μ̃ − μ)²: descending in v ends there."""
    x0, noise = torch.zeros(1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    v = torch.zeros_like(noise, requires_grad=True)
    objective = Objective(LINEAR, True)
    slopes = []
    for error in (0.0, 30.0):
        (slope,) = torch.autograd.grad(
            objective.terms(lambda x, steps, error=error: (noise + error, v), x0, torch.tensor([t]), noise).sum(), v
        )
        slopes.append(slope.item())
    assert slopes[0] >= 0 > slopes[1]


@pytest.mark.parametrize("distance", [1.0, 1e2, 1e4])
def test_far_off_predictions_are_finite_and_can_be_learned_from(distance: float):
    """Cut off at 1e-12, the likelihood of a far-off prediction would have no gradient."""
    x0 = grey_images().float()
    noise = torch.zeros_like(x0)
    v = torch.full_like(x0, 0.5, requires_grad=True)
    terms = Objective(LINEAR, True).terms(lambda x, steps: (noise + distance, v), x0, torch.zeros(8, dtype=int), noise)
    terms.sum().backward()
    assert terms.isfinite().all()
    assert v.grad.isfinite().all()
    assert v.grad.flatten(1).any(dim=1).all()


@pytest.mark.parametrize("learned", [False, True])
def test_a_network_of_the_velocity_is_held_to_it_and_its_variance_to_the_noise_that_follows(learned: bool):
    """L_simple is that of ε over ᾱ, and L_vlb that of the ε which the velocity stands for."""
    schedule = SCHEDULES["short"]
    x0, t = grey_images(), torch.arange(8) * 2
    generator = torch.Generator().manual_seed(2)
    noise, eps, v = (torch.randn(x0.shape, generator=generator, dtype=torch.float64) for _ in range(3))
    v = v.sigmoid()
    alpha_bar = torch.from_numpy(schedule.alpha_bar)[t, None, None, None]

    def velocity(x: torch.Tensor, steps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (eps - (1 - alpha_bar).sqrt() * x) / alpha_bar.sqrt(), v

    def terms(weight: float, **of: bool) -> torch.Tensor:
        predict = velocity if of else lambda x, steps: (eps, v)
        return Objective(schedule, learned, weight, **of).terms(predict, x0, t, noise)

    of_noise = terms(0.0)
    torch.testing.assert_close(terms(0.0, velocity=True), of_noise / alpha_bar.flatten())
    torch.testing.assert_close(terms(0.5, velocity=True) - terms(0.0, velocity=True), terms(0.5) - of_noise)
