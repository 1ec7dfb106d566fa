"""Sets of images in files, sampled with a denoiser whose answer is known in closed form."""

import dataclasses
import json

import numpy as np
import pytest
import zarr
from PIL import Image

from mdiff_client.generate import generate_images
from mdiff_client.sampling import IMAGES, Condition, changed, sample_images
from mdiff_core import DataError, Phase, UnavailableError, UsageError

PLAN = changed(IMAGES, steps=3)


@pytest.fixture
def denoiser(make_gaussian):
    """One whose phases are drawn in greys of their own."""
    denoiser = make_gaussian(n=8, timesteps=40)
    phases = (Phase("matrix", 40), Phase("sphere", 200))
    curves = dataclasses.replace(denoiser.contract.references["sphere"], s2=(0.5, 0.4), lineal_path=(0.5, 0.4))
    denoiser.contract = dataclasses.replace(denoiser.contract, phases=phases, references={"sphere": curves})
    return denoiser


@pytest.fixture
def fields(make_gaussian):
    """What the sampler gives: 70 images, more than are sampled together."""
    denoiser = make_gaussian(n=8, timesteps=40)
    return np.concatenate([sample_images(denoiser, PLAN, 7, first, 35) for first in (0, 35)])[:, 0]


def generate(denoiser, out, count=70, grey=False, **options):
    return generate_images(denoiser, PLAN, out, seed=7, count=count, grey=grey, **options)


def test_npy_holds_labels(tmp_path, denoiser, fields):
    generate(denoiser, tmp_path / "out.npy")
    array = np.load(tmp_path / "out.npy")
    assert array.dtype == np.uint8
    assert np.array_equal(array, fields > 0)
    assert denoiser.batches == [64] * 3 + [6] * 3


def test_npy_holds_grey_levels(tmp_path, denoiser, fields):
    generate(denoiser, tmp_path / "out.npy", grey=True)
    array = np.load(tmp_path / "out.npy")
    assert array.dtype == np.float32
    assert np.array_equal(array, fields)


def test_a_folder_holds_a_picture_of_each_image(tmp_path, denoiser, fields):
    generate(denoiser, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert (names[0], names[-1], len(names)) == ("000000.png", "000069.png", 70)
    for number in (0, 69):
        with Image.open(tmp_path / "out" / names[number]) as picture:
            assert picture.mode == "L"
            assert np.array_equal(np.asarray(picture), np.where(fields[number] > 0, 200, 40))


def test_one_picture_of_grey_levels_goes_from_black_to_white(tmp_path, denoiser, fields):
    generate(denoiser, tmp_path / "out.png", count=1, grey=True)
    with Image.open(tmp_path / "out.png") as picture:
        assert np.abs(np.asarray(picture) - (fields[0] + 1) / 2 * 255).max() <= 0.5 + 1e-4


def test_zarr_holds_images_with_their_provenance(tmp_path, denoiser, fields):
    denoiser.contract = dataclasses.replace(
        denoiser.contract, classes=("fine",), null_class=1, voxel_size=0.4, voxel_unit="micrometer"
    )
    generate(denoiser, tmp_path / "out.zarr", condition=Condition(label=0, guidance=2.0))
    group = zarr.open_group(tmp_path / "out.zarr", mode="r")
    array = group["0"]
    assert np.array_equal(array[:], fields > 0)
    mdiff, ome = group.attrs["mdiff"], group.attrs["ome"]["multiscales"][0]
    assert mdiff["contract"] == json.loads(denoiser.contract.to_json())
    assert mdiff["plan"] == json.loads(json.dumps(dataclasses.asdict(PLAN)))
    assert mdiff["conditions"] == [{"label": 0, "fractions": [], "guidance": 2.0}]
    assert mdiff["seed"] == 7
    assert [axis["name"] for axis in ome["axes"]] == ["image", "y", "x"] == list(array.metadata.dimension_names)
    assert ome["datasets"][0]["coordinateTransformations"][0]["scale"] == [1.0, 0.4, 0.4]


def test_many_phases_are_the_most_probable_of_each_pixel(tmp_path, denoiser):
    phases = (Phase("pore", 0), Phase("active", 90), Phase("binder", 255))
    denoiser.contract = dataclasses.replace(denoiser.contract, phases=phases, channels=3, references={})
    statistics = generate(denoiser, tmp_path / "out.npy", count=2)
    expected = sample_images(denoiser, PLAN, 7, count=2).argmax(axis=1)
    assert np.array_equal(np.load(tmp_path / "out.npy"), expected)
    assert statistics.comparisons() == {}


def test_the_images_are_held_against_the_reference(tmp_path, denoiser, fields):
    comparison = generate(denoiser, tmp_path / "out.npy").comparisons()["sphere"]
    phase = fields > 0
    along_x, along_y = (phase[:, :, 1:] & phase[:, :, :-1]).mean(), (phase[:, 1:] & phase[:, :-1]).mean()
    s2 = np.array([phase.mean(), (along_x + along_y) / 2])
    error = 100 * np.trapezoid(np.abs(s2 - (0.5, 0.4))) / 0.45
    assert comparison.samples == 70
    assert comparison.fraction == pytest.approx(phase.mean())
    assert comparison.s2_error_percent == pytest.approx(error)


def test_images_of_a_plane_are_held_against_the_axes_within_it(tmp_path, denoiser):
    curves = denoiser.contract.references["sphere"]
    surfaces = {"z": 0.1, "y": 0.3, "x": 0.5}
    along = {axis: {"sphere": dataclasses.replace(curves, specific_surface=s)} for axis, s in surfaces.items()}
    denoiser.contract = dataclasses.replace(
        denoiser.contract, classes=("a", "b"), null_class=2, planes={"xy": 0, "xz": 1, "yz": 1}, references_along=along
    )
    held = {}
    for label in (0, 1, None):
        statistics = generate(denoiser, tmp_path / f"{label}.npy", count=1, condition=Condition(label))
        held[label] = statistics.comparisons()["sphere"].specific_surface_reference
    assert held == pytest.approx({0: 0.8 / 2, 1: (0.6 + 0.4) / 4, None: curves.specific_surface})


@pytest.mark.parametrize("name", ["out", "out.png", "out.npy", "out.zarr"])
def test_a_failure_leaves_nothing(tmp_path, denoiser, name):
    answer = denoiser.predict

    def fail_at_the_last_step(*inputs):
        if len(denoiser.batches) == 2:
            raise UnavailableError("gone")
        return answer(*inputs)

    denoiser.predict = fail_at_the_last_step
    with pytest.raises(UnavailableError):
        generate(denoiser, tmp_path / name, count=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "count", "complaint"),
    [
        ("there.npy", 1, "exists"),
        ("out.tif", 1, r"use \.npy, \.zarr, \.png"),
        ("out.png", 2, "is one image, not 2"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_sampling(tmp_path, denoiser, name, count, complaint):
    (tmp_path / "there.npy").write_text("precious")
    with pytest.raises(UsageError, match=complaint):
        generate(denoiser, tmp_path / name, count=count)
    assert denoiser.batches == []
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("there.npy", "precious")]


def test_a_place_that_cannot_be_written_is_told_before_sampling(tmp_path, denoiser):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        generate(denoiser, tmp_path / "file" / "out.npy")
    assert denoiser.batches == []


def test_grey_levels_without_phases_need_grey(tmp_path, denoiser):
    denoiser.contract = dataclasses.replace(denoiser.contract, phases=(), references={})
    with pytest.raises(UsageError, match="ask for --grey"):
        generate(denoiser, tmp_path / "out.npy")
    assert generate(denoiser, tmp_path / "out.npy", grey=True).comparisons() == {}
