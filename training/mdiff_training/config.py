"""Training configuration: a TOML preset, overridden key by key."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from mdiff_core import ScheduleSpec, UsageError
from mdiff_training.unet import UNetConfig


@dataclass(frozen=True)
class OptimizerConfig:
    """How the network is trained.

    Attributes:
        image_size: (height, width) of the training tiles, pixels.
        batch: images a step.
        steps: optimizer steps in all.
        learning_rate: peak, reached after ``warmup_steps`` and lowered to zero along a cosine.
        weight_decay: of AdamW.
        ema: decay of the exponential moving average of the weights, which is what is exported.
        clip_norm: largest norm of the gradient.
        bf16: whether the forward pass runs under bfloat16 autocast.
        seed: of initial weights, batches, steps t and noise.
    """

    image_size: tuple[int, int]
    batch: int
    steps: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    ema: float
    clip_norm: float
    bf16: bool
    seed: int


@dataclass(frozen=True)
class TrainingConfig:
    """A preset: the network, the noise schedule and the optimization."""

    model: UNetConfig
    schedule: ScheduleSpec
    training: OptimizerConfig

    def __post_init__(self) -> None:
        if any(size % self.model.stride for size in self.training.image_size):
            raise UsageError(f"image size {self.training.image_size} must be a multiple of {self.model.stride}")


def presets() -> list[str]:
    """Names of the presets that come with mdiff."""
    return sorted(entry.name.removesuffix(".toml") for entry in _PRESETS.iterdir() if entry.name.endswith(".toml"))


def load_config(preset: str, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Read a preset by name, or a TOML file by path, and apply overrides such as ``training.steps=500``.

    Raises:
        UsageError: an unknown preset, section or key, or a value of the wrong kind.
    """
    sections = _read(preset)
    for override in overrides:
        path, separator, value = override.partition("=")
        section, dot, key = path.partition(".")
        if not separator or not dot or section not in sections:
            raise UsageError(f"{override!r} is not SECTION.KEY=VALUE with a section of {', '.join(sections)}")
        try:
            sections[section].update(tomllib.loads(f"{key} = {value}"))
        except tomllib.TOMLDecodeError:
            sections[section][key] = value
    try:
        return TrainingConfig(
            UNetConfig(**_tuples(sections["model"])),
            ScheduleSpec(**sections["schedule"]),
            OptimizerConfig(**_tuples(sections["training"])),
        )
    except (TypeError, KeyError) as error:
        raise UsageError(f"{preset}: {error}") from error


_PRESETS = files("mdiff_training") / "presets"


def _read(preset: str) -> dict[str, dict[str, Any]]:
    if preset in presets():
        text = (_PRESETS / f"{preset}.toml").read_text(encoding="utf-8")
    elif Path(preset).is_file():
        text = Path(preset).read_text(encoding="utf-8")
    else:
        raise UsageError(f"preset {preset!r} is neither a file nor one of {', '.join(presets())}")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{preset}: not valid TOML ({error})") from error


def _tuples(section: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in section.items()}
