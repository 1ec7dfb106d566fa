"""Images from the command line, and both engines under every condition there is."""

import json

import numpy as np
import pytest

from mdiff_client.denoisers.connection import Connection
from mdiff_client.denoisers.embedded import EmbeddedDenoiser
from mdiff_client.denoisers.triton import TritonDenoiser
from mdiff_client.sampling import IMAGES, Condition, changed, named_plan, sample, sample_images

ASKED = ["--class", "coarse", "--fraction", "0.3", "--guidance", "2"]


@pytest.fixture(scope="module")
def made(client, tmp_path_factory):
    out = tmp_path_factory.mktemp("images") / "spheres.npy"
    result = client("generate2d", out, "--seed", 5, "--count", 3, "--steps", 4, "--json")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return np.load(out), json.loads(result.stdout)


def test_generate2d_leaves_images_and_reports_their_errors(made):
    images, report = made
    assert images.shape == (3, 64, 64)
    assert sorted(set(images.ravel().tolist())) == [0, 1]
    assert (report["model"], report["images"], report["evaluations"]) == ("spheres64", 3, 4)
    assert report["condition"] == {"label": None, "fractions": [], "guidance": 1.0}
    sphere = report["phases"]["sphere"]
    assert sphere["fraction"] == pytest.approx((images == 1).mean())
    low, high = sphere["s2_error_interval_percent"]
    assert low <= high


def test_the_same_seed_gives_the_same_images_and_a_table(client, made, tmp_path):
    result = client("generate2d", tmp_path / "again.npy", "--seed", 5, "--count", 2, "--steps", 4)
    assert (np.load(tmp_path / "again.npy") == made[0][:2]).all()
    assert "2 images of spheres64, 4 evaluations" in result.stdout
    assert [line.split("|")[1].strip() for line in result.stdout.splitlines() if line.startswith("| ")][2:] == [
        "sphere",
        "matrix",
    ]


@pytest.mark.parametrize(
    ("arguments", "evaluations", "images"),
    [(["generate2d", "--count", 70, "--steps", 10], 20, 128), (["generate3d", "--plan", "paper"], 1000, 32)],
)
def test_guidance_doubles_the_images_of_an_evaluation(
    client, tmp_path, told_repository, arguments, evaluations, images
):
    command, *options = arguments
    place = ["--repository", told_repository, "--model", "told"]
    result = client(command, tmp_path / "out.zarr", *place, *options, *ASKED, "--dry-run", "--json")
    cost = json.loads(result.stdout)
    assert cost["condition"] == "class coarse, sphere 0.3, guidance 2"
    assert cost.get("evaluations", cost.get("evaluations_per_volume")) == evaluations
    assert cost["images_per_evaluation"] == images
    assert list(tmp_path.iterdir()) == []


def test_volumes_are_asked_for_as_images_are(client, tmp_path, told_repository):
    out = tmp_path / "out.zarr"
    result = client("generate3d", out, "--repository", told_repository, "--model", "told", "--steps", 2, *ASKED)
    assert result.returncode == 0, result.stderr
    assert "asked for: class coarse, sphere 0.3, guidance 2" in result.stdout
    report = json.loads(client("evaluate", out, "--json").stdout)
    assert report["condition"] == {"label": 1, "fractions": [0.3], "guidance": 2.0}


@pytest.mark.parametrize("command", ["generate2d", "generate3d"])
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--class", "grey"], "it has fine, coarse"),
        (["--fraction", "0.9"], "from 0.2 to 0.6"),
        (["--guidance", "2"], "guidance needs something"),
    ],
)
def test_what_the_model_cannot_give_is_one_line_and_leaves_nothing(
    client, assert_one_line, tmp_path, told_repository, command, arguments, complaint
):
    place = ["--repository", told_repository, "--model", "told"]
    assert_one_line(client(command, tmp_path / "out.zarr", *place, *arguments), 2, complaint)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "arguments", "code", "complaint"),
    [
        ("out.png", ["--count", 2], 2, "is one image, not 2"),
        ("out.npy", ["--steps", 1001], 2, "ask for 1 to 1000"),
        ("out.npy", ["--sampler", "ddpm", "--eta", "0"], 2, "eta belongs to the sampler ddim"),
        ("out.npy", ["--url", "127.0.0.1:1"], 5, "no server answers"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(
    client, assert_one_line, tmp_path, name, arguments, code, complaint
):
    assert_one_line(client("generate2d", tmp_path / name, *arguments), code, complaint)
    assert list(tmp_path.iterdir()) == []


def test_both_engines_give_the_same_images_and_volumes_under_every_condition(told_repository, start_triton):
    """Two onnxruntimes of perhaps different versions may round sums differently in the last bits."""
    server = start_triton(told_repository)
    asked = Condition(label=1, fractions=(0.3,), guidance=2.0)
    embedded = EmbeddedDenoiser(told_repository, "told")
    with TritonDenoiser(Connection(server.grpc_address), "told") as served:
        for plan in (changed(IMAGES, steps=10), changed(IMAGES, sampler="ddpm", steps=10)):
            one, other = (sample_images(engine, plan, 3, count=40, condition=asked) for engine in (embedded, served))
            assert np.abs(one - other).max() < 2e-3
            assert np.abs(one - sample_images(embedded, plan, 3, count=40)).max() > 0.1
        plan = named_plan("fast", steps=2)
        one, other = (sample(engine, plan, 3, condition=asked) for engine in (embedded, served))
        assert np.abs(one - other).max() < 2e-3
