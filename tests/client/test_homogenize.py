"""The command ``homogenize``, what it keeps in the store, and whether the volumes are large enough."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mdiff_client.properties import Convergence, Diffusivity, converge, homogenize, unfinished, values
from mdiff_client.properties.convergence import Size, edges, parts
from mdiff_client.sampling import PLANS
from mdiff_client.store import VolumeStore

SPHERE = Diffusivity("sphere", 1)
EDGE = 20


def layers():
    """Half of it ``sphere``, along z and y."""
    return (np.indices((EDGE,) * 3)[2] < EDGE // 2).astype(np.uint8)


@pytest.fixture
def make_store(tmp_path, make_gaussian):
    def make(volumes):
        store = VolumeStore.create(
            tmp_path / "made.zarr",
            make_gaussian(n=EDGE).contract,
            PLANS["fast"],
            seed=0,
            count=len(volumes),
            grey=False,
        )
        for index, labels in enumerate(volumes):
            store.write(index, labels)
        return store

    return make


def test_a_document_is_flat_and_names_the_volume_that_was_measured(make_store):
    store = make_store([layers()])
    homogenize(store, unfinished(store, [SPHERE]))
    document = store.document("properties", 0)
    assert document["properties_of"] == store.record(0)["sha256"]
    found = {key: document[key] for key in SPHERE.keys}
    assert found == {
        "effective_diffusivity_sphere_z": pytest.approx(0.5, abs=1e-5),
        "effective_diffusivity_sphere_y": pytest.approx(0.5, abs=1e-5),
        "effective_diffusivity_sphere_x": 0,
        "tortuosity_factor_sphere_z": pytest.approx(1, abs=1e-5),
        "tortuosity_factor_sphere_y": pytest.approx(1, abs=1e-5),
        "tortuosity_factor_sphere_x": None,
    }


def test_what_was_measured_is_not_measured_again_and_another_phase_is_added(make_store):
    store = make_store([layers(), 1 - layers()])
    homogenize(store, unfinished(store, [SPHERE])[:1])  # and killed
    assert unfinished(store, [SPHERE]) == [(1, SPHERE)]
    matrix = Diffusivity("matrix", 0)
    homogenize(store, unfinished(store, [SPHERE, matrix]))
    assert unfinished(store, [SPHERE, matrix]) == []
    assert {*SPHERE.keys, *matrix.keys, "properties_of"} == set(store.document("properties", 0))


def test_other_constants_of_the_phases_replace_what_was_found_with_the_former(make_store):
    from mdiff_client.properties import Conductivity

    store = make_store([layers()])
    former, other = (Conductivity(("matrix", "sphere"), constants) for constants in ((1.0, 3.0), (1.0, 5.0)))
    for measure in (SPHERE, former, other):
        homogenize(store, unfinished(store, [measure]))
    assert unfinished(store, [SPHERE, other]) == []
    assert unfinished(store, [former]) == [(0, former)]
    document = store.document("properties", 0)
    assert document["conductivity_of_sphere"] == 5
    assert document["effective_conductivity_z"] == pytest.approx(3, rel=1e-4)


def test_a_volume_made_anew_is_measured_anew(make_store):
    store = make_store([layers()])
    homogenize(store, unfinished(store, [SPHERE]))
    store.write(0, np.ones((EDGE,) * 3, np.uint8))
    assert unfinished(store, [SPHERE]) == [(0, SPHERE)]
    homogenize(store, unfinished(store, [SPHERE]))
    assert values(store, [SPHERE])["effective_diffusivity_sphere_x"] == [pytest.approx(1, abs=1e-5)]


def test_parts_are_cubes_that_do_not_overlap_and_at_most_27():
    labels = np.arange(36 * 32 * 20).reshape(36, 32, 20)
    found = list(parts(labels, 16, 0))
    assert [part.shape for part in found] == [(16, 16, 16)] * 4
    assert len(np.unique(found)) == 4 * 16**3
    assert len(list(parts(labels, 4, 0))) == 27
    assert edges((64, 128, 80)) == [16, 24, 32, 48]


class Fraction:
    """A measure in closed form."""

    title, asked, keys, headline = "fraction", {}, ("fraction",), ("fraction",)

    def __call__(self, labels, periodic):
        return {"fraction": float(labels.mean())}


def test_the_parts_of_all_volumes_are_measured_and_the_whole_ones_taken_as_they_were(make_store):
    store = make_store([layers(), np.ones((EDGE,) * 3, np.uint8)])
    found = converge(store, Fraction(), {"fraction": [0.5, 1.0]}, 5.0)
    assert [size.edge for size in found.sizes] == [16, EDGE]
    assert found.sizes[0].values["fraction"].tolist() == [10 / 16, 1.0]
    assert found.sizes[1].values["fraction"].tolist() == [0.5, 1.0]


def of_sizes(**values):
    sizes = tuple(Size(int(edge[1:]), {"fraction": np.array(of, float)}) for edge, of in values.items())
    return Convergence(Fraction(), sizes, 10.0)


def test_a_size_is_representative_from_which_on_scatter_and_bias_keep_to_the_tolerance():
    close, wide, low = [0.98, 1.02], [0.8, 1.2], [0.78, 0.82]
    assert of_sizes(_16=wide, _32=close, _64=close).representative_edge() == 32
    assert of_sizes(_16=close, _32=wide, _64=close).representative_edge() == 64
    assert of_sizes(_16=low, _32=close, _64=close).representative_edge() == 32
    assert of_sizes(_16=close, _32=close, _64=wide).representative_edge() is None
    assert of_sizes(_16=[0, 0], _64=[0, 0]).representative_edge() is None


def test_the_volumes_needed_are_those_whose_mean_is_within_the_tolerance_with_two_standard_errors():
    """Kanit et al.: n = (2 σ / (ε mean))²."""
    assert of_sizes(_64=[0.8, 1.2]).volumes_needed("fraction") == np.ceil((2 * np.sqrt(0.08) / 0.1) ** 2)
    assert of_sizes(_64=[1.0, 1.0]).volumes_needed("fraction") == 1
    assert of_sizes(_64=[0.0, 0.0]).volumes_needed("fraction") is None


def test_the_command_prints_json_draws_a_picture_and_keeps_what_it_found(make_store, client, tmp_path):
    pytest.importorskip("muSpectre")
    store = make_store([layers(), layers()])
    out = tmp_path / "rve.png"
    asked = ["homogenize", store.location, "--conductivity", "matrix=1,sphere=3", "--elastic", "matrix=1,0.3"]
    asked += ["--elastic", "sphere=10,0.2", "--phase", "sphere", "--json", "--convergence", out]
    result = client(*asked)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["volumes"] == 2
    assert told["properties"]["tortuosity_factor_sphere_x"]["values"] == [None, None]
    assert told["properties"]["effective_conductivity_z"]["mean"] == pytest.approx(2, rel=1e-4)
    assert [size["edge_voxels"] for size in told["convergence"][0]["sizes"]] == [16, EDGE]
    assert len(told["convergence"]) == 3
    assert out.read_bytes().startswith(b"\x89PNG")
    again = client("homogenize", store.location, "--dry-run")
    assert again.stdout == "2 volumes, 0 measurements to make\n"
    table = client("homogenize", store.location).stdout
    assert "| effective_diffusivity_sphere_z | 2 " in table


def test_a_command_that_is_killed_goes_on_where_it_was(make_store):
    noise = np.random.default_rng(0)
    store = make_store([noise.integers(0, 2, (EDGE,) * 3).astype(np.uint8) for _ in range(40)])
    command = [sys.executable, "-m", "mdiff_client", "homogenize", store.location, "--phase", "matrix"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not store.documents("properties") and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    matrix = Diffusivity("matrix", 0)
    kept = {index: store.document("properties", index) for index in store.documents("properties")}
    assert kept
    assert len(unfinished(store, [matrix])) == 40 - len(kept), "every document is whole"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--phase", "glass"], "no phase 'glass'"),
        (["--conductivity", "matrix"], "say PHASE=VALUE"),
        (["--elastic", "matrix=1,0.3"], "elastic constants of sphere are missing"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(options, complaint, make_store, client, assert_one_line):
    assert_one_line(client("homogenize", make_store([layers()]).location, *options), 2, complaint)


def test_a_picture_that_exists_is_not_overwritten(make_store, client, assert_one_line, tmp_path):
    out = tmp_path / "rve.png"
    out.touch()
    result = client("homogenize", make_store([layers()]).location, "--convergence", out)
    assert_one_line(result, 2, "exists")


def test_a_store_without_volumes_is_refused(make_store, client, assert_one_line):
    assert_one_line(client("homogenize", make_store([]).location), 3, "no complete volume")
