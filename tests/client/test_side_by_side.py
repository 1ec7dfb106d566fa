"""Stores and outside volumes beside one material."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mdiff_client.cli import app
from mdiff_client.evaluation import evaluate, random_crops
from mdiff_client.sampling import PLANS, Condition
from mdiff_client.side_by_side import Material, side_by_side, sources_of
from mdiff_client.store import VolumeStore
from mdiff_core import UsageError, reference_descriptors
from mdiff_training.data.spheres import spheres

NAMES = ("matrix", "sphere")


@pytest.fixture(scope="module")
def rod():
    return spheres((100, 48, 48), seed=1)


@pytest.fixture
def contract(make_gaussian, rod):
    references = reference_descriptors(rod, NAMES, (32, 32))
    return dataclasses.replace(make_gaussian(n=32).contract, references=references)


@pytest.fixture
def store(tmp_path, contract, rod):
    store = VolumeStore.create(tmp_path / "ours.zarr", contract, PLANS["fast"], seed=0, count=3, grey=False)
    for index, crop in enumerate(random_crops(rod, 32, 3)):
        store.write(index, crop, evaluations=60)
    return store


@pytest.fixture
def others(tmp_path):
    """The volumes of two other tools: the same process again, and noise of the same fraction."""
    noise = np.random.default_rng(0).random((32, 32, 32)) < 0.3
    np.save(tmp_path / "spheres.npy", 255.0 * spheres((32, 32, 32), seed=5))
    np.save(tmp_path / "noise.npy", 255.0 * noise)
    return [str(tmp_path / name) for name in ("spheres.npy", "noise.npy")]


PHASES = "matrix=0,sphere=255"


def test_a_store_is_measured_as_evaluate_does(store, contract):
    compared = side_by_side(sources_of([store.location], NAMES, None, None), Material.of_model(contract), ["chords"])
    alone = evaluate(store, metrics=["chords"])
    (entry,) = compared.sources.values()
    assert entry.phases == alone.phases
    assert entry.metrics == alone.metrics
    assert entry.volumes == 3


def test_outside_volumes_stand_beside_ours(store, contract, others):
    sources = sources_of([store.location, *others], NAMES, PHASES, None)
    compared = side_by_side(sources, Material.of_model(contract), ["radial"])
    errors = {name: entry.phases["sphere"].lineal_path_error_percent for name, entry in compared.sources.items()}
    assert list(errors) == ["ours.zarr", "spheres.npy", "noise.npy"]
    assert errors["spheres.npy"] < 60 < errors["noise.npy"]
    radial = {name: entry.metrics["radial"][1].value for name, entry in compared.sources.items()}
    assert max(radial["ours.zarr"], radial["spheres.npy"]) < radial["noise.npy"]


def test_a_store_of_several_conditions_is_several_sources(tmp_path, contract, rod):
    told = dataclasses.replace(
        contract, fractions=((0.1, 0.6),), references_told=(contract.references,) * 2, channels=contract.channels
    )
    conditions = [Condition(fractions=(fraction,)) for fraction in (0.2, 0.4)]
    store = VolumeStore.create(
        tmp_path / "told.zarr", told, PLANS["fast"], seed=0, count=2, grey=False, conditions=conditions
    )
    for index, crop in enumerate(random_crops(rod, 32, 2)):
        store.write(index, crop, evaluations=60)
    names = [source.name for source in sources_of([store.location], NAMES, None, None)]
    assert len(names) == 2
    assert all(name.startswith("told.zarr (") for name in names)


def test_a_real_volume_can_be_the_reference_with_no_model(others, rod):
    sources = sources_of(others, NAMES, PHASES, None)
    compared = side_by_side(sources, Material.of_file(rod, NAMES, 32, "rod"))
    assert compared.reference == "rod"
    reference = compared.sources["noise.npy"].phases["sphere"].fraction_reference
    assert reference == pytest.approx(rod.mean())


def test_two_of_one_name_and_other_phases_are_refused(store, others):
    with pytest.raises(UsageError, match=r"two of them are called noise\.npy"):
        sources_of([others[1], others[1]], NAMES, PHASES, None)
    with pytest.raises(UsageError, match="has the phases matrix, sphere, not pore, solid"):
        sources_of([store.location], ("pore", "solid"), None, None)


def run(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def test_the_command_prints_a_table_and_draws_the_curves(store, others, tmp_path):
    result = run(store.location, *others, "--phases", PHASES, "--plot", tmp_path / "curves.png")
    assert result.exit_code == 0, result.output
    assert "noise.npy: sphere" in result.output
    assert "| mean chord, voxels" in result.output
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.format == "PNG"


def test_the_command_prints_json(others, rod, tmp_path):
    np.save(tmp_path / "rod.npy", 255 * rod)
    arguments = ("--against", tmp_path / "rod.npy", "--phases", PHASES, "--metrics", "all", "--json")
    found = json.loads(run(*others, *arguments).stdout)
    assert set(found["sources"]) == {"spheres.npy", "noise.npy"}
    assert "--training" in found["unmeasured"]["memorization"]
    assert found["sources"]["noise.npy"]["metrics"]["euler"][0]["value"] < 0


def test_something_to_compare_with_is_needed(others):
    assert "--model, or --against with --phases" in str(run(*others).exception)
