"""Training configuration: a TOML preset, overridden key by key."""

from __future__ import annotations

import inspect
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from mdiff_core import ContractError, ScheduleSpec, UsageError
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
        clip_norm: largest norm of the gradient; inf: it is not clipped.
        bf16: whether the forward pass runs under bfloat16 autocast, on a device that computes in it.
        condition_dropout: share of the images shown without their class and fractions, which makes classifier-free
            guidance possible; 0: none, and the network then has no null class.
        vlb_weight: λ of L_simple + λ L_vlb, where the variance is learned (Nichol & Dhariwal 2021, eq. 16).
        importance_sampling: draw the steps t where the loss is large more often (Nichol & Dhariwal 2021, eq. 18).
        accumulate: parts that a process cuts its share of the batch into, one after the other, where memory is short.
        compile: whether the network is compiled (torch.compile), which takes minutes before the first step.
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
    condition_dropout: float = 0.1
    vlb_weight: float = 0.001
    importance_sampling: bool = False
    accumulate: int = 1
    compile: bool = False

    def __post_init__(self) -> None:
        if min(*self.image_size, self.batch, self.steps) < 1:
            raise UsageError("image_size, batch and steps must be positive")
        if self.image_size[0] != self.image_size[1]:
            raise UsageError(f"image size {self.image_size} is not square, as tiles in all orientations must be")
        for name, fits, kind in (
            ("learning_rate", 0 < self.learning_rate < math.inf, "a positive number"),
            ("clip_norm", self.clip_norm > 0, "a positive number"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "a number from 0 on"),
            ("vlb_weight", 0 <= self.vlb_weight < math.inf, "a number from 0 on"),
            ("warmup_steps", self.warmup_steps >= 0, "a number from 0 on"),
            ("ema", 0 <= self.ema < 1, "a share below 1"),
            ("condition_dropout", 0 <= self.condition_dropout < 1, "a probability below 1"),
            ("seed", 0 <= self.seed < 2**32, "a number from 0 to 2³² − 1"),
        ):
            if not fits:
                raise UsageError(f"{name} {getattr(self, name)} is not {kind}")
        if self.accumulate < 1 or self.batch % self.accumulate:
            raise UsageError(f"a batch of {self.batch} does not split into {self.accumulate} equal parts")


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
        UsageError: an unknown preset, section or key, or a value that is wrong or of the wrong kind.
    """
    sections = _read(preset)
    if set(sections) != {"model", "schedule", "training"}:
        raise UsageError(f"{preset}: needs the sections model, schedule and training, and no other")
    for override in overrides:
        path, separator, value = override.partition("=")
        section, dot, key = path.partition(".")
        if not separator or not dot or section not in sections:
            raise UsageError(f"{override!r} is not SECTION.KEY=VALUE with a section of {', '.join(sections)}")
        try:
            sections[section].update(tomllib.loads(f"{key} = {value}"))
        except tomllib.TOMLDecodeError:
            sections[section][key] = value
    for key in ("channels", "labels", "fractions"):
        if key in sections["model"]:
            raise UsageError(f"model.{key} follows from the data: leave it out")
    try:
        return TrainingConfig(
            _build(UNetConfig, "model", sections["model"]),
            _build(ScheduleSpec, "schedule", sections["schedule"]),
            _build(OptimizerConfig, "training", sections["training"]),
        )
    except (TypeError, ContractError) as error:
        raise UsageError(f"{preset}: {error}") from error


_PRESETS = files("mdiff_training") / "presets"
_Section = TypeVar("_Section")


def _read(preset: str) -> dict[str, dict[str, Any]]:
    if preset in presets():
        text = (_PRESETS / f"{preset}.toml").read_text(encoding="utf-8")
    elif Path(preset).is_file():
        text = Path(preset).read_text(encoding="utf-8")
    else:
        raise UsageError(f"preset {preset!r} is neither a file nor one of {', '.join(presets())}")
    try:
        sections: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{preset}: not valid TOML ({error})") from error
    return {name: section for name, section in sections.items() if isinstance(section, dict)}


def _build(kind: type[_Section], name: str, section: dict[str, Any]) -> _Section:
    hints = get_type_hints(kind)
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in section.items()}
    for key, value in values.items():
        if key in hints and not _is_a(value, hints[key]):
            raise UsageError(f"{name}.{key} = {section[key]!r} is not {inspect.formatannotation(hints[key])}")
    return kind(**values)


def _is_a(value: object, hint: object) -> bool:
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return value in arguments
    if get_origin(hint) is tuple:
        fits = isinstance(value, tuple) and (arguments[-1] is ... or len(value) == len(arguments))
        return fits and all(_is_a(part, arguments[0]) for part in value)  # type: ignore[attr-defined]
    return type(value) is hint or (hint is float and type(value) is int)
