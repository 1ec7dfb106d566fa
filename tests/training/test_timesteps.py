"""Timestep samplers: what they draw, what they learn, and what a checkpoint must carry."""

import math

import pytest
import torch

from mdiff_core import UsageError
from mdiff_training.timesteps import ImportanceTimesteps, UniformTimesteps, timestep_sampler

STEPS = 20


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def warm(losses: torch.Tensor) -> ImportanceTimesteps:
    """A sampler that has seen each step's losses [T, n]."""
    sampler = ImportanceTimesteps(len(losses))
    for column in losses.T:
        sampler.observe(torch.arange(len(losses)), column)
    return sampler


@pytest.fixture
def losses() -> torch.Tensor:
    return torch.rand(STEPS, 10, generator=generator(5)) ** 2 * torch.logspace(0, -3, STEPS)[:, None]


@pytest.mark.parametrize("importance", [False, True])
def test_before_anything_is_known_steps_are_drawn_evenly(importance: bool):
    sampler = timestep_sampler(STEPS, importance)
    t, weights = sampler.draw(40_000, generator())
    assert (t.dtype, weights.dtype) == (torch.int64, torch.float32)
    assert torch.equal(weights, torch.ones(40_000))
    counts = torch.bincount(t, minlength=STEPS)
    assert len(counts) == STEPS
    assert (counts - 2000).abs().max().item() < 5 * math.sqrt(2000)


def test_the_configuration_s_choice():
    assert isinstance(timestep_sampler(STEPS, importance=False), UniformTimesteps)
    assert isinstance(timestep_sampler(STEPS, importance=True), ImportanceTimesteps)


def test_uniform_draws_learn_nothing(losses: torch.Tensor):
    sampler = UniformTimesteps(STEPS)
    sampler.observe(torch.arange(STEPS), losses[:, 0])
    sampler.restore(sampler.state())
    assert torch.equal(sampler.draw(64, generator())[0], UniformTimesteps(STEPS).draw(64, generator())[0])


def test_every_step_needs_ten_losses_before_any_is_preferred(losses: torch.Tensor):
    sampler = ImportanceTimesteps(STEPS)
    for _ in range(9):
        sampler.observe(torch.arange(STEPS), losses[:, 0])
    for step in range(STEPS):
        assert torch.equal(sampler.draw(8, generator())[1], torch.ones(8))
        sampler.observe(torch.tensor([step]), losses[step, :1])
    assert not torch.equal(sampler.draw(8, generator())[1], torch.ones(8))


def test_steps_are_drawn_by_the_second_moment_of_their_losses(losses: torch.Tensor):
    """p_t ∝ √E[L_t²] (eq. 18), of which a thousandth is spread evenly."""
    sampler = warm(losses)
    moment = [math.sqrt(sum(loss**2 for loss in row) / 10) for row in losses.tolist()]
    expected = torch.tensor([0.999 * m / sum(moment) + 0.001 / STEPS for m in moment])

    t, weights = sampler.draw(100_000, generator())
    frequencies = torch.bincount(t, minlength=STEPS) / len(t)
    assert ((frequencies - expected).abs() < 5 * (expected / len(t)).sqrt()).all()
    torch.testing.assert_close(weights, 1 / (STEPS * expected[t]))


def test_weighted_losses_have_the_mean_of_even_draws(losses: torch.Tensor):
    """And less variance, which is what the sampler is for: with one loss a step, they are all but constant."""
    of_step = losses[:, 0]
    sampler = warm(of_step[:, None].expand(STEPS, 10))
    t, weights = sampler.draw(50_000, generator())
    weighted = weights * of_step[t]
    assert weighted.mean().item() == pytest.approx(of_step.mean().item(), rel=0.01)
    assert weighted.std() < 0.05 * of_step.std()


def test_only_the_last_ten_losses_count(losses: torch.Tensor):
    assert torch.equal(warm(torch.cat([100 * losses.flip(0), losses], dim=1)).probabilities, warm(losses).probabilities)


def test_a_step_that_comes_twice_in_a_batch_counts_twice(losses: torch.Tensor):
    at_once = ImportanceTimesteps(STEPS)
    at_once.observe(torch.arange(STEPS).repeat_interleave(10), losses.flatten())
    assert torch.equal(at_once.state(), warm(losses).state())


def test_a_step_without_loss_is_not_forgotten(losses: torch.Tensor):
    losses[3] = 0
    assert warm(losses).probabilities[3].item() == pytest.approx(0.001 / STEPS)
    assert torch.equal(warm(torch.zeros(STEPS, 10)).draw(5, generator())[1], torch.ones(5))


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_losses_that_are_not_finite_teach_nothing(losses: torch.Tensor, lost: float):
    """Training that diverges goes on drawing until it is noticed."""
    sampler = warm(losses)
    before = sampler.state()
    sampler.observe(torch.tensor([0, 7]), torch.tensor([lost, 0.5]))
    assert torch.equal(sampler.state()[:7], before[:7])
    assert sampler.state()[7].tolist() == [*before[7, 1:].tolist(), 0.5]
    sampler.draw(5, generator())


@pytest.mark.parametrize("seen", [0, 4, 10, 13])
def test_a_restored_sampler_goes_on_bit_for_bit(losses: torch.Tensor, seen: int):
    whole = warm(torch.cat([losses, losses.flip(1)], dim=1)[:, :seen])
    kept = whole.state()
    resumed = ImportanceTimesteps(STEPS)
    resumed.restore(kept)
    for sampler in (whole, resumed):
        for i in range(8):
            sampler.observe(torch.arange(STEPS), losses[:, i])
    assert torch.equal(resumed.state(), whole.state())
    for one, other in zip(resumed.draw(100, generator()), whole.draw(100, generator()), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(kept, whole.state()), "what a checkpoint holds must not change with the sampler"


def test_an_empty_state_begins_anew(losses: torch.Tensor):
    sampler = warm(losses)
    sampler.restore(UniformTimesteps(STEPS).state())
    assert torch.equal(sampler.state(), ImportanceTimesteps(STEPS).state())


def test_the_state_of_another_schedule_is_a_usage_error(losses: torch.Tensor):
    with pytest.raises(UsageError, match=r"losses of 20 steps were kept, the schedule has 30"):
        ImportanceTimesteps(30).restore(warm(losses).state())
