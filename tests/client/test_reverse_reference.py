"""Schedule, posterior and reverse steps to 1e-5: against the papers' equations in float64, and against diffusers.

The arrays under test are float32, as they are in sampling.
"""

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from mdiff_client.sampling.reverse import ReverseStep, ddim_step, ddpm_step, dpm_solver_step
from mdiff_core import NoiseSchedule

SCHEDULES = {
    "linear": NoiseSchedule.linear(1000),
    "micro3diff": NoiseSchedule.linear(1000, 1e-4, 1e-2),
    "duereth2023": NoiseSchedule.linear(4000, 2.5e-5, 5e-3),
    "cosine": NoiseSchedule.cosine(1000),
    "respaced": NoiseSchedule.linear(1000).respaced(range(0, 1000, 50)),
}
SHAPE = (2, 1, 8, 8)


@pytest.fixture(params=SCHEDULES)
def schedule(request) -> NoiseSchedule:
    return SCHEDULES[request.param]


def steps_of(schedule: NoiseSchedule) -> list[int]:
    last = len(schedule) - 1
    return [0, 1, 2, last // 4, last // 2, last - 1, last]


def draw(seed: int) -> tuple[np.ndarray, ...]:
    """x_t, the predicted ε, v and the step's noise, float32."""
    rng = np.random.default_rng(seed)
    x, eps, z = rng.standard_normal((3, *SHAPE), dtype=np.float32)
    return x, eps, rng.random(SHAPE, dtype=np.float32), z


def predicted(schedule: NoiseSchedule, x: np.ndarray, eps: np.ndarray, i: int) -> np.ndarray:
    x0 = schedule.predicted_x0(x, eps, i)
    assert x0.dtype == np.float32
    return x0


def taken(step: ReverseStep, x: np.ndarray, x0: np.ndarray, z: np.ndarray) -> np.ndarray:
    """In float32, as in sampling."""
    return np.float32(step.state) * x + np.float32(step.x0) * x0 + np.sqrt(step.variance, dtype=np.float32) * z


def assert_same(step: np.ndarray, reference: np.ndarray) -> None:
    """To 1e-5 of the largest pixel: ε and x̂₀ can be large, and are taken from each other in float32."""
    assert step.dtype == np.float32
    np.testing.assert_allclose(step, reference, rtol=0, atol=1e-5 * max(1.0, np.abs(reference).max()))


# The papers' equations


class Papers:
    """Steps counted from 1 as in the papers, every quantity by its own equation, α_0 = 1."""

    def __init__(self, betas: tuple[float, ...]):
        self.beta = np.array([np.nan, *betas])
        self.alpha = 1 - self.beta  # Düreth et al. eq. 6
        self.alpha_bar = np.array([np.prod(1 - np.array(betas[:t])) for t in range(len(betas) + 1)])  # eq. 6

    def posterior_variance(self, t: int) -> float:
        """Düreth et al. eq. 7."""
        return (1 - self.alpha_bar[t - 1]) / (1 - self.alpha_bar[t]) * self.beta[t]

    def mean(self, x: np.ndarray, eps: np.ndarray, t: int) -> np.ndarray:
        """Düreth et al. eq. 4 and Micro3Diff eq. 17, both of which mean ᾱ under the root."""
        return (x - self.beta[t] / np.sqrt(1 - self.alpha_bar[t]) * eps) / np.sqrt(self.alpha[t])

    def posterior_mean(self, x: np.ndarray, x0: np.ndarray, t: int) -> np.ndarray:
        """Of q(x_{t-1} | x_t, x_0): Ho et al. 2020, eq. 7."""
        from_x0 = np.sqrt(self.alpha_bar[t - 1]) * self.beta[t] / (1 - self.alpha_bar[t])
        from_x = np.sqrt(self.alpha[t]) * (1 - self.alpha_bar[t - 1]) / (1 - self.alpha_bar[t])
        return from_x0 * x0 + from_x * x

    def learned_variance(self, v: np.ndarray, t: int) -> np.ndarray:
        """Düreth et al. eq. 5, with β̃_2 for β̃_1 = 0, of which there is no logarithm (improved-diffusion)."""
        low = self.posterior_variance(max(t, 2))
        return np.exp(v * np.log(self.beta[t]) + (1 - v) * np.log(low))

    def ddim(self, x: np.ndarray, eps: np.ndarray, t: int, z: np.ndarray, eta: float) -> np.ndarray:
        """Song et al. 2021, eqs. 12 and 16; their α is ᾱ."""
        a, before = self.alpha_bar[t], self.alpha_bar[t - 1]
        sigma = eta * np.sqrt((1 - before) / (1 - a)) * np.sqrt(1 - a / before)
        x0 = (x - np.sqrt(1 - a) * eps) / np.sqrt(a)
        return np.sqrt(before) * x0 + np.sqrt(1 - before - sigma**2) * eps + sigma * z


def test_alpha_bar_and_variances_are_the_papers(schedule):
    papers = Papers(schedule.betas)
    for i in steps_of(schedule):
        assert schedule.alpha_bar[i] == pytest.approx(papers.alpha_bar[i + 1], rel=1e-9)
        assert schedule.posterior_variance[i] == pytest.approx(papers.posterior_variance(i + 1), rel=1e-9)
        v = draw(i)[2]
        np.testing.assert_allclose(schedule.learned_variance(v, i), papers.learned_variance(v, i + 1), rtol=1e-5)


def test_the_mean_is_the_papers_from_the_noise_and_from_the_image(schedule):
    papers = Papers(schedule.betas)
    for i in steps_of(schedule):
        x, eps, _, _ = draw(i)
        mean = taken(dataclasses.replace(ddpm_step(schedule, i), variance=0.0), x, predicted(schedule, x, eps, i), x)
        assert_same(mean, papers.mean(x.astype(np.float64), eps, i + 1))
        a = papers.alpha_bar[i + 1]
        x0 = (x.astype(np.float64) - np.sqrt(1 - a) * eps) / np.sqrt(a)
        assert_same(mean, papers.posterior_mean(x, x0, i + 1))


@pytest.mark.parametrize("variance", ["beta", "learned"])
def test_ancestral_steps_are_the_papers(schedule, variance: str):
    papers = Papers(schedule.betas)
    for i in steps_of(schedule):
        x, eps, v, z = draw(i)
        spread = papers.learned_variance(v, i + 1) if variance == "learned" else papers.beta[i + 1]
        expected = papers.mean(x.astype(np.float64), eps, i + 1) + (np.sqrt(spread) * z if i else 0)
        x0 = predicted(schedule, x, eps, i)
        step = ddpm_step(schedule, i, v if variance == "learned" else None)
        assert_same(taken(step, x, x0, z), expected)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_steps_are_the_paper_s(schedule, eta: float):
    papers = Papers(schedule.betas)
    for i in steps_of(schedule):
        x, eps, _, z = draw(i)
        expected = papers.ddim(x.astype(np.float64), eps.astype(np.float64), i + 1, z, eta)
        assert_same(taken(ddim_step(schedule, i, eta), x, predicted(schedule, x, eps, i), z), expected)


# diffusers


def theirs(kind: type, name: str, **options) -> DDPMScheduler | DDIMScheduler:
    """Their scheduler over the full schedule of which ours is, or is a part.

    It keeps ᾱ in float32, where 1 − ᾱ of the first steps has three digits; it is given ᾱ in float64 instead, from the
    same betas, so that its equations are compared and not its rounding.
    """
    full = NoiseSchedule.linear(1000) if name == "respaced" else SCHEDULES[name]
    scheduler = kind(
        num_train_timesteps=len(full),
        trained_betas=list(full.betas),
        clip_sample=False,
        prediction_type="epsilon",
        **options,
    )
    np.testing.assert_allclose(scheduler.alphas_cumprod.numpy(), full.alpha_bar, rtol=1e-4, atol=1e-7)
    betas = torch.tensor(full.betas, dtype=torch.float64)
    scheduler.betas, scheduler.alphas, scheduler.alphas_cumprod = betas, 1 - betas, torch.cumprod(1 - betas, 0)
    return scheduler


def noise_of(seed: int) -> np.ndarray:
    """The noise that their step draws from a generator of this seed."""
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).numpy()


def their_step(
    scheduler: DDPMScheduler | DDIMScheduler, output: np.ndarray, t: int, x: np.ndarray, **options
) -> np.ndarray:
    generator = torch.Generator().manual_seed(t)
    tensors = torch.from_numpy(output.astype(np.float64)), t, torch.from_numpy(x.astype(np.float64))
    return scheduler.step(*tensors, generator=generator, **options).prev_sample.numpy()


@pytest.mark.parametrize(
    ("ours", "options"),
    [
        (SCHEDULES["linear"], {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 2e-2}),
        (SCHEDULES["micro3diff"], {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 1e-2}),
        (SCHEDULES["cosine"], {"beta_schedule": "squaredcos_cap_v2"}),
    ],
)
def test_schedules_are_those_of_diffusers(ours: NoiseSchedule, options: dict):
    scheduler = DDPMScheduler(num_train_timesteps=len(ours), **options)
    np.testing.assert_allclose(scheduler.betas.numpy(), ours.beta, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(scheduler.alphas_cumprod.numpy(), ours.alpha_bar, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variance_type", ["fixed_large", "fixed_small", "learned_range"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_ancestral_steps_are_those_of_diffusers(name: str, variance_type: str):
    """fixed_large is β, fixed_small β̃, and learned_range between them, by an output in [-1, 1]."""
    schedule, scheduler = SCHEDULES[name], theirs(DDPMScheduler, name, variance_type=variance_type)
    scheduler.set_timesteps(timesteps=list(reversed(schedule.timesteps)))
    for i in steps_of(schedule):
        x, eps, v, _ = draw(i)
        t = schedule.timesteps[i]
        output = np.concatenate([eps, 2 * v - 1], axis=1) if variance_type == "learned_range" else eps
        expected = their_step(scheduler, output, t, x)
        ours = {"fixed_large": None, "fixed_small": np.zeros_like(v), "learned_range": v}[variance_type]
        z = noise_of(t).astype(np.float32)
        assert_same(taken(ddpm_step(schedule, i, ours), x, predicted(schedule, x, eps, i), z), expected)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", SCHEDULES)
def test_ddim_steps_are_those_of_diffusers(name: str, eta: float):
    schedule, scheduler = SCHEDULES[name], theirs(DDIMScheduler, name, set_alpha_to_one=True)
    scheduler.set_timesteps(len(schedule))
    assert scheduler.timesteps.tolist() == list(reversed(schedule.timesteps))
    for i in steps_of(schedule):
        x, eps, _, _ = draw(i)
        t = schedule.timesteps[i]
        expected = their_step(scheduler, eps, t, x, eta=eta)
        z = noise_of(t).astype(np.float32)
        assert_same(taken(ddim_step(schedule, i, eta), x, predicted(schedule, x, eps, i), z), expected)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in diffusers, of numpy 2
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_dpm_solver_steps_are_those_of_diffusers(name: str):
    """A whole trajectory of 12 steps, with an ε that is a fixed function of x."""
    full = SCHEDULES[name]
    scheduler = DPMSolverMultistepScheduler(
        len(full),
        trained_betas=list(full.betas),
        algorithm_type="dpmsolver++",
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(12)
    schedule = full.respaced(sorted(scheduler.timesteps.tolist()))
    x = draw(0)[0]
    other, ours, before = torch.from_numpy(x.astype(np.float64)), x.astype(np.float64), np.zeros_like(x)
    for i, t in zip(reversed(range(12)), scheduler.timesteps, strict=True):
        other = scheduler.step(0.3 * torch.sin(other) + 0.5 * other, t, other).prev_sample
        x0 = schedule.predicted_x0(ours, 0.3 * np.sin(ours) + 0.5 * ours, i)
        step = dpm_solver_step(schedule, i)
        ours = step.state * ours + step.x0 * x0 + step.before * before
        before = x0
        np.testing.assert_allclose(ours, other.numpy(), rtol=2e-3, atol=2e-3 * np.abs(ours).max())
