"""The command line as a user meets it: in a process of its own."""

import json
import re
import signal
import subprocess
import sys

import numpy as np
import onnx
import pytest
import zarr
from PIL import Image

from mdiff_core import CONTRACT_KEY
from mdiff_core.repository import bundled_repository, model_names
from mdiff_training.data.spheres import spheres

QUICK = ["--steps", "2"]


@pytest.fixture(scope="module")
def store(client, tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "rve.zarr"
    result = client("generate3d", out, "--seed", 5, "--count", 2, "--json", *QUICK)
    assert result.returncode == 0, result.stderr
    return out, json.loads(result.stdout)


def test_generate3d_leaves_volumes_and_reports_their_errors(store):
    out, report = store
    array = zarr.open_array(out / "0", mode="r")
    assert array.shape == (2, 64, 64, 64)
    assert sorted(set(array[:].ravel().tolist())) == [0, 1]
    assert report["model"] == "spheres64"
    assert report["volumes"] == 2
    assert report["evaluations"] == 4
    sphere = report["phases"]["sphere"]
    assert sphere["fraction"] == pytest.approx((array[:] == 1).mean())
    low, high = sphere["s2_error_interval_percent"]
    assert low <= high


def test_the_same_seed_gives_the_same_volumes(client, store, tmp_path):
    out, _ = store
    told = client("generate3d", tmp_path / "again.zarr", "--seed", 5, *QUICK).stdout
    location, look = tmp_path / "again.zarr", f"mdiff-client preview {tmp_path / 'again.zarr'} again.png"
    line = rf"{re.escape(f'{location}: 1 volume of 64×64×64 voxels in')} \S+ s; look at it with: {re.escape(look)}"
    assert re.fullmatch(line, told.splitlines()[-1])
    again = zarr.open_array(tmp_path / "again.zarr" / "0", mode="r")
    assert (again[0] == zarr.open_array(out / "0", mode="r")[0]).all()


def test_evaluate_prints_a_table_for_people(client, store):
    result = client("evaluate", store[0])
    assert result.returncode == 0, result.stderr
    assert "2 volumes of spheres64" in result.stdout
    tables = [block for block in result.stdout.split("\n\n") if block.startswith("| ")]
    rows = [[line.split("|")[1].strip() for line in table.splitlines()[2:]] for table in tables]
    assert rows[0] == ["sphere", "matrix"]
    assert {"mean chord, voxels", "radial S2 error %"} < set(rows[1])
    assert "plan: fast, with steps 2\n" in result.stdout
    assert [cell.strip() for cell in tables[1].splitlines()[0].split("|")[1:-1]] == ["metric", "of", "samples", "value"]


def test_evaluate_shows_real_crops_where_there_are_any(client, store, tmp_path):
    np.save(tmp_path / "real.npy", spheres((70, 70, 70), seed=1))
    result = client("evaluate", store[0], "--floor", tmp_path / "real.npy", "--metrics", "chords")
    assert "| value " in result.stdout
    assert "| real crops " in result.stdout


def test_evaluate_takes_real_material_as_reference_and_floor(client, store, tmp_path):
    real = tmp_path / "real.npy"
    np.save(real, spheres((100, 70, 70), seed=1))
    result = client("evaluate", store[0], "--against", real, "--floor", real, "--phases", "matrix=0,sphere=1", "--json")
    report = json.loads(result.stdout)
    assert report["floor"]["sphere"]["samples"] == 25
    assert report["floor"]["sphere"]["s2_error_percent"] < report["phases"]["sphere"]["s2_error_percent"]


def test_preview_draws_a_png(client, store, tmp_path):
    result = client("preview", store[0], tmp_path / "rve.png", "--volume", 1)
    assert (result.returncode, result.stdout) == (0, f"{tmp_path / 'rve.png'}\n"), result.stderr
    with Image.open(tmp_path / "rve.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300


@pytest.mark.parametrize("name", ["rve.jpg", "rve.svg", "rve"])
def test_preview_draws_nothing_but_png(client, store, assert_one_line, tmp_path, name):
    assert_one_line(client("preview", store[0], tmp_path / name), 2, "give it a name that ends in .png")
    assert list(tmp_path.iterdir()) == []


def test_preview_draws_grey_levels_too(client, tmp_path):
    client("generate3d", tmp_path / "grey.zarr", "--grey", "--steps", 1)
    result = client("preview", tmp_path / "grey.zarr", tmp_path / "grey.png")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "grey.png").is_file()


def test_info_prints_the_contracts_of_the_bundled_models(client):
    assert set(json.loads(client("info", "--json").stdout)) == set(model_names(bundled_repository()))
    text = client("info", "--model", "nmc64").stdout
    assert "BSD-3-Clause" in text
    assert "T = 1000" in text


def test_info_tells_what_may_be_asked_for(client, told_repository):
    lines = [line.split(maxsplit=1) for line in client("info", "--repository", told_repository).stdout.splitlines()]
    assert ["classes", "fine, coarse"] in lines
    assert ["fractions", "sphere 0.2-0.6"] in lines
    assert ["guidance", "can be guided"] in lines


def test_info_asks_a_server(client, triton):
    report = json.loads(client("info", "--url", triton.grpc_address, "--json").stdout)
    assert report == json.loads(client("info", "--json").stdout)


def test_generate3d_against_a_server(client, triton, store, tmp_path):
    """Two onnxruntimes of perhaps different versions may round sums differently, and voxels at the threshold follow.

    With the default plan not one of 262144 labels differed, of spheres64 nor of nmc64.
    """
    out = tmp_path / "served.zarr"
    result = client("generate3d", out, "--url", triton.grpc_address, "--seed", 5, "--in-flight", 2, *QUICK)
    assert result.returncode == 0, result.stderr
    served, embedded = (zarr.open_array(path / "0", mode="r")[0] for path in (out, store[0]))
    assert (served != embedded).mean() < 1e-4


def test_a_dry_run_tells_the_cost_and_makes_nothing(client, tmp_path):
    result = client("generate3d", tmp_path / "out.zarr", "--plan", "paper", "--count", 3, "--dry-run", "--json")
    cost = json.loads(result.stdout)
    assert cost["evaluations_per_volume"] == 10_000
    assert cost["bytes_before_compression"] == 3 * 64**3
    assert (cost["volume_size"], cost["periodic"]) == ("64x64x64", "none")
    assert cost["images_per_volume"] == 10_000 * 64
    assert list(tmp_path.iterdir()) == []


def test_a_plan_may_be_changed(client, tmp_path):
    changes = ["--steps", 7, "--harmonize", 2, "--eta", 1, "--thick-slices", 1.5]
    cost = json.loads(client("generate3d", tmp_path / "out.zarr", *changes, "--dry-run", "--json").stdout)
    assert {"steps 7", "harmonize 2", "eta 1.0", "thick_slices 1.5"} <= set(cost["plan"].split(", "))


def test_there_is_no_progress_bar_without_a_terminal(client, tmp_path):
    assert client("generate3d", tmp_path / "out.zarr", "--steps", 1).stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--plan", "magic"], 2, "plan 'magic' is unknown"),
        (["--steps", "0"], 2, "at least one"),
        (["--model", "granite"], 2, "it has carbonate64, grains64, nmc64"),
        (["--repository", "nowhere"], 3, "no such model repository"),
        (["--plan", "paper", "--eta", "0"], 2, "eta belongs to the sampler ddim"),
        (["--repository", "nowhere", "--url", "localhost:1"], 2, "not both"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(client, assert_one_line, tmp_path, arguments, code, complaint):
    assert_one_line(client("generate3d", tmp_path / "out.zarr", *arguments), code, complaint)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_left_alone(client, assert_one_line, tmp_path):
    (tmp_path / "out.zarr").write_text("precious")
    assert_one_line(client("generate3d", tmp_path / "out.zarr"), 2, "exists: choose another name")
    assert (tmp_path / "out.zarr").read_text() == "precious"


def test_an_unwritable_output_is_told_before_sampling(client, assert_one_line, tmp_path):
    (tmp_path / "file").write_text("")
    assert_one_line(client("generate3d", tmp_path / "file" / "out.zarr", "--plan", "paper"), 3, "cannot be written")


def test_a_dead_server_leaves_nothing(client, assert_one_line, tmp_path, free_port):
    result = client("generate3d", tmp_path / "out.zarr", "--url", f"127.0.0.1:{free_port()}")
    assert_one_line(result, 5, "no server answers")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_model_name_on_a_server_leaves_nothing(client, assert_one_line, tmp_path, tiny_triton):
    result = client("generate3d", tmp_path / "out.zarr", "--url", tiny_triton.grpc_address, "--model", "granite")
    assert_one_line(result, 6, "has no model 'granite'")
    assert list(tmp_path.iterdir()) == []


def test_a_frozen_server_leaves_nothing(client, assert_one_line, tmp_path, tiny_repository, start_triton):
    server = start_triton(tiny_repository)
    server.process.send_signal(signal.SIGSTOP)
    result = client(
        "generate3d", tmp_path / "out.zarr", "--url", server.grpc_address, "--model", "tiny", "--timeout", 1
    )
    assert_one_line(result, 5, "did not answer within 1 s")
    assert not (tmp_path / "out.zarr").exists()


def test_a_truncated_onnx_file_is_one_line(client, assert_one_line, tmp_path, tiny_repository):
    path = tiny_repository / "tiny" / "1" / "model.onnx"
    path.write_bytes(path.read_bytes()[:200])
    result = client("generate3d", tmp_path / "out.zarr", "--repository", tiny_repository, "--model", "tiny")
    assert_one_line(result, 3, "not a readable ONNX model")


def test_a_contract_of_an_unknown_version_is_one_line(client, assert_one_line, tmp_path, tiny_repository):
    path = tiny_repository / "tiny" / "1" / "model.onnx"
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {CONTRACT_KEY: '{"version": 99}'})
    onnx.save(model, path)
    result = client("generate3d", tmp_path / "out.zarr", "--repository", tiny_repository, "--model", "tiny")
    assert_one_line(result, 4, "version 99 is unknown")


@pytest.mark.parametrize("command", ["evaluate", "report", "compare"])
def test_the_phases_of_labelled_files_need_files(client, assert_one_line, store, tmp_path, command):
    out = ["-o", tmp_path / "report.html"] if command == "report" else []
    complaint = "--phases and --raw-shape are about labelled files: give some with "
    for option in (["--phases", "matrix=0,sphere=1"], ["--raw-shape", "64x64x64"]):
        assert_one_line(client(command, store[0], *out, *option), 2, complaint)


def test_help_loads_nothing_heavy():
    code = "import sys, mdiff_client.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "onnxruntime", "tritonclient", "grpc", "zarr", "PIL", "rich", "tifffile"} & set(loaded)
