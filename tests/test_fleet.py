"""The simulated fleet (benchmarks/fleet_model.py) against what follows in closed form where one resource binds."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "benchmarks" / "fleet_model.py"


@pytest.fixture(scope="module")
def model():
    spec = importlib.util.spec_from_file_location("fleet_model", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass looks for its module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def small(model):
    """Ten workers whose core, wire, servers and store all have plenty to spare."""
    return model.Fleet(workers=10, in_flight=4, replicas=8, wire=1e12, evaluations=10, finish=0.0)


@pytest.fixture
def rate(model):
    """``rate(fleet)``: volumes a second, counted by their evaluations, which do not come in bursts."""

    def simulated(fleet, seconds=20.0):
        return model.simulate(fleet, seconds=seconds, warm_up=seconds).evaluations / fleet.evaluations / seconds

    return simulated


def test_a_volume_alone_takes_the_sum_of_its_parts(small, rate):
    alone = replace(small, workers=1, in_flight=1)
    one = alone.prepare + 2 * alone.request / alone.wire + alone.latency + alone.compute
    operations = alone.reads_a_volume + alone.writes_a_volume
    assert alone.alone == pytest.approx(10 * one + operations * alone.store_latency)
    assert rate(alone) == pytest.approx(1 / alone.alone, rel=0.02)


@pytest.mark.parametrize(
    ("binding", "changes"),
    [
        ("servers", {"replicas": 2, "compute": 0.02}),
        ("servers", {"replicas": 1, "compute": 0.002, "launch": 0.04, "batch": 8}),
        ("wire", {"wire": 1e8}),
        ("workers' cores", {"in_flight": 16, "prepare": 0.05}),
        ("volumes in flight", {"in_flight": 1, "latency": 0.5}),
        ("store, writes", {"store_writes": 10.0}),
        ("store, reads", {"store_reads": 7.0, "reads_a_volume": 1.0}),
    ],
)
def test_what_binds_gives_the_rate(small, rate, binding, changes):
    fleet = replace(small, **changes)
    name, bound = fleet.bottleneck()
    assert name == binding
    assert rate(fleet, seconds=60.0) == pytest.approx(bound, rel=0.02)


def test_a_request_waits_for_those_before_it(model, small):
    """Of a server that never rests, by Little's law: what is there, over its rate, but for the one it computes."""
    fleet = replace(small, replicas=1, compute=0.1, prepare=1e-6, latency=0.0, store_latency=0.0)
    waited = model.simulate(fleet, seconds=60.0, warm_up=20.0).wait
    assert waited == pytest.approx((fleet.workers * fleet.in_flight - 1) * fleet.compute, rel=0.03)


def test_a_full_queue_turns_calls_away_and_loses_no_throughput(model, small):
    fleet = replace(small, workers=80, replicas=1, compute=0.02)
    assert fleet.workers * fleet.in_flight > model.QUEUE
    found = model.simulate(fleet, seconds=20.0, warm_up=20.0)
    assert found.retried > 0
    assert found.evaluations / fleet.evaluations / 20 == pytest.approx(fleet.bottleneck()[1], rel=0.02)


def test_killed_workers_leave_the_others_work(model, small):
    fleet = replace(small, prepare=0.1, kills=1 / 50, restart=50.0)
    found = model.simulate(fleet, seconds=2000.0, warm_up=500.0)
    calm = replace(fleet, kills=0.0).bottleneck()[1]
    assert fleet.at_work() == 0.5
    assert found.lost > 0
    # 10 workers in some 20 lives each: a standard error of a twentieth.
    assert found.volumes / 2000 == pytest.approx(calm * fleet.at_work() * (1 - fleet.wasted()), rel=0.15)


def test_servers_that_are_lost_and_come_back_lose_no_volume(model, small):
    fleet = replace(small, server_kills=1 / 20, server_restart=5.0)
    found = model.simulate(fleet, seconds=100.0, warm_up=20.0)
    assert found.retried > 0
    assert found.lost == 0
    assert found.volumes * fleet.evaluations == pytest.approx(found.evaluations, rel=0.02)


@pytest.mark.parametrize(("workers", "binding"), [(2, "latency"), (200, "rate")])
def test_listings_take_their_pages(model, small, workers, binding):
    fleet = replace(small, workers=workers, store_reads=1000.0)
    pages = 3 * 10
    expected = {"latency": pages * fleet.store_latency, "rate": workers * pages / fleet.store_reads}
    assert fleet.start_up(10_000, listings=3) == expected[binding] == max(expected.values())
    assert model.simulate_start_up(fleet, 10_000, listings=3) == pytest.approx(expected[binding], rel=0.02)


def test_so_many_servers_keep_all_workers_busy(small):
    enough = small.replicas_for_all()
    assert replace(small, replicas=enough).bottleneck()[0] == "workers' cores"
    assert replace(small, replicas=enough - 1).bottleneck()[0] == "servers"
