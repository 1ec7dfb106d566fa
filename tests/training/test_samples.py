"""Samples drawn while a network trains, with denoisers whose answers are known."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mdiff_core import DataError, ModelContract, NoiseSchedule, error_rate
from mdiff_training.config import TrainingConfig
from mdiff_training.data.micrographs import Micrographs, Stack
from mdiff_training.data.volumes import micrographs_of_phases, phases
from mdiff_training.samples import IMAGES, ddim, errors, sample, sample_columns, take_samples
from mdiff_training.unet import UNet

SCHEDULE = NoiseSchedule.linear(100, 1e-3, 0.1)


class Knows(nn.Module):
    """The exact denoiser of a material that has one image for each condition."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images = nn.Parameter(images)
        self.asked: list[int] = []

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None, told: Tensor | None) -> tuple[Tensor, None]:
        """``told`` is the index of the image in tenths, where it is given."""
        self.asked.append(len(x))
        assert told is None or told.is_contiguous()  # rows that share their memory cannot be pinned for a GPU
        index = label if label is not None else (10 * told[:, 0]).round().long() if told is not None else 0 * t
        alpha_bar = torch.tensor(SCHEDULE.alpha_bar, dtype=x.dtype)[t][:, None, None, None]
        return (x - alpha_bar.sqrt() * self.images[index]) / (1 - alpha_bar).sqrt(), None


def images(count: int, channels: int = 1) -> Tensor:
    """Images of -1 and +1."""
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 2, (count, channels, 8, 8), generator=generator).float() * 2 - 1


def test_ddim_ends_in_the_image_that_the_denoiser_knows():
    known = images(1)
    noise = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x = ddim(lambda x, t: Knows(known)(x, t, None, None)[0].detach(), noise, SCHEDULE, 20)
    torch.testing.assert_close(x, known.expand_as(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("steps", "taken"), [(1, [99]), (5, [99, 74, 50, 25, 0]), (400, list(range(99, -1, -1)))])
def test_ddim_of_gaussian_data_is_a_product_of_known_factors(steps: int, taken: list[int]):
    """Of N(0, s²), ε(x) = √(1−ᾱ) x / (ᾱ s² + 1 − ᾱ); every step scales x. The data are so small that nothing clips."""
    s2, seen = 1e-4, []

    def exact(x: Tensor, t: Tensor) -> Tensor:
        seen.append(int(t[0]))
        a = SCHEDULE.alpha_bar[int(t[0])]
        return math.sqrt(1 - a) * x / (a * s2 + 1 - a)

    noise = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = ddim(exact, noise, SCHEDULE, steps)
    assert seen == taken
    factor = 1.0
    for now, then in zip(taken, [*taken[1:], None], strict=True):
        a, b = SCHEDULE.alpha_bar[now], 1.0 if then is None else SCHEDULE.alpha_bar[then]
        factor *= (math.sqrt(a * b) * s2 + math.sqrt((1 - a) * (1 - b))) / (a * s2 + 1 - a)
    torch.testing.assert_close(x, factor * noise, rtol=1e-9, atol=0)


def test_images_stay_within_the_grey_levels():
    x = ddim(lambda x, t: torch.zeros_like(x), torch.full((1, 1, 8, 8), 3.0), SCHEDULE, 1)
    assert torch.equal(x, torch.ones_like(x))


def test_every_image_is_sampled_under_its_own_condition(tiny: TrainingConfig):
    known = images(3)
    material = Micrographs(
        tuple(Stack((np.zeros((8, 8), dtype=np.uint8),), label) for label in range(3)),
        phases(("matrix", "cross")),
        classes=("a", "b", "c"),
    )
    told = dataclasses.replace(
        material,
        classes=(),
        stacks=tuple(dataclasses.replace(s, label=None, fractions=(s.label / 10,)) for s in material.stacks),
    )
    for micrographs in (material, told):
        like = micrographs.batch(70, (8, 8), torch.Generator().manual_seed(1))
        noise = torch.randn(like.x0.shape, generator=torch.Generator().manual_seed(2))
        denoiser = Knows(known)
        x = sample(denoiser, like, noise, SCHEDULE, tiny.training)
        index = like.label if like.label is not None else (10 * like.fractions[:, 0]).round().long()
        assert set(index.tolist()) == {0, 1, 2}
        torch.testing.assert_close(x, known[index], rtol=0, atol=1e-5)
        assert set(denoiser.asked) == {32, 6}
        assert not x.requires_grad


def test_the_errors_are_of_the_mean_curves_against_the_references(contract: ModelContract):
    cross = np.zeros((8, 8), dtype=np.uint8)
    cross[2:6, :] = cross[:, 2:6] = 1
    same = errors(np.stack([cross] * 3), contract)
    assert (
        tuple(same)
        == sample_columns(contract)
        == (
            "s2_error_matrix",
            "lp_error_matrix",
            "s2_error_cross",
            "lp_error_cross",
        )
    )
    assert same == pytest.approx(dict.fromkeys(same, 0), abs=1e-12)

    full = errors(np.ones((2, 8, 8), dtype=np.uint8), contract)
    reference = contract.references["cross"]
    assert full["s2_error_cross"] == pytest.approx(error_rate([1.0] * 5, reference.s2))
    assert full["lp_error_cross"] == pytest.approx(error_rate([1.0] * 5, reference.lineal_path))
    assert full["s2_error_matrix"] == pytest.approx(100)

    # Half of the images empty: the curves are halved, and so the area between is half of the reference's.
    half = errors(np.stack([cross, np.zeros_like(cross)]), contract)
    assert half["lp_error_cross"] == half["s2_error_cross"] == pytest.approx(50)


def test_the_picture_shows_the_phases_in_their_shades(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    """64 images of 8 pixels with seams of 2."""
    known = cross.batch(1, (8, 8), torch.Generator()).x0
    found = take_samples(Knows(known), cross, contract, tiny.training, tmp_path / "new" / "1.png")
    assert found == pytest.approx(dict.fromkeys(found, 0), abs=1e-12)
    with Image.open(tmp_path / "new" / "1.png") as picture:
        pixels = np.asarray(picture)
    assert IMAGES == 64
    assert pixels.shape == (78, 78)
    assert (pixels[8:10] == 128).all()
    for y in range(0, 78, 10):
        for x in range(0, 78, 10):
            assert np.array_equal(pixels[y : y + 8, x : x + 8], np.where(known[0, 0] > 0, 255, 0))


def test_three_phases_are_told_by_the_largest_channel(tiny: TrainingConfig, contract: ModelContract, tmp_path: Path):
    labels = np.random.default_rng(0).integers(0, 3, (8, 8)).astype(np.uint8)
    rock = micrographs_of_phases([labels], ("pore", "quartz", "clay"), tile=(8, 8))
    of_rock = dataclasses.replace(contract, phases=rock.phases, channels=3, references=rock.references)
    one_hot = torch.eye(3)[torch.from_numpy(labels).long()].movedim(-1, 0)[None] * 2 - 1
    found = take_samples(Knows(one_hot), rock, of_rock, tiny.training, tmp_path / "rock.png")
    assert len(found) == 6
    assert found == pytest.approx(dict.fromkeys(found, 0), abs=1e-12)
    with Image.open(tmp_path / "rock.png") as picture:
        assert np.array_equal(np.asarray(picture)[:8, :8], np.array([0, 128, 255])[labels])


def test_samples_are_told_the_fractions_of_the_material_that_the_references_are_of(
    tiny: TrainingConfig, contract: ModelContract, tmp_path: Path
):
    """Three materials of one image each, about .4, .2 and .1 of it the second phase."""
    tenths = np.stack([(np.arange(64) < round(6.4 * i)).astype(np.uint8).reshape(8, 8) for i in range(5)])
    told = micrographs_of_phases(list(tenths[[4, 2, 1]]), ("matrix", "cross"), tell_fractions=True, tile=(8, 8))
    of_told = dataclasses.replace(contract, references=told.references, fractions=told.fractions)
    known = torch.from_numpy(tenths)[:, None].float() * 2 - 1
    found = take_samples(Knows(known), told, of_told, tiny.training, tmp_path / "told.png")
    assert found == pytest.approx(dict.fromkeys(sample_columns(of_told), 0), abs=1e-12)


def test_grey_levels_are_pictured_and_not_measured(tiny: TrainingConfig, contract: ModelContract, tmp_path: Path):
    grey = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    sem = Micrographs((Stack((grey,)),), ())
    of_sem = dataclasses.replace(contract, phases=(), references={})
    denoiser = Knows(torch.from_numpy(grey)[None, None])
    assert take_samples(denoiser, sem, of_sem, tiny.training, tmp_path / "sem.png") == {}
    assert sample_columns(of_sem) == ()
    with Image.open(tmp_path / "sem.png") as picture:
        assert np.abs(np.asarray(picture)[:8, :8] - (grey + 1) * 127.5).max() < 0.6


def test_pictures_of_one_run_differ_by_the_network_alone(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    network = UNet(tiny.model).eval()
    for name in "ab":
        take_samples(network, cross, contract, tiny.training, tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_picture_that_cannot_be_written_is_a_data_error(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        take_samples(UNet(tiny.model).eval(), cross, contract, tiny.training, tmp_path / "file" / "1.png")
