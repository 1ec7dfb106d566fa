import dataclasses
import json
import math

import numpy as np
import pytest

from mdiff_client.sampling import PLANS, default_plan, named_plan
from mdiff_client.sampling.plan import recognized
from mdiff_core import NoiseSchedule, Phase, UsageError

TRAINING = NoiseSchedule.linear(1000)


def test_the_papers_plan_is_ten_thousand_evaluations():
    assert PLANS["paper"].evaluations(TRAINING) == 10_000


@pytest.mark.parametrize("name", sorted(PLANS.keys() - {"paper"}))
def test_plans_but_the_papers_keep_within_two_hundred_evaluations(name):
    assert PLANS[name].evaluations(TRAINING) <= 200


def test_averaging_asks_three_planes_and_the_lagged_average_one():
    average, lagged = (
        dataclasses.replace(PLANS["fast"], planes=planes, harmonize=1, steps=12) for planes in ("average", "lagged")
    )
    assert average.evaluations(TRAINING) == 36
    assert lagged.evaluations(TRAINING) == 14


def test_harmonizing_happens_inside_the_band_only():
    plan = dataclasses.replace(PLANS["paper"], steps=10, harmonize=4, band=(0.5, 2.0))
    inside = [sigma for sigma in plan.schedule(TRAINING).sigma if 0.5 <= sigma <= 2.0]
    assert 0 < len(inside) < 10
    assert plan.evaluations(TRAINING) == 10 + 3 * len(inside)


def test_geometric_steps_are_evenly_spaced_in_log_sigma():
    plan = dataclasses.replace(PLANS["fast"], sigmas=(100.0, 0.05), dense=(2.0, 3.0))
    sigma = plan.schedule(TRAINING).sigma
    ratios = np.log(sigma[1:] / sigma[:-1])
    assert sigma[-1] == pytest.approx(100, rel=0.01)
    assert sigma[0] == pytest.approx(0.05, rel=0.1)
    coarse, fine = ratios[sigma[:-1] > 2.5], ratios[sigma[1:] < 1.5]
    assert np.mean(coarse) / np.mean(fine) == pytest.approx(3, rel=0.1)
    assert np.ptp(coarse) < 0.1 * np.mean(coarse)


@pytest.mark.parametrize(
    "training", [NoiseSchedule.linear(1000, 1e-4, 1e-2), NoiseSchedule.linear(100), NoiseSchedule.cosine(1000)]
)
@pytest.mark.parametrize("steps", [2, 20])
def test_geometric_steps_reach_from_the_noisiest_there_is(training, steps):
    schedule = named_plan("fast", steps=steps).schedule(training)
    assert len(schedule) == steps
    assert schedule.sigma[-1] == pytest.approx(min(PLANS["fast"].sigmas[0], training.sigma[-1]), rel=0.2)


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
        ({"sampler": "euler"}, "use ddpm, ddim, dpm-solver"),
        ({"planes": "both"}, "turn, alternate, average, lagged"),
        ({"ratio": (1, 0, 1)}, "three whole numbers"),
        ({"periodic": "zw"}, "some of x, y and z"),
        ({"sigmas": (0.1, 40.0)}, "the highest and the lowest"),
        ({"churn": (2.0, -1.0)}, "at least 0"),
        ({"churn": (math.inf, 1.0)}, "give a σ"),
        ({"dense": (math.nan, 1.0)}, "give a σ"),
        ({"band": (3.0, 0.1)}, "the lowest and the highest"),
        ({"thick_slices": math.nan}, "shares of at least 0"),
        ({"decided": -1.0}, "at least 0"),
    ],
)
def test_values_out_of_range_are_refused(change, complaint):
    with pytest.raises(UsageError, match=complaint):
        named_plan("fast", **change)


@pytest.mark.parametrize("name", PLANS)
def test_a_stored_plan_is_recognized(name):
    stored = json.loads(json.dumps(dataclasses.asdict(PLANS[name])))
    assert recognized(stored) == name
    assert recognized({key: value for key, value in stored.items() if key != "size"}) == name
    assert recognized({**stored, "size": [16, 32, 32]}) == f"{name}, with size (16, 32, 32)"


def test_an_unknown_plan_names_the_known_ones():
    with pytest.raises(UsageError, match="draft, fast, balanced, films, plain, paper"):
        named_plan("magic")


@pytest.mark.parametrize("plan", ["fast", "paper"])
def test_more_steps_than_the_schedule_has_are_refused(plan):
    with pytest.raises(UsageError, match=r"steps .*ask for"):
        named_plan(plan, steps=1001).schedule(TRAINING)


@pytest.mark.parametrize(
    ("ratio", "order"), [((1, 1, 1), [0, 1, 2]), ((2, 1, 1), [0, 1, 2, 0]), ((1, 2, 1), [1, 0, 2, 1])]
)
def test_planes_are_spread_over_the_cycle(ratio, order):
    plan = dataclasses.replace(PLANS["fast"], planes="alternate", ratio=ratio)
    asked = [axes for *_, axes in plan.asked(TRAINING)]
    assert asked[: len(order)] == [(axis,) for axis in order]


def test_images_count_the_tiles(make_gaussian):
    """A slice of 128 x 96 pixels is two by two tiles of 64."""
    plan = dataclasses.replace(PLANS["fast"], planes="average", harmonize=1, steps=1, size=(64, 128, 96))
    assert plan.images(make_gaussian(n=64).contract) == 64 * 4 + 128 * 2 + 96 * 2


def test_eta_is_that_of_every_step():
    assert named_plan("fast", eta=0.0).churn == (0.0, 1.0)


def test_each_material_has_a_plan(make_gaussian):
    contract = make_gaussian(n=8).contract
    three = dataclasses.replace(contract, channels=3, phases=(*contract.phases, Phase("third", 128)), references={})
    assert [default_plan(of) for of in (contract, three, dataclasses.replace(contract, phases=(), references={}))] == [
        "fast",
        "films",
        "plain",
    ]
