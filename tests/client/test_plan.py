import dataclasses

import pytest

from mdiff_client.sampling import PLANS, named_plan
from mdiff_core import NoiseSchedule, UsageError

TRAINING = NoiseSchedule.linear(1000)


def test_the_papers_plan_is_ten_thousand_evaluations():
    assert PLANS["paper"].evaluations(TRAINING) == 10_000


@pytest.mark.parametrize("name", sorted(PLANS.keys() - {"paper"}))
def test_plans_but_the_papers_keep_within_two_hundred_evaluations(name):
    assert PLANS[name].evaluations(TRAINING) <= 200


def test_averaging_asks_three_planes_and_the_lagged_average_one():
    average, lagged = (
        dataclasses.replace(PLANS["calibrated"], planes=planes, harmonize=1, steps=12)
        for planes in ("average", "lagged")
    )
    assert average.evaluations(TRAINING) == 36
    assert lagged.evaluations(TRAINING) == 14


def test_harmonizing_happens_inside_the_band_only():
    plan = dataclasses.replace(PLANS["paper"], steps=10, harmonize=4, band=(0.5, 2.0))
    inside = [sigma for sigma in plan.schedule(TRAINING).sigma if 0.5 <= sigma <= 2.0]
    assert 0 < len(inside) < 10
    assert plan.evaluations(TRAINING) == 10 + 3 * len(inside)


def test_geometric_steps_are_evenly_spaced_in_log_sigma():
    sigma = PLANS["calibrated"].schedule(TRAINING).sigma
    ratios = sigma[1:] / sigma[:-1]
    assert sigma[-1] == pytest.approx(100, rel=0.01)
    assert sigma[0] == pytest.approx(0.05, rel=0.1)
    assert ratios.max() / ratios.min() < 1.2


@pytest.mark.parametrize(
    "training", [NoiseSchedule.linear(1000, 1e-4, 1e-2), NoiseSchedule.linear(100), NoiseSchedule.cosine(1000)]
)
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_geometric_steps_reach_from_the_noisiest_there_is(training, steps):
    schedule = named_plan("calibrated", steps=steps).schedule(training)
    assert len(schedule) == steps
    assert schedule.sigma[-1] == pytest.approx(min(100, training.sigma[-1]), rel=0.1)


def test_eta_is_refused_where_it_would_do_nothing():
    with pytest.raises(UsageError, match="belongs to the sampler ddim"):
        named_plan("paper", eta=0.5)
    assert named_plan("paper", sampler="ddim", eta=0.5).eta == 0.5


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"steps": 0}, "at least one"),
        ({"harmonize": 0}, "at least one"),
        ({"eta": 1.5}, "between 0"),
        ({"sampler": "euler"}, "ddpm or ddim"),
        ({"planes": "both"}, "turn, average or lagged"),
    ],
)
def test_values_out_of_range_are_refused(change, complaint):
    with pytest.raises(UsageError, match=complaint):
        named_plan("calibrated", **change)


def test_an_unknown_plan_names_the_known_ones():
    with pytest.raises(UsageError, match="lagged, calibrated, paper"):
        named_plan("magic")


@pytest.mark.parametrize("plan", ["calibrated", "paper"])
def test_more_steps_than_the_schedule_has_are_refused(plan):
    with pytest.raises(UsageError, match=r"steps .*ask for"):
        named_plan(plan, steps=1001).schedule(TRAINING)
