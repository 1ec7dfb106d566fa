"""One reverse step against the papers' formulas, written out again, and against the marginals it must keep."""

import numpy as np
import pytest

from mdiff_client.sampling.reverse import churned_step, ddim_step, ddpm_step, dpm_solver_step
from mdiff_core import NoiseSchedule

SCHEDULES = {"full": NoiseSchedule.linear(50, 1e-3, 0.2), "respaced": NoiseSchedule.linear(1000).respaced(13)}


@pytest.fixture(params=SCHEDULES)
def schedule(request):
    return SCHEDULES[request.param]


def taken(step, x, x0, z, before=0.0):
    return step.state * x + step.x0 * x0 + step.before * before + np.sqrt(step.variance) * z


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_ddpm_is_line_7_of_algorithm_1(schedule, rng):
    x, x0, z = rng.standard_normal((3, 100))
    alpha, alpha_bar = 1 - schedule.beta[7], schedule.alpha_bar[7]
    eps = (x - np.sqrt(alpha_bar) * x0) / np.sqrt(1 - alpha_bar)
    line_7 = (x - (1 - alpha) / np.sqrt(1 - alpha_bar) * eps) / np.sqrt(alpha) + np.sqrt(1 - alpha) * z
    assert np.allclose(taken(ddpm_step(schedule, 7), x, x0, z), line_7)


def test_the_last_step_returns_the_prediction(schedule, rng):
    x, x0, z = rng.standard_normal((3, 100))
    for step in (ddpm_step(schedule, 0), ddim_step(schedule, 0, eta=1.0), dpm_solver_step(schedule, 0)):
        assert np.allclose(taken(step, x, x0, z), x0)


def test_learned_variance_interpolates_between_beta_tilde_and_beta(schedule):
    spread = {v: np.sqrt(ddpm_step(schedule, 7, np.full(1, v)).variance).item() for v in (0.0, 0.5, 1.0)}
    a, previous = schedule.alpha_bar[7], schedule.alpha_bar[6]
    beta_tilde = (1 - previous) / (1 - a) * schedule.beta[7]
    assert spread[0.0] == pytest.approx(np.sqrt(beta_tilde))
    assert spread[1.0] == pytest.approx(np.sqrt(schedule.beta[7]))
    assert spread[0.5] == pytest.approx(np.sqrt(spread[0.0] * spread[1.0]))


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_keeps_the_marginal_at_any_eta(schedule, rng, eta):
    x0, eps, z = 0.7, rng.standard_normal(200_000), rng.standard_normal(200_000)
    a, previous = schedule.alpha_bar[7], schedule.alpha_bar[6]
    following = taken(ddim_step(schedule, 7, eta), np.sqrt(a) * x0 + np.sqrt(1 - a) * eps, x0, z)
    assert following.mean() == pytest.approx(np.sqrt(previous) * x0, abs=5 * np.sqrt(1 - previous) / 447)
    assert following.var() == pytest.approx(1 - previous, rel=0.02)


def test_ddim_without_eta_adds_no_noise(schedule):
    assert ddim_step(schedule, 7, 0.0).variance == 0


def test_renoising_goes_back_over_the_skipped_steps(schedule, rng):
    """x_t = √(ᾱ_t/ᾱ_s) x_s + √(1 − ᾱ_t/ᾱ_s) z, whose noise and the step's are drawn as one."""
    x, x0 = rng.standard_normal((2, 100))
    step = ddim_step(schedule, 7, eta=0.6)
    ratio = schedule.alpha_bar[7] / schedule.alpha_bar[6]
    again = step.renoised(schedule, 7)
    assert np.allclose(taken(again, x, x0, 0), np.sqrt(ratio) * taken(step, x, x0, 0))
    assert again.variance == pytest.approx(ratio * step.variance + 1 - ratio)


@pytest.mark.parametrize("churn", [0.0, 1.0])
def test_churn_is_eta_at_its_ends(schedule, churn):
    ours, ddim = churned_step(schedule, 7, churn), ddim_step(schedule, 7, eta=churn)
    assert (ours.state, ours.x0, ours.variance) == pytest.approx((ddim.state, ddim.x0, ddim.variance))


def test_churn_keeps_the_marginal_and_that_much_noise(schedule):
    """In halves as in one: what is left of the noise depends on the way, not on the number of steps."""
    kept = []
    for steps in ([7], [7, 6]):
        state, x0, variance = 1.0, 0.0, 0.0
        for i in steps:
            step = churned_step(schedule, i, 5.0)
            state, x0 = step.state * state, step.state * x0 + step.x0
            variance = step.state**2 * variance + step.variance
        end = steps[-1] - 1
        a, b = schedule.alpha_bar[7], schedule.alpha_bar[end]
        assert state * np.sqrt(a) + x0 == pytest.approx(np.sqrt(b))
        assert state**2 * (1 - a) + variance == pytest.approx(1 - b)
        kept.append(state * np.sqrt((1 - a) / (1 - b)) / (schedule.sigma[end] / schedule.sigma[7]) ** 5)
    assert kept == pytest.approx([1, 1])
