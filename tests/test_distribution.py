"""What ``pip install .`` brings, without a checkout around it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ["mdiff_core", "mdiff_images", "mdiff_training", "mdiff_export", "mdiff_serving", "mdiff_client"]
MODELS = ["carbonate64", "grains64", "nmc64", "nmc64-aniso", "spheres64", "spheres64-fractions"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, unpacked as pip would lay it out."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site-packages")
    return folder / "site-packages"


@pytest.mark.parametrize(
    "path",
    [
        *(f"{room}/py.typed" for room in ROOMS),
        *(
            f"mdiff_serving/model_repository/{model}/{name}"
            for model in MODELS
            for name in ("1/model.onnx", "config.pbtxt", "README.md")
        ),
        "mdiff_serving/backends/model.py",
        "mdiff_training/presets/compact64.toml",
        *(f"mdiff_client/report_page/{name}" for name in ("page.html", "page.css", "page.js", "three/three.min.js")),
        "mdiff_client/report_page/three/LICENSE",
    ],
)
def test_the_wheel_brings(installed, path):
    assert (installed / path).is_file()


def test_nothing_else_comes_along(installed):
    assert sorted(entry.name for entry in installed.iterdir() if not entry.name.endswith(".dist-info")) == sorted(ROOMS)


def test_the_installed_client_finds_its_models(installed, tmp_path):
    code = """
from mdiff_core.repository import bundled_repository
from mdiff_client.cli import main
print(bundled_repository())
main()
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, "info", "--model", "nmc64"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.startswith(str(installed))
    assert "BSD-3-Clause" in ran.stdout


@pytest.mark.parametrize("model", MODELS)
def test_a_bundled_model_is_at_most_ten_megabytes(installed, model):
    folder = installed / "mdiff_serving" / "model_repository" / model
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 10_000_000
