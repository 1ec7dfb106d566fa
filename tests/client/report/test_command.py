"""``mdiff-client report`` as a user meets it."""

import json

import numpy as np
import pytest

ROOM = (slice(16),) * 3


@pytest.fixture(scope="module")
def location(make_store, material):
    return make_store([material[ROOM], material[32:48, 32:48, 32:48]]).location


@pytest.fixture(scope="module")
def real(material, tmp_path_factory):
    """The material with other values for its phases."""
    path = tmp_path_factory.mktemp("real") / "real.npy"
    np.save(path, np.where(material == 1, 9, 4).astype(np.uint8))
    return path


def test_a_page_and_its_verdict(client, location, real, tmp_path):
    out = tmp_path / "report.html"
    options = ["--reference", real, "--phases", "matrix=4,ball=9", "-o", out, "--json"]
    ran = client("report", location, *options)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["report"] == str(out)
    assert told["bytes"] == out.stat().st_size
    text = out.read_text(encoding="utf-8")
    assert told["verdict"] in text
    assert "real.npy" in text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_without_real_material(client, location, tmp_path):
    ran = client("report", location, "-o", tmp_path / "report.html", "--metrics", "chords")
    assert ran.returncode == 0, ran.stderr
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No real material was given" in text
    assert "mean chord, voxels" in text


def test_training_images_of_a_stack_are_independent_where_it_is_said(client, location, real, tmp_path):
    asked = ["--metrics", "memorization", "--training", real, "--phases", "matrix=4,ball=9"]
    values = []
    for name, options in (("stack", ["--independent"]), ("volume", [])):
        ran = client("report", location, "-o", tmp_path / f"{name}.html", *asked, *options)
        assert ran.returncode == 0, ran.stderr
        measured = json.loads(client("evaluate", location, *asked, *options, "--json").stdout)["metrics"]
        values.append(f"{measured['memorization'][0]['value']:.3g}")
        assert f'<td class="number">{values[-1]}' in (tmp_path / f"{name}.html").read_text(encoding="utf-8")
    assert values[0] != values[1]


def test_all_metrics_say_what_is_missing(client, location, tmp_path):
    ran = client("report", location, "-o", tmp_path / "report.html", "--metrics", "all")
    assert ran.returncode == 0, ran.stderr
    assert "memorization was not measured" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "code", "complaint"),
    [
        (["--phases", "matrix=0,ball=1"], 2, "give some with --reference"),
        (["--metrics", "beauty"], 2, "no metric 'beauty'"),
        (["--reference", "absent.npy"], 3, "no such file"),
        (["--reference", "REAL"], 3, "real.npy"),
        (["--reference", "REAL", "--phases", "a=4,b=9"], 2, "has the phases matrix, ball"),
    ],
)
def test_errors_are_one_line(client, assert_one_line, location, real, tmp_path, options, code, complaint):
    given = [str(real) if one == "REAL" else one for one in options]
    assert_one_line(client("report", location, "-o", tmp_path / "report.html", *given), code, complaint)
    assert not any(tmp_path.iterdir())


def test_a_page_that_exists_is_kept(client, assert_one_line, location, tmp_path):
    out = tmp_path / "report.html"
    out.write_text("mine")
    assert_one_line(client("report", location, "-o", out), 2, "exists")
    assert out.read_text() == "mine"


def test_no_store(client, assert_one_line, tmp_path):
    assert_one_line(client("report", tmp_path / "absent.zarr", "-o", tmp_path / "report.html"), 3, "no such store")
