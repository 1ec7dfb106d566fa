"""Presets, and overriding them key by key."""

import math
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from mdiff_core import ScheduleSpec, UsageError
from mdiff_training.config import TrainingConfig, load_config, presets
from mdiff_training.draws import step_seed
from mdiff_training.unet import UNet, UNetConfig

PRESET = """
[model]
base_channels = 16
multipliers = [1, 2]
attention = [false, true]
head_channels = 16

[schedule]
kind = "cosine"
timesteps = 50

[training]
image_size = [32, 32]
batch = 4
steps = 10
learning_rate = 1e-3
warmup_steps = 2
weight_decay = 0
ema = 0.9
clip_norm = 1.0
bf16 = false
seed = 7
"""


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(PRESET)
    return path


@pytest.mark.parametrize("name", presets())
def test_every_preset_loads(name: str):
    assert isinstance(load_config(name), TrainingConfig)


def test_compact64_is_a_preset_for_64_pixel_tiles_over_a_thousand_steps():
    config = load_config("compact64")
    assert "compact64" in presets()
    assert config.training.image_size == (64, 64)
    assert config.schedule == ScheduleSpec("linear", 1000, 1e-4, 2e-2)


def test_duereth2023_is_the_model_of_its_table_2():
    config = load_config("duereth2023")
    model, plan = config.model, config.training
    assert (model.base_channels, model.blocks, model.learned_variance) == (128, 3, True)
    sizes = [plan.image_size[0] // 2**level for level in range(len(model.multipliers))]
    assert sizes == [256, 128, 64, 32, 16, 8]
    assert [size for size, attends in zip(sizes, model.attention, strict=True) if attends] == [16]
    assert [model.heads_of(model.base_channels * multiplier)[0] for multiplier in model.multipliers] == [4] * 6
    assert (config.schedule.kind, config.schedule.timesteps) == ("linear", 4000)
    assert (plan.batch, plan.steps, plan.vlb_weight, plan.importance_sampling) == (8, 300_000, 0.001, False)


def test_duereth2023_ends_in_as_much_noise_as_a_thousand_steps_to_2e_2():
    """And is at half of the way where those are: this is what scaling β by 1000/T is for."""
    schedule, usual = load_config("duereth2023").schedule.build(), ScheduleSpec("linear", 1000, 1e-4, 2e-2).build()
    for ours, theirs in ((3999, 999), (1999, 499)):
        assert schedule.sigma[ours] == pytest.approx(usual.sigma[theirs], rel=0.03)


def test_micro3diff_is_the_model_of_its_table_a_1():
    config = load_config("micro3diff")
    model, plan = config.model, config.training
    assert (model.base_channels, model.multipliers, model.blocks) == (128, (1, 2, 4, 8), 2)
    assert (model.attention, model.pixel_unshuffle) == ((False, False, True, True), 1)
    assert model.heads_of(512) == model.heads_of(1024) == (8, 64)
    assert config.schedule == ScheduleSpec("linear", 1000, 1e-4, 1e-2)
    assert (plan.image_size, plan.batch, plan.steps) == ((64, 64), 64, 50_000)
    assert (plan.learning_rate, plan.warmup_steps, plan.weight_decay) == (3e-4, 10_000, 0)


def count_parameters(model: UNetConfig) -> int:
    """Of the network that Nichol & Dhariwal 2021 describe, layer by layer."""
    embedding, pixels = 4 * model.base_channels, model.pixel_unshuffle**2 * model.channels
    widths = [multiplier * model.base_channels for multiplier in model.multipliers]

    def layer(inputs: int, outputs: int, kernel: int = 1) -> int:
        return kernel**2 * inputs * outputs + outputs

    def block(inputs: int, outputs: int) -> int:
        branch = 2 * inputs + layer(inputs, outputs, 3) + 2 * outputs + layer(outputs, outputs, 3)
        return branch + layer(embedding, 2 * outputs) + (layer(inputs, outputs) if inputs != outputs else 0)

    def attention(width: int) -> int:
        heads, channels = model.heads_of(width)
        return 2 * width + layer(width, 3 * heads * channels) + layer(heads * channels, width)

    total = layer(model.base_channels, embedding) + layer(embedding, embedding) + layer(pixels, widths[0], 3)
    width, skips = widths[0], [widths[0]]
    for level, outputs in enumerate(widths):
        if level:
            total += layer(width, width, 3)
            skips.append(width)
        for _ in range(model.blocks):
            total += block(width, outputs) + (attention(outputs) if model.attention[level] else 0)
            width = outputs
            skips.append(width)
    total += 2 * block(width, width) + attention(width)
    for level, outputs in reversed(list(enumerate(widths))):
        for _ in range(model.blocks + 1):
            total += block(width + skips.pop(), outputs) + (attention(outputs) if model.attention[level] else 0)
            width = outputs
        total += layer(width, width, 3) if level else 0
    return total + 2 * width + layer(width, pixels * (2 if model.learned_variance else 1), 3)


@pytest.mark.parametrize(("name", "millions"), [("compact64", 1.9), ("duereth2023", 157), ("micro3diff", 246)])
def test_networks_are_as_large_as_their_tables_make_them(name: str, millions: float):
    model = load_config(name).model
    with torch.device("meta"):
        network = UNet(model)
        size = network.config.stride * 2
        eps, v = network(torch.zeros(2, 1, size, size), torch.zeros(2, dtype=torch.int64))
    assert sum(parameter.numel() for parameter in network.parameters()) == count_parameters(model)
    assert count_parameters(model) == pytest.approx(millions * 1e6, rel=0.01)
    assert eps.shape == (2, 1, size, size)
    assert (v is not None) == model.learned_variance


@pytest.mark.parametrize("name", presets())
def test_every_key_of_a_preset_can_be_overridden(name: str):
    text = (files("mdiff_training") / "presets" / f"{name}.toml").read_text(encoding="utf-8")
    given = tomllib.loads(text)
    overrides = [f"{section}.{key}={_toml(value)}" for section, keys in given.items() for key, value in keys.items()]
    assert len(overrides) > 20
    assert load_config("compact64", overrides) == load_config(name)


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else repr(value)


def test_a_file_is_a_preset(preset: Path):
    config = load_config(str(preset))
    assert config.schedule == ScheduleSpec("cosine", 50)
    assert config.model.multipliers == (1, 2)
    assert config.model.attention == (False, True)
    assert config.training.image_size == (32, 32)
    assert config.training.weight_decay == 0


def test_overrides_replace_single_keys(preset: Path):
    config = load_config(
        str(preset),
        [
            "training.steps=500",
            "training.learning_rate = 2e-4",
            "training.bf16=true",
            "model.attention=[true, false]",
            "model.dropout=0.1",
            "model.heads=2",
            "schedule.kind=linear",
            'schedule.kind="linear"',
            "training.steps=600",
        ],
    )
    assert config.training.steps == 600
    assert config.training.learning_rate == 2e-4
    assert config.training.bf16 is True
    assert config.model.attention == (True, False)
    assert config.model.dropout == 0.1
    assert (config.model.heads, config.model.head_channels) == (2, 16)
    assert config.schedule.kind == "linear"
    assert config.training.batch == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.steps", "is not SECTION.KEY=VALUE"),
        ("steps=5", "is not SECTION.KEY=VALUE"),
        ("optimizer.steps=5", "with a section of model, schedule, training"),
        ("training.momentum=0.9", "momentum"),
        ("model.width=3", "width"),
        ("training.steps=1e3", "training.steps = 1000.0 is not int"),
        ("training.steps=many", "training.steps = 'many' is not int"),
        ("training.steps=", "training.steps = '' is not int"),
        ("training.bf16=1", "training.bf16 = 1 is not bool"),
        ("training.learning_rate=fast", "training.learning_rate = 'fast' is not float"),
        ("training.image_size=32", r"training.image_size = 32 is not tuple\[int, int\]"),
        ("training.image_size=[32]", r"is not tuple\[int, int\]"),
        ("model.multipliers=[1, 1.5]", r"is not tuple\[int, ...\]"),
        ("model.attention=[1, 0]", r"is not tuple\[bool, ...\]"),
        ("schedule.kind=sigmoid", "schedule.kind = 'sigmoid' is not"),
        ("schedule.timesteps=0", "at least one step"),
        ("schedule.beta_last=2.0", "0 < first <= last < 1"),
        ("model.head_channels=7", "heads of 7"),
        ("training.steps=0", "must be positive"),
        ("training.batch=-1", "must be positive"),
        ("training.image_size=[30, 30]", "must be a multiple of 4"),
        ("training.image_size=[32, 64]", "is not square"),
        ("training.condition_dropout=1.0", "condition_dropout 1.0 is not a probability below 1"),
        ("training.condition_dropout=-0.1", "condition_dropout -0.1 is not a probability"),
        ("training.condition_dropout=nan", "condition_dropout nan is not a probability below 1"),
        ("training.vlb_weight=-0.001", "vlb_weight -0.001 is not a number from 0 on"),
        ("training.vlb_weight=inf", "vlb_weight inf is not a number from 0 on"),
        ("training.learning_rate=0", "learning_rate 0 is not a positive number"),
        ("training.learning_rate=-1e-4", "learning_rate -0.0001 is not a positive number"),
        ("training.learning_rate=inf", "learning_rate inf is not a positive number"),
        ("training.warmup_steps=-1", "warmup_steps -1 is not a number from 0 on"),
        ("training.weight_decay=-0.1", "weight_decay -0.1 is not a number from 0 on"),
        ("training.weight_decay=nan", "weight_decay nan is not a number from 0 on"),
        ("training.ema=1.0", "ema 1.0 is not a share below 1"),
        ("training.ema=-0.1", "ema -0.1 is not a share below 1"),
        ("training.clip_norm=0", "clip_norm 0 is not a positive number"),
        ("training.clip_norm=-1.0", "clip_norm -1.0 is not a positive number"),
        ("training.clip_norm=nan", "clip_norm nan is not a positive number"),
        ("training.seed=-1", "seed -1 is not a number from 0 to 2³² − 1"),
        ("training.seed=4294967296", "seed 4294967296 is not a number from 0 to 2³² − 1"),
        ("training.importance_sampling=1", "training.importance_sampling = 1 is not bool"),
        ("model.timestep_scale=0", "timestep_scale 0 is not a positive number"),
        ("model.scale_shift=no", "model.scale_shift = 'no' is not bool"),
    ],
)
def test_overrides_that_make_no_sense_are_usage_errors(preset: Path, override: str, message: str):
    with pytest.raises(UsageError, match=message):
        load_config(str(preset), [override])


def test_ends_of_the_ranges_can_be_trained_with(preset: Path):
    ends = ["warmup_steps=0", "weight_decay=0", "vlb_weight=0", "ema=0", "clip_norm=inf", "seed=4294967295"]
    plan = load_config(str(preset), [f"training.{end}" for end in ends]).training
    assert (plan.warmup_steps, plan.ema, plan.clip_norm, plan.seed) == (0, 0, math.inf, 2**32 - 1)
    torch.Generator().manual_seed(step_seed(plan, 10**9))


@pytest.mark.parametrize("key", ["channels", "labels", "fractions"])
def test_what_follows_from_the_data_is_not_configured(preset: Path, key: str):
    with pytest.raises(UsageError, match=f"model.{key} follows from the data: leave it out"):
        load_config(str(preset), [f"model.{key}=1"])
    preset.write_text(PRESET.replace("[model]", f"[model]\n{key} = 1"))
    with pytest.raises(UsageError, match=f"model.{key} follows from the data: leave it out"):
        load_config(str(preset))


def test_conditions_are_dropped_of_a_tenth_of_the_images_unless_said_otherwise(preset: Path):
    assert load_config(str(preset)).training.condition_dropout == 0.1
    assert load_config(str(preset), ["training.condition_dropout=0"]).training.condition_dropout == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model", "not valid TOML"),
        (PRESET.replace("[model]", "[net]"), "needs the sections model, schedule and training"),
        (PRESET + "[data]\npath = 'x'\n", "needs the sections model, schedule and training, and no other"),
        ("model = 1\nschedule = 2\ntraining = 3\n", "needs the sections"),
        (PRESET.replace("seed = 7", ""), "seed"),
    ],
)
def test_files_that_are_no_preset_are_usage_errors(preset: Path, text: str, message: str):
    preset.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_config(str(preset))


def test_an_unknown_preset_names_those_there_are(tmp_path: Path):
    with pytest.raises(UsageError, match=r"'huge' is neither a file nor one of .*compact64"):
        load_config("huge")
    with pytest.raises(UsageError, match="is neither a file"):
        load_config(str(tmp_path))
