"""A network and a material small enough to train inside a test."""

import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from mdiff_core import ModelContract, Provenance, ScheduleSpec
from mdiff_training.cli import main
from mdiff_training.config import OptimizerConfig, TrainingConfig
from mdiff_training.data.micrographs import Micrographs
from mdiff_training.data.volumes import micrographs_of_phases
from mdiff_training.unet import UNetConfig


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def mdiff_train(monkeypatch: pytest.MonkeyPatch):
    """The command as the shell starts it: arguments in, exit code out."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["mdiff-train", *(str(argument) for argument in arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code or 0

    return run


@pytest.fixture
def tiny() -> TrainingConfig:
    return TrainingConfig(
        UNetConfig(
            base_channels=8,
            multipliers=(1,),
            attention=(True,),
            head_channels=8,
            norm_groups=4,
            pixel_unshuffle=1,
        ),
        ScheduleSpec("linear", 100, 1e-3, 0.1),
        OptimizerConfig(
            image_size=(8, 8),
            batch=8,
            steps=200,
            learning_rate=5e-3,
            warmup_steps=10,
            weight_decay=0.01,
            ema=0.95,
            clip_norm=1.0,
            bf16=False,
            seed=3,
        ),
    )


@pytest.fixture
def cross() -> Micrographs:
    """One image, the same in all orientations: its noise can be told without error."""
    image = np.zeros((8, 8), dtype=np.uint8)
    image[2:6, :] = image[:, 2:6] = 1
    return micrographs_of_phases([image], ("matrix", "cross"), tile=(8, 8))


@pytest.fixture
def contract(tiny: TrainingConfig, cross: Micrographs) -> ModelContract:
    return ModelContract(
        name="cross8",
        image_size=tiny.training.image_size,
        channels=cross.channels,
        phases=cross.phases,
        schedule=tiny.schedule,
        prediction="epsilon",
        provenance=Provenance("a cross", "Apache-2.0", "pytest", "unknown"),
        references=cross.references,
    )
