"""Small networks with random weights, as checkpoints."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from mdiff_core import Descriptors, ModelContract, Phase, Provenance, ScheduleSpec
from mdiff_export import cli
from mdiff_training.checkpoint import Checkpoint
from mdiff_training.unet import UNet, UNetConfig

PLAIN = UNetConfig(
    base_channels=8, multipliers=(1, 2), attention=(False, True), head_channels=8, norm_groups=4, pixel_unshuffle=2
)
# The fewest nodes: what an export costs is the time that torch takes to trace them.
TINY = dataclasses.replace(PLAIN, multipliers=(1,), attention=(False,))
CONDITIONAL = dataclasses.replace(PLAIN, channels=3, labels=3, fractions=2, learned_variance=True, velocity=True)


BALLS = ModelContract(
    name="balls16",
    image_size=(16, 16),
    channels=1,
    phases=(Phase("matrix", 0), Phase("ball", 255)),
    schedule=ScheduleSpec("linear", 1000),
    prediction="epsilon",
    references={"ball": Descriptors(0.3021, 0.0534, (0.3, 0.2, 0.1), (0.3, 0.2, 0.05))},
    provenance=Provenance("drawn by hand", "CC0-1.0", "mdiff-train fit balls.npy balls.safetensors", "abc123"),
)
LAYERS = ModelContract(
    name="layers16",
    image_size=(16, 24),
    channels=3,
    phases=(Phase("pore", 0), Phase("active", 128), Phase("binder", 255)),
    schedule=ScheduleSpec("cosine", 400),
    prediction="epsilon+variance",
    classes=("across", "along"),
    null_class=2,
    planes={"xy": 0, "xz": 1, "yz": 1},
    fractions=((0.3, 0.6), (0.0, 0.25)),
    references={
        "active": Descriptors(0.45, 0.05, (0.45, 0.4), (0.45, 0.4)),
        "binder": Descriptors(0.1, 0.04, (0.1, 0.05), (0.1, 0.05)),
    },
    references_along={
        "z": {"active": Descriptors(0.45, 0.08, (0.45, 0.35), (0.45, 0.35))},
        "x": {"active": Descriptors(0.45, 0.035, (0.45, 0.43), (0.45, 0.43))},
    },
    voxel_size=0.4,
    voxel_unit="micrometer",
    provenance=Provenance("drawn by hand", "CC0-1.0", "mdiff-train fit layers.npy layers.safetensors", "abc123"),
)


def random_checkpoint(network: UNetConfig = TINY, **contract: object) -> Checkpoint:
    """A checkpoint of noise: a new network's head is zero, which every graph would match."""
    torch.manual_seed(0)
    unet = UNet(network)
    for parameter in unet.parameters():
        nn.init.normal_(parameter, std=0.2)
    return Checkpoint(
        contract=dataclasses.replace(LAYERS if network == CONDITIONAL else BALLS, **contract),
        network=network,
        step=1200,
        losses=(0.9, 0.7, *[0.02, 0.04] * 5),
        tensors={f"ema.{name}": value for name, value in unet.state_dict().items()},
    )


@pytest.fixture(scope="session")
def plain() -> Checkpoint:
    """Predicts the noise of one channel."""
    return random_checkpoint(PLAIN)


@pytest.fixture(scope="session")
def conditional() -> Checkpoint:
    """Predicts noise and variance of three channels, for a label and two fractions."""
    return random_checkpoint(CONDITIONAL)


@pytest.fixture(scope="session")
def tiny() -> Checkpoint:
    """As ``plain``, where any network will do."""
    return random_checkpoint(TINY)


@pytest.fixture(scope="session")
def make_checkpoint() -> Callable[..., Checkpoint]:
    """:func:`random_checkpoint`, for tests that need another."""
    return random_checkpoint


@pytest.fixture(scope="session")
def repository(plain: Checkpoint, conditional: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``mdiff-export`` makes of ``plain``, with at most 8 in a batch, and of ``conditional``, one by one."""
    folder = tmp_path_factory.mktemp("export")
    for checkpoint, options in ((plain, ["--max-batch=8"]), (conditional, ["--max-batch=1", "--opset=20"])):
        path = folder / f"{checkpoint.contract.name}.safetensors"
        checkpoint.save(path)
        cli.app(["repository", str(path), str(folder / "repository"), *options], standalone_mode=False)
    return folder / "repository"
