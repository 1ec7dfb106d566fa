import dataclasses

import numpy as np
import pytest

from mdiff_client.evaluation import compare, evaluate, random_crops, read_phase
from mdiff_client.sampling import PLANS
from mdiff_client.store import VolumeStore
from mdiff_core import DataError, Descriptors, UsageError, error_rate
from mdiff_training.spheres import spheres


@pytest.fixture(scope="module")
def rod():
    return spheres((120, 40, 40), seed=1).astype(bool)


@pytest.fixture
def store(tmp_path, make_gaussian, rod):
    """Three cubes of the rod itself, under a contract whose reference is the rod."""
    references = {"sphere": Descriptors.of(rod, 16), "matrix": Descriptors.of(~rod, 16)}
    contract = dataclasses.replace(make_gaussian(n=32).contract, references=references)
    store = VolumeStore.create(tmp_path / "out.zarr", contract, PLANS["calibrated"], seed=0, count=4, grey=False)
    for index, crop in enumerate(random_crops(rod, 32, 3)):
        store.write(index, crop.astype(np.uint8), evaluations=60)
    return store


def descriptors(fraction, s2):
    return Descriptors(fraction=fraction, specific_surface=0.1, s2=tuple(s2), lineal_path=tuple(s2))


def test_errors_are_those_of_the_mean_curve():
    reference = descriptors(0.3, [0.3, 0.2, 0.1])
    samples = [descriptors(0.2, [0.4, 0.2, 0.1]), descriptors(0.4, [0.2, 0.2, 0.1])]
    comparison = compare(samples, reference)
    assert comparison.s2_error_percent == pytest.approx(0)
    assert comparison.fraction == pytest.approx(0.3)
    assert comparison.s2_error_interval_percent[1] == pytest.approx(error_rate([0.4, 0.2, 0.1], reference.s2))


def test_the_interval_is_that_of_the_mean():
    """For curves that differ from the reference by a factor 1 + x, x normal, the error is 100 |mean of x|."""
    rng = np.random.default_rng(0)
    reference = descriptors(0.5, [0.5, 0.4, 0.3])
    factors = 1.2 + 0.1 * rng.standard_normal(100)
    low, high = compare(
        [descriptors(0.5, f * np.array(reference.s2)) for f in factors], reference
    ).s2_error_interval_percent
    standard_error = 100 * factors.std() / 10
    assert high - low == pytest.approx(2 * 1.96 * standard_error, rel=0.1)
    assert low < 100 * (factors.mean() - 1) < high


def test_a_store_is_compared_phase_by_phase(store, rod):
    evaluation = evaluate(store)
    assert evaluation.volumes == 3
    assert evaluation.evaluations == 60
    by_hand = Descriptors.mean([Descriptors.of(store.read(i) == 1, 16) for i in range(3)])
    sphere = evaluation.phases["sphere"]
    assert sphere.s2_error_percent == pytest.approx(error_rate(by_hand.s2, Descriptors.of(rod, 16).s2))
    assert evaluation.phases["matrix"].fraction == pytest.approx(1 - sphere.fraction)
    assert evaluation.floor == {}


def test_real_data_can_stand_in_for_the_training_reference(store, rod):
    other = rod[:60]
    sphere = evaluate(store, reference=other).phases["sphere"]
    assert sphere.fraction_reference == pytest.approx(other.mean())


def test_the_floor_compares_real_crops_with_the_same_reference(store, rod):
    floor = evaluate(store, floor=rod).floor["sphere"]
    assert floor.samples == 25
    crops = Descriptors.mean([Descriptors.of(crop, 16) for crop in random_crops(rod, 32, 25)])
    assert floor.lineal_path_error_percent == pytest.approx(
        error_rate(crops.lineal_path, Descriptors.of(rod, 16).lineal_path)
    )


def test_crops_lie_inside_and_differ(rod):
    crops = list(random_crops(rod, 32, 5))
    assert {crop.shape for crop in crops} == {(32, 32, 32)}
    assert len({crop.tobytes() for crop in crops}) == 5


def test_a_volume_smaller_than_the_crops_is_refused(rod):
    with pytest.raises(DataError, match="at least 64"):
        next(random_crops(rod, 64, 1))


def test_a_store_without_a_complete_volume_is_refused(tmp_path, gaussian):
    store = VolumeStore.create(tmp_path / "out.zarr", gaussian.contract, PLANS["paper"], seed=0, count=1, grey=False)
    with pytest.raises(DataError, match="no complete volume"):
        evaluate(store)


def test_grey_level_models_have_no_phases_to_compare(tmp_path, gaussian):
    contract = dataclasses.replace(gaussian.contract, phases=(), references={})
    store = VolumeStore.create(tmp_path / "out.zarr", contract, PLANS["paper"], seed=0, count=1, grey=True)
    with pytest.raises(UsageError, match="grey levels"):
        evaluate(store)


def test_the_phase_of_interest_is_read_from_a_file(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, (5, 6, 7)).astype(np.uint8)
    np.save(tmp_path / "labels.npy", labels)
    assert np.array_equal(read_phase(tmp_path / "labels.npy", [1, 2]), labels > 0)
