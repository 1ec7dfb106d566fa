"""The noise schedule against its defining equations and against Gaussians multiplied out numerically."""

import math

import numpy as np
import pytest

from mdiff_core import NoiseSchedule, UsageError

LINEAR = NoiseSchedule.linear(1000)
COSINE = NoiseSchedule.cosine(1000)
SCHEDULES = [
    pytest.param(LINEAR, id="linear"),
    pytest.param(COSINE, id="cosine"),
    pytest.param(LINEAR.respaced(20), id="respaced"),
]


def test_linear_betas_are_evenly_spaced_and_alpha_bar_is_their_running_product():
    schedule = NoiseSchedule.linear(1000, 1e-4, 1e-2)
    product = 1.0
    for t in range(1000):
        beta = 1e-4 + (1e-2 - 1e-4) * t / 999
        product *= 1 - beta
        assert schedule.beta[t] == pytest.approx(beta, rel=1e-12)
        assert schedule.alpha_bar[t] == pytest.approx(product, rel=1e-12)


def test_the_linear_schedule_of_micro3diff_keeps_eight_per_cent_of_the_signal():
    # ln ᾱ_T = −Σβ − Σβ²/2 to second order; the mean of β is (β_1 + β_T)/2, that of β² (β_T³ − β_1³) / 3(β_T − β_1).
    logarithm = -(1000 * 1.01e-2 / 2 + 1000 * (1e-6 - 1e-12) / (3 * 9.9e-3) / 2)
    alpha_bar = NoiseSchedule.linear(1000, 1e-4, 1e-2).alpha_bar[-1]
    assert alpha_bar == pytest.approx(math.exp(logarithm), rel=1e-3)
    assert math.sqrt(alpha_bar) == pytest.approx(0.08, abs=0.005)
    assert math.sqrt(LINEAR.alpha_bar[-1]) < 0.007


def test_cosine_alpha_bar_is_a_squared_cosine_until_beta_is_capped():
    def f(t: int) -> float:
        return math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    assert COSINE.betas[-1] == 0.999
    for t in range(999):
        assert COSINE.betas[t] < 0.999
        assert COSINE.alpha_bar[t] == pytest.approx(f(t + 1) / f(0), rel=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_noise_grows_with_every_step(schedule: NoiseSchedule):
    assert np.all(np.diff(schedule.sigma) > 0)
    assert np.all(np.diff(schedule.alpha_bar) < 0)
    assert schedule.alpha_bar_previous[0] == 1
    np.testing.assert_array_equal(schedule.alpha_bar_previous[1:], schedule.alpha_bar[:-1])
    np.testing.assert_allclose(schedule.sigma**2 * schedule.alpha_bar, 1 - schedule.alpha_bar, rtol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_posterior_is_the_normalized_product_of_the_two_forward_gaussians(schedule: NoiseSchedule):
    """q(x_{t-1} | x_t, x_0) ∝ q(x_t | x_{t-1}) q(x_{t-1} | x_0), integrated on a grid of x_{t-1}.

    With x_0 replaced by what the predicted noise says it is, its mean is eq. 17 of Micro3Diff (eq. 4 of Düreth et al.)
    and its variance eq. 7 of Düreth et al. The integrand is a Gaussian known to fall below exp(-50) at the ends of the
    grid, where the trapezoidal rule converges faster than any power of the step.
    """
    for t in {1, 2, len(schedule) // 2, len(schedule) - 2}:
        x_t, eps = 0.7, -1.3
        beta = schedule.betas[t]
        alpha_bar, before = (
            math.prod(1 - b for b in schedule.betas[: t + 1]),
            math.prod(1 - b for b in schedule.betas[:t]),
        )
        x_0 = (x_t - math.sqrt(1 - alpha_bar) * eps) / math.sqrt(alpha_bar)
        narrow = math.sqrt(min(beta / (1 - beta), 1 - before))
        around = [x_t / math.sqrt(1 - beta), math.sqrt(before) * x_0]
        grid = np.linspace(min(around) - 10 * narrow, max(around) + 10 * narrow, 400_001)
        exponent = -((x_t - math.sqrt(1 - beta) * grid) ** 2) / (2 * beta) - (grid - math.sqrt(before) * x_0) ** 2 / (
            2 * (1 - before)
        )
        density = np.exp(exponent - exponent.max())
        mean = np.sum(grid * density) / np.sum(density)
        variance = np.sum((grid - mean) ** 2 * density) / np.sum(density)

        assert schedule.predicted_x0(np.array(x_t), np.array(eps), t) == pytest.approx(x_0, rel=1e-9)
        assert schedule.posterior_variance[t] == pytest.approx(variance, rel=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_predicted_image_inverts_the_forward_step(schedule: NoiseSchedule):
    rng = np.random.default_rng(0)
    x_0, eps = rng.uniform(-1, 1, (2, 3, 4)), rng.standard_normal((2, 3, 4))
    for t in (0, len(schedule) // 2):
        x_t = math.sqrt(schedule.alpha_bar[t]) * x_0 + math.sqrt(1 - schedule.alpha_bar[t]) * eps
        np.testing.assert_allclose(schedule.predicted_x0(x_t, eps, t), x_0, atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_learned_variance_runs_from_the_posterior_to_beta_on_a_log_scale(schedule: NoiseSchedule):
    for t in (1, len(schedule) // 2, len(schedule) - 1):
        upper, lower = schedule.betas[t], schedule.posterior_variance[t]
        low, middle, high = schedule.learned_variance(np.array([0.0, 0.5, 1.0]), t)
        assert low == pytest.approx(lower, rel=1e-9)
        assert middle == pytest.approx(math.sqrt(upper * lower), rel=1e-9)
        assert high == pytest.approx(upper, rel=1e-9)


def test_learned_variance_of_the_first_step_uses_the_second_posterior():
    lower = LINEAR.learned_variance(np.array(0.0), 0)
    assert lower == pytest.approx(LINEAR.posterior_variance[1], rel=1e-9)
    assert NoiseSchedule((0.1,), (0,)).learned_variance(np.array(0.0), 0) == pytest.approx(0.1)


def test_arithmetic_keeps_single_precision_images_single():
    x = np.ones((2, 2), dtype=np.float32)
    for result in (LINEAR.predicted_x0(x, x, 5), LINEAR.learned_variance(x, 5)):
        assert result.dtype == np.float32


@pytest.mark.parametrize("steps", [1, 2, 20, 999, 1000])
def test_respacing_keeps_alpha_bar_at_the_chosen_steps(steps: int):
    respaced = LINEAR.respaced(steps)
    assert len(respaced) == steps
    assert respaced.timesteps[-1] == 999
    assert steps == 1 or respaced.timesteps[0] == 0
    np.testing.assert_allclose(respaced.alpha_bar, LINEAR.alpha_bar[list(respaced.timesteps)], rtol=1e-9)


def test_respacing_spreads_any_number_of_steps_evenly():
    for total in range(1, 41):
        for steps in range(1, total + 1):
            gaps = np.diff(NoiseSchedule.linear(total).respaced(steps).timesteps)
            assert np.all(np.abs(gaps - (total - 1) / max(1, steps - 1)) <= 1)


def test_respacing_to_named_steps():
    respaced = LINEAR.respaced([3, 500, 998])
    assert respaced.timesteps == (3, 500, 998)
    np.testing.assert_allclose(respaced.alpha_bar, LINEAR.alpha_bar[[3, 500, 998]], rtol=1e-9)


def test_respacing_composes():
    twice, once = LINEAR.respaced(range(0, 1000, 10)).respaced([0, 5, 99]), LINEAR.respaced([0, 50, 990])
    assert twice.timesteps == once.timesteps
    np.testing.assert_allclose(twice.betas, once.betas, rtol=1e-9)


def test_all_steps_are_the_schedule_itself():
    respaced = COSINE.respaced(1000)
    assert respaced.timesteps == COSINE.timesteps
    np.testing.assert_allclose(respaced.betas, COSINE.betas, rtol=1e-9)


def test_a_respaced_beta_renoises_over_the_steps_it_skips():
    """One step of variance β' from ᾱ_s to ᾱ_t is the chain of all steps between: same gain, same noise."""
    respaced = LINEAR.respaced([100, 400])
    gain, variance = 1.0, 0.0
    for t in range(101, 401):
        gain *= math.sqrt(1 - LINEAR.betas[t])
        variance = (1 - LINEAR.betas[t]) * variance + LINEAR.betas[t]
    assert math.sqrt(1 - respaced.betas[1]) == pytest.approx(gain, rel=1e-9)
    assert respaced.betas[1] == pytest.approx(variance, rel=1e-9)


def test_nearest_step_is_nearest_on_a_log_scale():
    coarse = LINEAR.respaced(6)
    for level in np.geomspace(coarse.sigma[0] / 2, coarse.sigma[-1] * 2, 57):
        distances = [abs(math.log(sigma / level)) for sigma in coarse.sigma]
        assert coarse.nearest(level) == distances.index(min(distances))
    assert [LINEAR.nearest(LINEAR.sigma[t]) for t in (0, 321, 999)] == [0, 321, 999]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: NoiseSchedule.linear(0), "at least one step"),
        (lambda: NoiseSchedule.cosine(0), "at least one step"),
        (lambda: NoiseSchedule((), ()), "at least one beta"),
        (lambda: NoiseSchedule((0.1, 1.0), (0, 1)), "between 0 and 1"),
        (lambda: NoiseSchedule((0.0,), (0,)), "between 0 and 1"),
        (lambda: NoiseSchedule((math.nan,), (0,)), "between 0 and 1"),
        (lambda: NoiseSchedule((0.1, 0.2), (0,)), "one timestep for each beta"),
        (lambda: NoiseSchedule((0.1, 0.2), (1, 1)), "increasing"),
        (lambda: LINEAR.respaced(0), "ask for 1 to 1000"),
        (lambda: LINEAR.respaced(1001), "ask for 1 to 1000"),
        (lambda: LINEAR.respaced([]), "between 0 and 999"),
        (lambda: LINEAR.respaced([0, 1000]), "between 0 and 999"),
        (lambda: LINEAR.respaced([-1, 5]), "between 0 and 999"),
        (lambda: LINEAR.respaced([7, 5]), "between 0 and 1"),
        (lambda: LINEAR.respaced([5, 5]), "between 0 and 1"),
    ],
)
def test_schedules_that_make_no_sense_are_usage_errors(build, message: str):
    with pytest.raises(UsageError, match=message):
        build()
