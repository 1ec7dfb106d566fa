"""Folders of images by class: who belongs to which class, on which grey scale, and what is refused by name."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from typer.testing import CliRunner

from mdiff_core import DataError, UsageError
from mdiff_images import read_array
from mdiff_training.checkpoint import Checkpoint
from mdiff_training.cli import app
from mdiff_training.data.folders import class_folders, foldered_images, images_in, micrographs_of_classes
from mdiff_training.data.micrographs import Micrographs
from mdiff_training.data.sources import Reading, read_micrographs

TILE = (16, 16)
SUPERALLOY = Path(__file__).parents[3] / "shared" / "data" / "superalloy"


def grey(seed: int, shape: tuple[int, int] = (20, 24), high: int = 256) -> np.ndarray:
    """Noise over the whole range, so that its 0.1 and 99.9 percentiles are its ends."""
    image = np.random.default_rng(seed).integers(0, high, shape)
    image[0, :3], image[1, :3] = 0, high - 1
    return image.astype(np.uint8 if high <= 256 else np.uint16)


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, image)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, image)
    else:
        Image.fromarray(image).save(path)
    return path


def read_folder(*folders: Path, tile: tuple[int, int] = TILE, **options: object) -> Micrographs:
    return read_micrographs(folders, Reading(**options), tile, seed=0)


@pytest.fixture
def steel(tmp_path: Path) -> Path:
    """Three images of pearlite in three formats and sizes, one of them below another folder, and one of martensite."""
    folder = tmp_path / "steel"
    save(folder / "pearlite" / "a.tif", grey(1))
    save(folder / "pearlite" / "b.png", grey(2, (16, 40)))
    save(folder / "pearlite" / "batch2" / "c.npy", grey(3, (30, 17)))
    save(folder / "martensite" / "d.tif", grey(4))
    return folder


# Which images, in which class


def test_a_folder_is_a_class_and_its_label_the_place_of_its_name(steel: Path):
    found = read_folder(steel)
    assert found.classes == ("martensite", "pearlite")
    assert [stack.label for stack in found.stacks] == [0, 1]
    assert [[image.shape for image in stack.images] for stack in found.stacks] == [
        [(20, 24)],
        [(20, 24), (16, 40), (30, 17)],
    ]
    assert (found.phases, found.references, found.channels) == ((), {}, 1)


def test_hidden_files_and_files_of_other_kinds_are_passed_over(steel: Path):
    before = foldered_images(steel)
    for name in (".hidden.tif", "._a.tif", ".DS_Store", "Thumbs.db", "notes.txt", ".cache/b.png"):
        (steel / "pearlite" / name).parent.mkdir(exist_ok=True)
        (steel / "pearlite" / name).write_bytes(b"no image")
    (steel / ".git").mkdir()
    (steel / "readme.md").write_text("steel")
    assert foldered_images(steel) == before
    assert [folder.name for folder in class_folders(steel)] == ["martensite", "pearlite"]


def test_images_of_kinds_that_cannot_be_read_are_not_passed_over(steel: Path):
    (steel / "pearlite" / "e.gif").write_bytes(b"GIF89a")
    assert steel / "pearlite" / "e.gif" in images_in(steel)
    with pytest.raises(DataError, match=r"e\.gif: cannot read \.gif"):
        read_folder(steel)


def test_some_classes_may_be_taken_and_everything_else_is_left_out(steel: Path):
    save(steel / "nowhere.tif", grey(5))
    (steel / "empty").mkdir()
    assert read_folder(steel, classes="pearlite").classes == ("pearlite",)
    assert read_folder(steel, classes="pearlite, martensite").classes == ("martensite", "pearlite")
    with pytest.raises(DataError, match=r"no images of class 'bainite' in .*steel"):
        read_folder(steel, classes="pearlite,bainite")


def test_several_folders_are_one_set_of_classes(steel: Path, tmp_path: Path):
    save(tmp_path / "more" / "pearlite" / "e.tif", grey(5))
    save(tmp_path / "more" / "sponge" / "f.tif", grey(6))
    found = read_folder(steel, tmp_path / "more")
    assert found.classes == ("martensite", "pearlite", "sponge")
    assert [len(stack.images) for stack in found.stacks] == [1, 4, 1]


def test_a_cap_takes_some_of_a_large_class_and_all_of_a_small_one(tmp_path: Path):
    for i in range(12):
        save(tmp_path / "large" / f"{i:02}.npy", grey(i))
    for i in range(2):
        save(tmp_path / "small" / f"{i}.npy", grey(20 + i))
    capped = micrographs_of_classes(foldered_images(tmp_path), read_array, per_class=5, tile=TILE, seed=1)
    assert [len(stack.images) for stack in capped.stacks] == [5, 2]
    all_of_them = {image.tobytes() for image in read_folder(tmp_path).stacks[0].images}
    taken = {image.tobytes() for image in capped.stacks[0].images}
    assert len(taken) == 5
    assert taken < all_of_them
    other = micrographs_of_classes(foldered_images(tmp_path), read_array, per_class=5, tile=TILE, seed=2)
    assert {image.tobytes() for image in other.stacks[0].images} != taken


def test_classes_are_drawn_equally_often_however_many_images_they_have(tmp_path: Path):
    """Düreth et al. 2.1.1 without copies: a class of one image counts as much as one of nine."""
    for i in range(9):
        save(tmp_path / "large" / f"{i}.npy", grey(i))
    save(tmp_path / "small" / "0.npy", grey(20))
    labels = read_folder(tmp_path).batch(4000, TILE, torch.Generator().manual_seed(0)).label
    assert torch.bincount(labels).tolist() == pytest.approx([2000, 2000], abs=4 * np.sqrt(1000))


def test_small_classes_are_cropped_turned_and_mirrored(tmp_path: Path):
    """Of one image of 17 × 16 pixels: two crops in eight orientations."""
    save(tmp_path / "small" / "0.npy", grey(0, (17, 16)))
    tiles = read_folder(tmp_path).batch(400, TILE, torch.Generator().manual_seed(0)).x0
    assert len({tile.numpy().tobytes() for tile in tiles}) == 16


# Grey levels


def test_grey_levels_reach_from_minus_one_to_one_in_all_types(tmp_path: Path):
    """Also of a 12-bit camera in a 16-bit file, whose values end at a sixteenth of the type's range."""
    save(tmp_path / "steel" / "eight.tif", grey(0))
    save(tmp_path / "steel" / "float.npy", grey(0).astype(np.float32) / 7 - 3)
    save(tmp_path / "steel" / "mask.npy", grey(0) > 127)
    save(tmp_path / "steel" / "twelve.png", grey(0, high=4096))
    eight, floats, mask, twelve = read_folder(tmp_path).stacks[0].images
    np.testing.assert_allclose(eight, grey(0) / 127.5 - 1, atol=1e-3)
    np.testing.assert_allclose(floats, eight, atol=2e-3)
    np.testing.assert_array_equal(mask, np.where(grey(0) > 127, 1, -1))
    np.testing.assert_allclose(twelve, grey(0, high=4096) / 2047.5 - 1, atol=1e-3)
    tile = read_folder(tmp_path).batch(2, TILE, torch.Generator().manual_seed(0)).x0
    assert tile.dtype == torch.float32
    assert tile.shape == (2, 1, *TILE)


def test_twelve_bits_stay_apart(tmp_path: Path):
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    save(tmp_path / "steel" / "ramp.tif", np.clip(ramp, 8, 4087))  # what the percentiles keep
    (image,) = read_folder(tmp_path).stacks[0].images
    assert len(np.unique(image)) > 0.99 * (4087 - 8)


def test_images_of_one_type_share_one_scale(tmp_path: Path):
    """A class that is darker stays darker."""
    save(tmp_path / "bright" / "0.tif", grey(0))
    save(tmp_path / "dark" / "0.tif", grey(0) // 2)
    bright, dark = (stack.images[0] for stack in read_folder(tmp_path).stacks)
    np.testing.assert_allclose(dark, (bright - 1) / 2, atol=5e-3)


def test_a_hot_pixel_costs_no_contrast(tmp_path: Path):
    image = grey(0, (64, 64), high=4096)
    image[30, 30] = 65535
    save(tmp_path / "steel" / "0.tif", image)
    (scaled,) = read_folder(tmp_path).stacks[0].images
    assert scaled.std() == pytest.approx(np.std(image[image < 4096]) / 2047.5, rel=0.02)
    assert scaled[30, 30] == 1


def test_true_colour_becomes_its_luminance(tmp_path: Path):
    colour = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    colour[0], colour[1] = 0, 255
    save(tmp_path / "steel" / "etched.png", colour)
    (image,) = read_folder(tmp_path).stacks[0].images
    np.testing.assert_allclose(image, colour @ [0.299, 0.587, 0.114] / 127.5 - 1, atol=5e-3)


def test_a_part_of_every_image_can_be_cut_out(steel: Path):
    """As the caption bar at the bottom of a scanning electron micrograph."""
    whole = read_folder(steel, tile=(8, 8)).stacks[0].images[0]
    (cut,) = read_folder(steel, tile=(8, 8), crop="0:15,:").stacks[0].images
    assert cut.shape == (15, 24)
    np.testing.assert_allclose(cut, whole[:15], atol=2e-3)
    with pytest.raises(UsageError, match=r"b\.png: crop '0:18,:': '0:18' does not lie within 0:16"):
        read_folder(steel, tile=(8, 8), crop="0:18,:")


# Subregions


def test_subregions_are_squares_of_the_image_resized_to_the_tile(tmp_path: Path):
    """Where the image is a plane, resizing keeps it one: a square's mean is the plane at its middle."""
    y, x = np.indices((100, 140))
    save(tmp_path / "fibres" / "0.npy", (2.0 * y + 3.0 * x).astype(np.float32))
    found = read_folder(tmp_path, subregions="30:48")
    (stack,) = found.stacks
    assert len(stack.images) == 30
    scale = 2 / np.subtract(*np.percentile(2.0 * y + 3.0 * x, (99.9, 0.1)))
    for image in stack.images:
        assert image.shape == TILE
        inner = image[3:-3, 3:-3].astype(float)  # away from the kernel's edges
        down, across = np.gradient(inner)
        np.testing.assert_allclose(down, 2 * 48 / 16 * scale, atol=2e-3)
        np.testing.assert_allclose(across, 3 * 48 / 16 * scale, atol=2e-3)
    means = [float(image.mean()) for image in stack.images]
    assert max(means) - min(means) > 0.5  # from all over the image
    again, other = read_folder(tmp_path, subregions="30:48"), read_folder(tmp_path, subregions="30:44")
    np.testing.assert_array_equal(np.stack(again.stacks[0].images), np.stack(stack.images))
    assert other.stacks[0].images[0].shape == TILE


def test_making_smaller_does_not_alias(tmp_path: Path):
    """A checkerboard finer than the tile's pixels becomes grey, and is not folded into a coarser one."""
    y, x = np.indices((96, 96))
    save(tmp_path / "fine" / "0.npy", ((y + x) % 2 * 255).astype(np.uint8))
    for image in read_folder(tmp_path, subregions="5:80").stacks[0].images:
        assert np.abs(image).max() < 0.1


def test_subregions_as_large_as_the_image_and_smaller_than_the_tile(tmp_path: Path):
    save(tmp_path / "small" / "0.npy", grey(0, (12, 12)))
    (one,) = read_folder(tmp_path, subregions="1:12").stacks[0].images
    assert one.shape == TILE
    assert np.abs(one).max() <= 1


# What is refused


@pytest.mark.parametrize(
    ("name", "image", "reason"),
    [
        ("pearlite/small.png", grey(0, (15, 40)), "15×40 pixels, at least 16×16 are needed"),
        ("pearlite/stack.tif", np.zeros((20, 20, 20), np.uint8), "a volume, expected an image"),
        ("pearlite/nan.npy", np.full((20, 20), np.nan), "holds values that are not finite"),
        ("nowhere.tif", grey(0), "lies in no class folder"),
    ],
)
def test_images_that_do_not_fit_are_refused_by_name(steel: Path, name: str, image: np.ndarray, reason: str):
    path = save(steel / name, image)
    with pytest.raises(DataError, match=reason) as caught:
        read_folder(steel)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) == 1


def test_an_image_smaller_than_the_subregions_is_refused_by_name(steel: Path):
    with pytest.raises(DataError, match=r"d\.tif: 20×24 pixels, at least 21×21 are needed"):
        read_folder(steel, subregions="2:21")


def test_a_damaged_image_is_refused_by_name(steel: Path):
    (steel / "pearlite" / "b.png").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"b\.png: cannot be read as PNG"):
        read_folder(steel)


def test_an_empty_class_is_refused_by_name(steel: Path):
    (steel / "bainite").mkdir()
    (steel / "bainite" / "notes.txt").write_text("to do")
    with pytest.raises(DataError, match="bainite: a class without an image"):
        read_folder(steel)


def test_images_without_contrast_are_refused(tmp_path: Path):
    save(tmp_path / "blank" / "0.npy", np.full((20, 20), 7, np.uint8))
    with pytest.raises(DataError, match="no contrast: nearly all of them are 7"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"phases": "dark=0,bright=255"}, "a folder holds grey-level images by class: leave --phases and --axis out"),
        ({"subregions": "30"}, "subregions '30' is not of the form NUMBER:SIDE, as 30:480"),
        ({"subregions": "0:480"}, "subregions '0:480'"),
        ({"catalogue": Path("uhcs.sqlite")}, "--catalogue is for a folder of images that are not sorted"),
    ],
)
def test_options_that_contradict_a_folder_are_usage_errors(steel: Path, options: dict, reason: str):
    with pytest.raises(UsageError, match=reason):
        read_folder(steel, **options)


@pytest.mark.parametrize("option", ["classes", "catalogue", "per_class", "subregions"])
def test_options_about_folders_need_one(steel: Path, option: str):
    with pytest.raises(UsageError, match=r"--classes, --catalogue, --per-class and --subregions are about folders"):
        read_folder(steel / "martensite" / "d.tif", **{option: 3 if option == "per_class" else "x"})


def test_files_and_folders_do_not_go_together(steel: Path):
    with pytest.raises(UsageError, match=r"d\.tif is no folder"):
        read_folder(steel, steel / "martensite" / "d.tif")


def test_a_folder_without_class_folders_needs_a_catalogue(steel: Path):
    with pytest.raises(UsageError, match=r"martensite has no folder for each class: .* or give a --catalogue"):
        read_folder(steel / "martensite")


# From folders to a checkpoint, and real micrographs


def test_a_folder_trains_a_denoiser_that_knows_the_classes(steel: Path, tmp_path: Path):
    small = ["model.base_channels=8", "model.multipliers=[1, 2]", "model.attention=[false, true]"]
    small += ["model.head_channels=8", "training.image_size=[16, 16]", "training.batch=2", "training.steps=2"]
    about = ["--name", "steel", "--licence", "CC0-1.0", "--source", "noise", "--sample-every", "0"]
    arguments = ["fit", str(steel), str(tmp_path / "steel.safetensors"), *about, *(f"--set={key}" for key in small)]
    result = CliRunner().invoke(app, [*arguments, "--per-class", "2", "--subregions", "4:15"])
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stderr  # grey levels have no fraction to vary
    contract = Checkpoint.load(tmp_path / "steel.safetensors").contract
    assert contract.classes == ("martensite", "pearlite")
    assert contract.null_class == 2
    assert contract.phases == ()


@pytest.mark.skipif(not SUPERALLOY.is_dir(), reason="the superalloy (shared/data beside the repository) is not here")
def test_real_micrographs_with_three_equal_channels(tmp_path: Path):
    (tmp_path / "nickel").symlink_to(SUPERALLOY)
    (stack,) = read_folder(tmp_path, subregions="3:480", tile=(64, 64)).stacks
    assert len(stack.images) == 6
    assert all(image.shape == (64, 64) and image.std() > 0.1 for image in stack.images)
