"""Presets, and overriding them key by key."""

from pathlib import Path

import pytest

from mdiff_core import ScheduleSpec, UsageError
from mdiff_training.config import TrainingConfig, load_config, presets

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
    ],
)
def test_overrides_that_make_no_sense_are_usage_errors(preset: Path, override: str, message: str):
    with pytest.raises(UsageError, match=message):
        load_config(str(preset), [override])


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
