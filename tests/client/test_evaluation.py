"""How far volumes are from the real material, phase by phase."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mdiff_client.evaluation import compare, evaluate, random_crops, read_labels
from mdiff_client.metrics import METRICS, Tools, parse_metrics
from mdiff_client.metrics.morphology import chord_lengths
from mdiff_client.sampling import PLANS, UNCONDITIONAL, Condition
from mdiff_client.store import VolumeStore
from mdiff_core import DataError, Descriptors, ModelContract, Phase, UsageError, error_rate, reference_descriptors
from mdiff_training.data.spheres import spheres


@pytest.fixture(scope="module")
def rod():
    return spheres((120, 40, 40), seed=1)


@pytest.fixture
def rod_contract(make_gaussian, rod):
    references = reference_descriptors(rod, ("matrix", "sphere"), (32, 32))
    return dataclasses.replace(make_gaussian(n=32).contract, references=references)


@pytest.fixture
def store(tmp_path, rod_contract, rod):
    """Three cubes of the rod itself, under a contract whose reference is the rod."""
    return store_of(tmp_path / "out.zarr", rod_contract, rod)


@pytest.fixture(scope="module")
def rock():
    """Three phases of unequal share, in patches of a few voxels."""
    noise = gaussian_filter(np.random.default_rng(3).standard_normal((48, 40, 36)), 2)
    return np.digitize(noise, np.quantile(noise, [0.4, 0.9])).astype(np.uint8)


@pytest.fixture
def rock_contract(make_gaussian, rock):
    contract = make_gaussian(n=32).contract
    return dataclasses.replace(
        contract,
        name="rock",
        channels=3,
        phases=(Phase("pore", 0), Phase("active", 128), Phase("binder", 255)),
        references=reference_descriptors(rock, ("pore", "active", "binder"), contract.image_size),
    )


def store_of(
    path: Path, contract: ModelContract, volume: np.ndarray, condition: Condition = UNCONDITIONAL
) -> VolumeStore:
    plan = PLANS["fast"]
    store = VolumeStore.create(path, contract, plan, seed=0, count=4, grey=False, conditions=[condition])
    for index, crop in enumerate(random_crops(volume, 32, 3)):
        store.write(index, crop, evaluations=60)
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


def test_of_several_conditions_each_is_compared_alone(tmp_path, rod_contract, rod):
    one, other, unmade = (Condition(guidance=strength) for strength in (1.0, 2.0, 3.0))
    store = VolumeStore.create(
        tmp_path / "a.zarr", rod_contract, PLANS["fast"], 0, 6, grey=False, conditions=[one, other, unmade]
    )
    for index, crop in zip((0, 1, 3), random_crops(rod, 32, 3), strict=True):
        store.write(index, crop, evaluations=60)
    assert store.by_condition() == {one: [0, 1], other: [3]}
    assert evaluate(store, condition=other).volumes == 1
    assert evaluate(store).volumes == 2
    with pytest.raises(DataError, match="no complete volume"):
        evaluate(store, condition=unmade)


def test_a_store_is_compared_phase_by_phase(store, rod):
    evaluation = evaluate(store)
    assert evaluation.volumes == 3
    assert evaluation.evaluations == 60
    by_hand = Descriptors.mean([Descriptors.of(store.read(i) == 1, 16) for i in range(3)])
    sphere = evaluation.phases["sphere"]
    assert sphere.s2_error_percent == pytest.approx(error_rate(by_hand.s2, Descriptors.of(rod == 1, 16).s2))
    assert evaluation.phases["matrix"].fraction == pytest.approx(1 - sphere.fraction)
    assert evaluation.floor == {}


def test_three_phases_are_compared_each_with_its_own_reference(tmp_path, rock_contract, rock):
    phases = evaluate(store_of(tmp_path / "out.zarr", rock_contract, rock)).phases
    assert list(phases) == ["pore", "active", "binder"]
    crops = list(random_crops(rock, 32, 3))
    for label, (name, phase) in enumerate(phases.items()):
        by_hand = Descriptors.mean([Descriptors.of(crop == label, 16) for crop in crops])
        reference = Descriptors.of(rock == label, 16)
        assert phase.fraction == pytest.approx(np.mean([np.mean(crop == label) for crop in crops])), name
        assert phase.fraction_reference == pytest.approx(np.mean(rock == label))
        assert phase.specific_surface == pytest.approx(by_hand.specific_surface)
        assert phase.lineal_path_error_percent == pytest.approx(error_rate(by_hand.lineal_path, reference.lineal_path))
    assert sum(phase.fraction for phase in phases.values()) == pytest.approx(1)


def test_an_anisotropic_material_is_compared_along_each_axis_too(tmp_path, rock_contract, rock):
    along = {name: {"active": Descriptors.of(rock == 1, 16, [axis])} for axis, name in enumerate(("z", "y", "x"))}
    store = store_of(tmp_path / "out.zarr", dataclasses.replace(rock_contract, references_along=along), rock)
    evaluation = evaluate(store)
    assert {axis: list(phases) for axis, phases in evaluation.along.items()} == {axis: ["active"] for axis in "zyx"}
    for axis, name in enumerate(("z", "y", "x")):
        by_hand = Descriptors.mean([Descriptors.of(crop == 1, 16, [axis]) for crop in random_crops(rock, 32, 3)])
        expected = error_rate(by_hand.lineal_path, along[name]["active"].lineal_path)
        assert evaluation.along[name]["active"].lineal_path_error_percent == pytest.approx(expected)
    assert evaluation.phases == evaluate(store_of(tmp_path / "mean.zarr", rock_contract, rock)).phases
    assert set(evaluate(store, reference=rock[:40]).along) == {"z", "y", "x"}
    assert evaluate(store, reference=rock[7]).along == {}


def test_volumes_that_were_told_a_fraction_are_held_to_it(tmp_path, rod_contract, rod):
    """The store's volumes are the rod's; told its own fraction they fit, told that of a denser material they do not."""
    dense = reference_descriptors(spheres((64, 40, 40), fraction=0.36, seed=2), ("matrix", "sphere"), (32, 32))
    own = rod_contract.references
    contract = dataclasses.replace(rod_contract, fractions=((0.1, 0.6),), references_told=(own, dense))
    for told, of in ((own, 2), (dense, 20)):
        fraction = told["sphere"].fraction
        store = store_of(tmp_path / f"{of}.zarr", contract, rod, Condition(fractions=(fraction,)))
        phases = evaluate(store).phases
        assert phases["sphere"].fraction_reference == pytest.approx(fraction)
        assert phases["matrix"].fraction_reference == pytest.approx(1 - fraction)
        assert (phases["sphere"].s2_error_percent > 10) == (told is dense)


def test_only_phases_with_a_reference_are_compared(tmp_path, rock_contract, rock):
    references = {"binder": rock_contract.references["binder"]}
    store = store_of(tmp_path / "out.zarr", dataclasses.replace(rock_contract, references=references), rock)
    evaluation = evaluate(store, floor=rock)
    assert set(evaluation.phases) == set(evaluation.floor) == {"binder"}
    assert evaluation.floor["binder"].fraction == pytest.approx(0.1, abs=0.02)


def test_real_data_can_stand_in_for_the_training_reference(store, rod):
    other = rod[:60]
    phases = evaluate(store, reference=other).phases
    assert phases["sphere"].fraction_reference == pytest.approx(other.mean())
    assert phases["matrix"].fraction_reference == pytest.approx(1 - other.mean())


def test_real_data_of_three_phases_can_stand_in_too_also_one_image_of_it(tmp_path, rock_contract, rock):
    store = store_of(tmp_path / "out.zarr", dataclasses.replace(rock_contract, references={}), rock)
    assert evaluate(store).phases == {}
    for real in (rock[:40], rock[7]):
        phases = evaluate(store, reference=real).phases
        for label, name in enumerate(("pore", "active", "binder")):
            assert phases[name].fraction_reference == pytest.approx(np.mean(real == label))


def test_the_floor_compares_real_crops_with_the_same_reference(store, rod):
    floor = evaluate(store, floor=rod).floor["sphere"]
    assert floor.samples == 25
    crops = Descriptors.mean([Descriptors.of(crop == 1, 16) for crop in random_crops(rod, 32, 25)])
    assert floor.lineal_path_error_percent == pytest.approx(
        error_rate(crops.lineal_path, Descriptors.of(rod == 1, 16).lineal_path)
    )


@pytest.mark.parametrize(("real", "edge"), [((60, 60, 60), 48), ((40, 60, 60), 40)])
def test_the_floor_of_larger_volumes_is_of_crops_as_large_or_as_there_are(tmp_path, rock_contract, rock, real, edge):
    material = np.tile(rock, (2, 2, 2))[tuple(slice(n) for n in real)]
    plan = dataclasses.replace(PLANS["fast"], size=(64, 48, 64))
    store = VolumeStore.create(tmp_path / "out.zarr", rock_contract, plan, seed=0, count=1, grey=False)
    store.write(0, np.tile(rock, (2, 2, 2))[:64, :48, :64], evaluations=60)
    evaluation = evaluate(store, floor=material, metrics=["chords"])
    crops = list(random_crops(material, edge, 25))
    by_hand = Descriptors.mean([Descriptors.of(crop == 1, 16) for crop in crops])
    assert evaluation.floor["active"].specific_surface == pytest.approx(by_hand.specific_surface)
    chords = np.concatenate([chord_lengths(crop == 0, 0) for crop in crops])
    found = {one.of: one.floor for one in evaluation.metrics["chords"]}
    assert found["pore along z"] == pytest.approx(chords.mean())


def test_the_floor_of_an_image_is_of_squares_of_it(tmp_path, rock_contract, rock):
    floor = evaluate(store_of(tmp_path / "out.zarr", rock_contract, rock), floor=rock[7]).floor
    by_hand = np.mean([np.mean(crop == 1) for crop in random_crops(rock[7], 32, 25)])
    assert floor["active"].fraction == pytest.approx(by_hand)


def test_the_floor_of_three_phases_is_one_for_each(tmp_path, rock_contract, rock):
    floor = evaluate(store_of(tmp_path / "out.zarr", rock_contract, rock), floor=rock).floor
    crops = list(random_crops(rock, 32, 25))
    for label, name in enumerate(("pore", "active", "binder")):
        by_hand = Descriptors.mean([Descriptors.of(crop == label, 16) for crop in crops])
        assert floor[name].s2_error_percent == pytest.approx(error_rate(by_hand.s2, rock_contract.references[name].s2))


def test_real_data_without_a_phase_gives_no_error_to_measure_against(store, rod):
    with pytest.raises(DataError, match="the phase is absent from the reference"):
        evaluate(store, reference=np.zeros_like(rod))


def test_crops_lie_inside_and_differ(rod):
    crops = list(random_crops(rod, 32, 5))
    assert {crop.shape for crop in crops} == {(32, 32, 32)}
    assert len({crop.tobytes() for crop in crops}) == 5


def test_crops_come_from_every_place_and_are_the_voxels_there():
    volume = np.arange(4 * 3 * 5).reshape(4, 3, 5)
    crops = list(random_crops(volume, 3, 400))
    corners = [int(crop[0, 0, 0]) for crop in crops]
    assert set(corners) == {int(volume[z, 0, x]) for z in range(2) for x in range(3)}
    for crop in crops[:20]:
        z, _, x = np.unravel_index(crop[0, 0, 0], volume.shape)
        np.testing.assert_array_equal(crop, volume[z : z + 3, :, x : x + 3])


def test_real_data_smaller_than_the_crops_are_refused(rod):
    for real in (rod, rod[0]):
        with pytest.raises(DataError, match="needs at least 64 voxels in every direction"):
            next(random_crops(real, 64, 1))


@pytest.mark.parametrize("references", [True, False])
def test_a_store_without_a_complete_volume_is_refused(tmp_path, gaussian, references):
    contract = gaussian.contract if references else dataclasses.replace(gaussian.contract, references={})
    store = VolumeStore.create(tmp_path / "out.zarr", contract, PLANS["paper"], seed=0, count=1, grey=False)
    with pytest.raises(DataError, match=r"out\.zarr: there is no complete volume"):
        evaluate(store)


def test_nothing_is_not_compared():
    with pytest.raises(DataError, match="no samples"):
        compare([], descriptors(0.3, [0.3, 0.2]))


def test_grey_level_models_have_no_phases_to_compare(tmp_path, gaussian):
    contract = dataclasses.replace(gaussian.contract, phases=(), references={})
    store = VolumeStore.create(tmp_path / "out.zarr", contract, PLANS["paper"], seed=0, count=1, grey=True)
    with pytest.raises(UsageError, match="grey levels"):
        evaluate(store)


# Phase labels from a file


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).choice([0, 1, 2], (5, 6, 7)).astype(np.uint8)


@pytest.fixture
def labelled(tmp_path: Path, values: np.ndarray) -> Path:
    np.save(tmp_path / "real.npy", values)
    return tmp_path / "real.npy"


def test_values_count_the_contract_s_phases_unless_said_otherwise(labelled, values, rock_contract):
    labels = read_labels(labelled, rock_contract)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, values)


@pytest.mark.parametrize("phases", ["pore=2,active=0,binder=1", "binder=1,pore=2,active=0"])
def test_labels_are_in_the_order_of_the_contract_however_they_are_named(labelled, values, rock_contract, phases):
    labels = read_labels(labelled, rock_contract, phases)
    np.testing.assert_array_equal(labels, np.array([1, 2, 0])[values])


def test_several_values_are_one_phase(labelled, values, gaussian):
    labels = read_labels(labelled, gaussian.contract, "matrix=0+2,sphere=1")
    np.testing.assert_array_equal(labels, values == 1)


def test_a_raw_file_needs_its_shape(tmp_path, values, rock_contract):
    (tmp_path / "real.raw").write_bytes(values.tobytes())
    np.testing.assert_array_equal(read_labels(tmp_path / "real.raw", rock_contract, raw_shape=values.shape), values)
    with pytest.raises(UsageError, match="does not tell its shape"):
        read_labels(tmp_path / "real.raw", rock_contract)


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ("pore=0,active=1+2", "model rock has the phases pore, active, binder, not pore, active"),
        ("pore=0,active=1,carbon=2", "has the phases pore, active, binder, not pore, active, carbon"),
        ("pore=0,active=1,binder=2,other=3", "has the phases pore, active, binder, not pore, active, binder, other"),
        ("pore", "phases 'pore'"),
    ],
)
def test_other_phases_than_the_model_s_are_refused(labelled, rock_contract, phases, message):
    with pytest.raises(UsageError, match=message):
        read_labels(labelled, rock_contract, phases)


def test_values_that_are_not_the_phases_are_refused(labelled, rock_contract, gaussian):
    with pytest.raises(DataError, match=r"real\.npy: value 2 belongs to no phase; its values are 0, 1, 2"):
        read_labels(labelled, gaussian.contract)
    with pytest.raises(DataError, match=r"real\.npy: nothing of phase 'binder'"):
        read_labels(labelled, rock_contract, "pore=0+1,active=2,binder=7")


def test_a_model_of_grey_levels_has_no_labels_to_read(labelled, gaussian):
    contract = dataclasses.replace(gaussian.contract, phases=(), references={})
    for phases in (None, "matrix=0+2,sphere=1"):
        with pytest.raises(UsageError, match="gives grey levels: S2 and LP need phases"):
            read_labels(labelled, contract, phases)


def test_metrics_stand_beside_those_of_real_crops(store, rod):
    other = spheres((48, 48, 48), seed=7)
    names = ["radial", "axes", "chords", "chord-distribution", "percolation", "euler", "diversity", "memorization"]
    evaluation = evaluate(store, floor=other, reference=rod, metrics=names, tools=Tools((rod,)))
    assert list(evaluation.metrics) == names
    found = {(name, one.of): one for name, of in evaluation.metrics.items() for one in of}
    # The store's volumes are cut from the rod, which stands for the training data here.
    assert found["memorization", ""].value == pytest.approx(0, abs=1e-5)
    assert found["memorization", ""].floor > 0.1
    assert found["percolation", "matrix along z"].value == found["percolation", "matrix along z"].floor == 1
    chords = found["chords", "sphere along y"]
    assert chords.value == pytest.approx(chords.floor, rel=0.2)
    assert chords.interval[0] <= chords.value <= chords.interval[1]
    assert found["diversity", ""].samples == 3
    assert found["radial", "sphere"].value == pytest.approx(evaluation.phases["sphere"].s2_error_percent, abs=15)


def test_what_a_metric_lacks_is_refused_or_told(store):
    with pytest.raises(UsageError, match=r"metric memorization: .*--training"):
        evaluate(store, metrics=["memorization"])
    evaluation = evaluate(store, metrics=METRICS, lenient=True)
    assert set(evaluation.unmeasured) == {
        "chord-distribution",
        "memorization",
        "pixels",
        "three-point",
        "gram",
        "fid",
    }
    assert set(evaluation.metrics) == set(METRICS) - set(evaluation.unmeasured)


def test_an_image_as_the_floor_has_no_metrics_of_volumes(store, rod):
    found = evaluate(store, floor=rod[:, :, 20], metrics=["percolation", "chords"]).metrics
    assert {one.floor for one in found["percolation"]} == {None}
    assert {one.of[-1] for one in found["chords"] if one.floor is not None} == {"y", "x"}


def test_metrics_are_named_as_in_the_table():
    assert parse_metrics("euler,chords") == ("chords", "euler")
    assert parse_metrics("all") == tuple(METRICS)
    assert set(parse_metrics(None)) < set(METRICS)
    with pytest.raises(UsageError, match="there is no metric 'chord'; the metrics: radial, axes"):
        parse_metrics("chord")
