"""Tiles against the material's RVE: the predicted error of a tile's phase fraction is the one that tiles show."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from typer.testing import CliRunner

from mdiff_training.cli import app
from mdiff_training.data.grains import grains
from mdiff_training.data.rve import PRECISION, relative_errors, rve_warning
from mdiff_training.data.spheres import spheres
from mdiff_training.data.volumes import micrographs_of_grey_levels, micrographs_of_phases

NAMES = ("matrix", "inclusion")
CARBONATE = Path(__file__).parents[3] / "shared" / "data" / "carbonate" / "carbonate_resized.npy"


def discs(edge: int, diameter: float, fraction: float, seed: int) -> np.ndarray:
    """A Boolean model of discs: their centres are a Poisson process."""
    rng = np.random.default_rng(seed)
    wide = edge + 2 * int(diameter)
    centres = rng.random((wide, wide)) < -np.log(1 - fraction) / (np.pi / 4 * diameter**2)
    inside = distance_transform_edt(~centres) <= diameter / 2
    return inside[int(diameter) :][:edge, int(diameter) :][:, :edge].astype(np.uint8)


def scatter(image: np.ndarray, edge: int) -> float:
    """2 standard deviations over the mean of the fraction of tiles side by side."""
    tiles = image.reshape(len(image) // edge, edge, -1, edge).mean(axis=(1, 3))
    return float(2 * tiles.std() / tiles.mean())


@pytest.mark.parametrize(("diameter", "fraction"), [(6, 0.2), (10, 0.5), (16, 0.1)])
@pytest.mark.parametrize("edge", [32, 64])
def test_the_error_is_the_scatter_of_tiles_in_a_large_image(diameter: float, fraction: float, edge: int):
    image = discs(1536, diameter, fraction, seed=0)
    errors = relative_errors(micrographs_of_phases([image], NAMES, tile=(edge, edge)), (edge, edge))
    # 576 tiles or more tell their scatter within 6 %.
    assert errors["inclusion"] == pytest.approx(scatter(image, edge), rel=0.12)
    # What one phase gains the other loses.
    assert errors["matrix"] == pytest.approx(errors["inclusion"] * image.mean() / (1 - image.mean()), rel=0.01)


def test_uncorrelated_pixels_are_binomial():
    image = (np.random.default_rng(0).random((512, 512)) < 0.3).astype(np.uint8)
    errors = relative_errors(micrographs_of_phases([image], NAMES, tile=(32, 32)), (32, 32))
    assert errors["inclusion"] == pytest.approx(2 * np.sqrt(0.3 * 0.7 / 32**2) / 0.3, rel=0.25)


@pytest.mark.parametrize("fractions", [(0.2, 0.8), (0.1, 0.3, 0.5)])
def test_of_materials_told_apart_the_middle_one_scatters_as_if_it_were_alone(fractions: tuple[float, ...]):
    """What the others hold is no scatter among its tiles."""
    images = [discs(1536, 6, fraction, seed) for seed, fraction in enumerate(fractions)]
    middle = images[len(images) // 2]
    errors = relative_errors(micrographs_of_phases(images, NAMES, tell_fractions=True, tile=(64, 64)), (64, 64))
    assert errors == relative_errors(micrographs_of_phases([middle], NAMES, tile=(64, 64)), (64, 64))
    # 576 tiles tell their scatter within 6 %.
    assert errors["inclusion"] == pytest.approx(scatter(middle, 64), rel=0.1)


def test_large_features_are_warned_about_with_the_tile_that_would_do():
    image = discs(1024, 30, 0.2, seed=1)
    tile = (64, 64)
    found = micrographs_of_phases([image], NAMES, tile=tile)
    warning = rve_warning(found, tile)
    assert warning is not None
    assert len(warning.splitlines()) == 1
    error = relative_errors(found, tile)["inclusion"]
    assert error > 2 * PRECISION
    assert warning == (
        "a tile of 64×64 is smaller than the material's RVE: its fraction of phase 'inclusion' varies by "
        f"±{error:.0%}; for ±50% take tiles of {np.ceil(64 * error / PRECISION):.0f} pixels or more, or coarser pixels"
    )
    enough = int(np.ceil(64 * error / PRECISION / 8)) * 8 + 16
    assert rve_warning(micrographs_of_phases([image], NAMES, tile=(enough, enough)), (enough, enough)) is None
    assert scatter(image[: 1024 // enough * enough, : 1024 // enough * enough], enough) < 1.2 * PRECISION


def test_the_papers_synthetic_cases_are_not_warned_about():
    rod = micrographs_of_phases([spheres(seed=0)], NAMES, tile=(64, 64))
    assert rve_warning(rod, (64, 64)) is None
    assert rve_warning(rod, (24, 24)) is not None
    boundaries = micrographs_of_phases([grains((64, 64, 64))], ("grain", "boundary"), tile=(64, 64))
    assert rve_warning(boundaries, (64, 64)) is None
    assert relative_errors(boundaries, (64, 64))["boundary"] < 0.2


def test_grey_levels_have_no_fraction_to_vary():
    image = np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8)
    assert rve_warning(micrographs_of_grey_levels([image], tile=(16, 16)), (16, 16)) is None


@pytest.mark.skipif(not CARBONATE.is_file(), reason="the carbonate (shared/data beside the repository) is not here")
def test_a_real_carbonate_scatters_as_predicted():
    image = np.load(CARBONATE)
    found = micrographs_of_phases([image], ("solid", "pore"), tile=(64, 64))
    assert relative_errors(found, (64, 64))["pore"] == pytest.approx(scatter(image.astype(float), 64), rel=0.2)
    assert "phase 'pore' varies by" in (rve_warning(found, (64, 64)) or "")


def test_fit_warns_once_before_it_trains(tmp_path: Path):
    np.save(tmp_path / "coarse.npy", discs(96, 24, 0.2, seed=3))
    small = ["model.base_channels=8", "model.multipliers=[1, 2]", "model.attention=[false, true]"]
    small += ["model.head_channels=8", "training.image_size=[16, 16]", "training.batch=2", "training.steps=1"]
    about = ["--name", "coarse", "--licence", "CC0-1.0", "--source", "discs", "--sample-every", "0"]
    about += ["--phases", "matrix=0,disc=1"]
    files = [str(tmp_path / "coarse.npy"), str(tmp_path / "coarse.safetensors")]
    result = CliRunner().invoke(app, ["fit", *files, *about, *(f"--set={key}" for key in small)])
    assert result.exit_code == 0, result.output
    assert result.stderr.count("warning: a tile of 16×16 is smaller than the material's RVE") == 1
