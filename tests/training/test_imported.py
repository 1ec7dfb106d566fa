"""U-Nets of improved-diffusion and guided-diffusion, imported, against the same architectures written out here."""

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mdiff_core import DataError, NoiseSchedule, Provenance, ScheduleSpec, UsageError
from mdiff_training.checkpoint import Checkpoint
from mdiff_training.config import load_config
from mdiff_training.imported import Conventions, StateDict, import_model, improved_schedule, network_of

# The reference. Its modules have the names that the two repositories save.


@dataclass(frozen=True)
class Shape:
    """A network as its authors' options describe it; ``attention`` are the factors of downsampling that attend."""

    channels: int = 1
    base: int = 32
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 1
    attention: tuple[int, ...] = (2,)
    classes: int = 0
    learn_sigma: bool = False
    scale_shift: bool = True
    resblock_updown: bool = False
    new_order: bool = False
    heads: int = 4
    head_channels: int = 0


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, shape: Shape, resample: str = ""):
        super().__init__()
        self.shape, self.resample = shape, resample
        self.in_layers = nn.Sequential(nn.GroupNorm(32, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(4 * shape.base, 2 * outputs if shape.scale_shift else outputs)
        )
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, outputs), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(outputs, outputs, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":  # the mean of each square of four
            return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
        return x.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2) if self.resample == "up" else x

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        norm, silu, conv = self.in_layers
        h = conv(self._resampled(silu(norm(x))))
        told = self.emb_layers(embedding)[..., None, None]
        norm, silu, _, conv = self.out_layers
        if self.shape.scale_shift:
            width = h.shape[1]
            h = norm(h) * (1 + told[:, :width]) + told[:, width:]
        else:
            h = norm(h + told)
        return self.skip_connection(self._resampled(x)) + conv(silu(h))


class Attention(nn.Module):
    def __init__(self, width: int, shape: Shape):
        super().__init__()
        self.new_order = shape.new_order
        self.heads = width // shape.head_channels if shape.head_channels else shape.heads
        self.norm = nn.GroupNorm(32, width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        batch, width, height, length = x.shape
        size = width // self.heads
        rows = self.qkv(self.norm(x).reshape(batch, width, height * length))
        heads = []
        for head in range(self.heads):
            # Legacy order: all of a head's rows lie together. New order: all queries first, then keys, then values.
            starts = [head * size + part * width if self.new_order else (3 * head + part) * size for part in range(3)]
            q, k, v = (rows[:, start : start + size] for start in starts)
            weight = (torch.einsum("bcx,bcy->bxy", q, k) / math.sqrt(size)).softmax(dim=-1)
            heads.append(torch.einsum("bxy,bcy->bcx", weight, v))
        return x + self.proj_out(torch.cat(heads, dim=1)).reshape(x.shape)


class Downsample(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.conv(x.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2))


class Stem(nn.Conv2d):
    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return super().forward(x)


class Reference(nn.Module):
    """UNetModel: down, through the middle, and up, where each block also sees what its counterpart put out."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        embedding, width = 4 * shape.base, shape.base * shape.multipliers[0]
        self.time_embed = nn.Sequential(nn.Linear(shape.base, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        if shape.classes:
            self.label_emb = nn.Embedding(shape.classes, embedding)
        attends = [2**level in shape.attention for level in range(len(shape.multipliers))]
        seen, down = [width], [[Stem(shape.channels, width, 3, padding=1)]]
        for level, multiplier in enumerate(shape.multipliers):
            if level:
                down.append([Residual(width, width, shape, "down") if shape.resblock_updown else Downsample(width)])
                seen.append(width)
            for _ in range(shape.blocks):
                down.append([Residual(width, width := shape.base * multiplier, shape)])
                down[-1] += [Attention(width, shape)] * attends[level]
                seen.append(width)
        self.middle_block = nn.ModuleList(
            [Residual(width, width, shape), Attention(width, shape), Residual(width, width, shape)]
        )
        up = []
        for level, multiplier in reversed(list(enumerate(shape.multipliers))):
            for _ in range(shape.blocks + 1):
                up.append([Residual(width + seen.pop(), width := shape.base * multiplier, shape)])
                up[-1] += [Attention(width, shape)] * attends[level]
            if level:
                up[-1].append(Residual(width, width, shape, "up") if shape.resblock_updown else Upsample(width))
        self.input_blocks = nn.ModuleList(nn.ModuleList(layers) for layers in down)
        self.output_blocks = nn.ModuleList(nn.ModuleList(layers) for layers in up)
        self.out = nn.Sequential(
            nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, shape.channels * (1 + shape.learn_sigma), 3, padding=1)
        )

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        half = self.shape.base // 2
        angles = t[:, None] * torch.tensor([10_000 ** (-i / half) for i in range(half)])
        embedding = self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=1))
        if self.shape.classes:
            embedding = embedding + self.label_emb(label)
        outputs, h = [], x
        for layers in self.input_blocks:
            for layer in layers:
                h = layer(h, embedding)
            outputs.append(h)
        for layer in self.middle_block:
            h = layer(h, embedding)
        for layers in self.output_blocks:
            h = torch.cat([h, outputs.pop()], dim=1)
            for layer in layers:
                h = layer(h, embedding)
        return self.out(h)


SHAPES = {
    "improved": Shape(classes=3, learn_sigma=True),
    "improved, unconditional": Shape(channels=3, multipliers=(1, 2, 3), blocks=2, attention=(4, 2), heads=2),
    "improved, without scale and shift": Shape(classes=2, learn_sigma=True, scale_shift=False, attention=()),
    "guided": Shape(
        multipliers=(1, 1, 2),
        attention=(1, 4),
        blocks=2,
        classes=4,
        learn_sigma=True,
        resblock_updown=True,
        new_order=True,
        head_channels=16,
    ),
    "guided, legacy order": Shape(
        multipliers=(2, 1), classes=2, learn_sigma=True, resblock_updown=True, head_channels=8, scale_shift=False
    ),
    "one level": Shape(multipliers=(1,), blocks=3, attention=(1,), heads=1, classes=1, learn_sigma=True),
}


def reference(shape: Shape) -> Reference:
    torch.manual_seed(0)
    return Reference(shape).eval()


def conventions(shape: Shape, rescale_timesteps: bool = True) -> Conventions:
    return Conventions(shape.heads, shape.head_channels, shape.new_order, rescale_timesteps)


ORIGIN = Provenance("elsewhere", "MIT", "mdiff-train import", "unknown")


def imported(path: Path, shape: Shape, **options) -> Checkpoint:
    given = {
        "name": "theirs",
        "image_size": 16,
        "schedule": improved_schedule("linear", 4000),
        "provenance": ORIGIN,
        "classes": "abcdefgh"[: shape.classes],
        "conventions": conventions(shape),
    }
    return import_model(path, **given | options)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Shape], Path]:
    """A file as the authors' training loop writes it."""

    def save(shape: Shape) -> Path:
        torch.save(reference(shape).state_dict(), tmp_path / "ema_0.9999_300000.pt")
        return tmp_path / "ema_0.9999_300000.pt"

    return save


@pytest.mark.parametrize("rescale_timesteps", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_an_imported_network_says_what_the_original_says(saved, name: str, rescale_timesteps: bool):
    shape = SHAPES[name]
    checkpoint = imported(saved(shape), shape, conventions=conventions(shape, rescale_timesteps))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, shape.channels, 16, 24, generator=generator)
    t, label = torch.tensor([0, 1234, 3999]), torch.randint(0, max(1, shape.classes), (3,), generator=generator)
    with torch.no_grad():
        theirs = reference(shape)(x, t * (1000 / 4000 if rescale_timesteps else 1.0), label)
        eps, v = checkpoint.denoiser()(x, t, label if shape.classes else None)
    assert theirs.std() > 0.1
    torch.testing.assert_close(eps, theirs[:, : shape.channels], rtol=0, atol=1e-5)
    assert (v is not None) == shape.learn_sigma
    if v is not None:
        torch.testing.assert_close(2 * v - 1, theirs[:, shape.channels :], rtol=0, atol=1e-5)


@pytest.mark.parametrize("change", [{"heads": 2}, {"new_attention_order": True}, {"rescale_timesteps": False}])
def test_the_conventions_matter(saved, change: dict):
    """Were one of them without effect, the test above would not notice it wrong."""
    shape = Shape()
    x, t = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(1)), torch.tensor([777])
    with torch.no_grad():
        right, wrong = (
            imported(saved(shape), shape, conventions=Conventions(**options)).denoiser()(x, t)[0]
            for options in ({}, change)
        )
    assert not torch.allclose(right, wrong, atol=1e-3)


def test_half_precision_and_safetensors_are_read_too(tmp_path: Path, saved):
    shape = SHAPES["improved"]
    state = {key: value.half() for key, value in reference(shape).state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    weights = imported(tmp_path / "model.safetensors", shape).part("ema")
    assert {value.dtype for value in weights.values()} == {torch.float32}
    torch.testing.assert_close(weights["stem.weight"], state["input_blocks.0.0.weight"].float())


def test_the_preset_of_duereth_is_improved_diffusion_s_network(tmp_path: Path):
    """Its options by table 2 and by that repository's defaults for 256 pixels, on data of 13 classes."""
    shape = Shape(
        base=128, multipliers=(1, 1, 2, 2, 4, 4), blocks=3, attention=(256 // 16,), classes=13, learn_sigma=True
    )
    with torch.device("meta"):
        state = StateDict(tmp_path, Reference(shape).state_dict())
    network = network_of(state, [""] * 13, 4000, Conventions())
    preset = load_config("duereth2023").model
    assert network == type(preset)(**vars(preset) | {"labels": 13})


def test_classes_beyond_those_named_are_left_out(saved):
    """improved-diffusion always has 1000."""
    checkpoint = imported(saved(SHAPES["guided"]), SHAPES["guided"], classes=("first", "second"))
    assert checkpoint.contract.classes == ("first", "second")
    original = reference(SHAPES["guided"]).label_emb.weight
    assert torch.equal(checkpoint.part("ema")["label.weight"], original[:2])


@pytest.mark.parametrize("steps", [1000, 4000])
def test_linear_schedules_are_scaled_to_their_steps(steps: int):
    """Whatever T is, the noise at a share of the way is much the same: the integral of β is."""
    schedule = improved_schedule("linear", steps)
    assert schedule.beta_first == pytest.approx(0.1 / steps)
    assert schedule.beta_last == pytest.approx(20 / steps)
    logarithm = np.log(schedule.build().alpha_bar[[steps // 2 - 1, steps - 1]])
    np.testing.assert_allclose(logarithm, np.log(NoiseSchedule.linear(1000).alpha_bar[[499, 999]]), rtol=0.01)


def test_the_presets_have_the_schedules_of_their_papers():
    preset = load_config("duereth2023").schedule
    theirs = improved_schedule("linear", 4000)
    assert (preset.kind, preset.timesteps) == (theirs.kind, theirs.timesteps)
    assert (preset.beta_first, preset.beta_last) == pytest.approx((theirs.beta_first, theirs.beta_last), rel=1e-12)


def test_schedules_that_were_never_trained_are_usage_errors():
    assert improved_schedule("cosine", 20) == ScheduleSpec("cosine", 20)
    with pytest.raises(UsageError, match="'sigmoid' is unknown: use linear or cosine"):
        improved_schedule("sigmoid", 1000)
    with pytest.raises(UsageError, match="it takes 21 steps"):
        improved_schedule("linear", 20)


# The command

ABOUT = ["--name", "theirs", "--image-size", 16, "--licence", "MIT", "--source", "github.com/openai/guided-diffusion"]
GUIDED = ["--classes", "a,b,c,d", "--head-channels", 16, "--new-attention-order"]


def test_the_command_makes_a_checkpoint_that_can_be_exported(mdiff_train, saved, tmp_path: Path):
    from mdiff_export.model import export_model

    out = tmp_path / "theirs.safetensors"
    options = ["--classes", "a,b", "--head-channels", 8, "--timesteps", 500, "--schedule", "cosine"]
    state = saved(SHAPES["guided, legacy order"])
    assert mdiff_train("import", state, out, *ABOUT, *options, "--no-rescale-timesteps") == 0
    checkpoint = Checkpoint.load(out)
    contract = checkpoint.contract
    assert (checkpoint.step, checkpoint.losses) == (0, ())
    assert (contract.name, contract.image_size, contract.channels, contract.phases) == ("theirs", (16, 16), 1, ())
    assert (contract.prediction, contract.classes, contract.null_class) == ("epsilon+variance", ("a", "b"), None)
    assert contract.schedule == ScheduleSpec("cosine", 500)
    assert checkpoint.network.timestep_scale == 1
    assert contract.provenance.licence == "MIT"
    assert contract.provenance.command.startswith("mdiff-train import ")
    assert checkpoint.part("model").keys() == checkpoint.part("ema").keys()

    exported = export_model(checkpoint, tmp_path / "repository", max_batch=3)
    assert (exported.folder / "1" / "model.onnx").is_file()
    assert exported.parity.difference < 1e-3


def test_an_imported_checkpoint_is_not_resumed(mdiff_train, saved, tmp_path: Path, capsys):
    out, image = tmp_path / "theirs.safetensors", tmp_path / "grey.npy"
    np.save(image, np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8))
    assert mdiff_train("import", saved(Shape(learn_sigma=True)), out, *ABOUT) == 0
    capsys.readouterr()
    fit = ["fit", image, out, "--resume", "--name", "theirs", "--licence", "MIT", "--source", "here"]
    sets = ("training.image_size=[16, 16]", "training.batch=2", "training.steps=3")
    assert mdiff_train(*fit, *(f"--set={override}" for override in sets)) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: the checkpoint ")
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("extra", "code", "message"),
    [
        ([*GUIDED, "--schedule", "sigmoid"], 2, "noise schedule 'sigmoid' is unknown"),
        ([*GUIDED, "--timesteps", 20], 2, "it takes 21 steps"),
        ([], 2, "has 4 classes: name those of its data"),
        (["--classes", "a,b,c,d,e", *GUIDED[2:]], 2, "has 4 classes, 5 are named"),
        ([*GUIDED, "--head-channels", 24], 2, "32 channels do not split into attention heads of 24 channels"),
        ([*GUIDED, "--image-size", 18], 2, "image size 18 must be a multiple of 4"),
        ([*GUIDED, "--name", "-x"], 4, "model name '-x'"),
    ],
)
def test_options_that_do_not_fit_are_one_line(mdiff_train, saved, tmp_path: Path, capsys, extra, code, message):
    out = tmp_path / "theirs.safetensors"
    assert mdiff_train("import", saved(SHAPES["guided"]), out, *ABOUT, *extra) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_an_existing_file_is_not_overwritten(mdiff_train, saved, tmp_path: Path, capsys):
    out = tmp_path / "precious.safetensors"
    out.write_bytes(b"precious")
    assert mdiff_train("import", saved(Shape()), out, *ABOUT) == 2
    assert f"{out} exists: choose another name" in capsys.readouterr().err
    assert out.read_bytes() == b"precious"


# Files that are something else


def without(key: str) -> Callable[[dict], dict]:
    return lambda state: {name: value for name, value in state.items() if name != key}


def with_(key: str, *shape: int) -> Callable[[dict], dict]:
    return lambda state: state | {key: torch.zeros(shape)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {"conv1.weight": torch.zeros(64, 3, 7, 7)} | state, "'conv1.weight' is no part of a U-Net"),
        (lambda state: {"state_dict": state}, "'state_dict' is no part of a U-Net"),
        (lambda state: state | {"out.2.weight": "many"}, "'out.2.weight' is no part of a U-Net"),
        (lambda state: {}, "not a state dict"),
        (lambda state: list(state.values()), "not a state dict"),
        (without("time_embed.0.weight"), "it has no 'time_embed.0.weight'"),
        (without("middle_block.1.qkv.bias"), "it has no 'middle_block.1.qkv.bias'"),
        (without("output_blocks.3.0.skip_connection.bias"), "it has no 'output_blocks.3.0.skip_connection.bias'"),
        (without("output_blocks.1.2.conv.weight"), "has no place|it has no|are not a U-Net's"),
        (lambda state: {k: v for k, v in state.items() if "output" not in k}, "0 output_blocks .* are not a U-Net's"),
        (with_("input_blocks.1.1.qkv.weight", 96, 32, 1), "it has no 'input_blocks.1.1.norm.weight'|has no place"),
        (with_("input_blocks.9.0.op.weight", 2), "'input_blocks.9.0.op.weight' has no place"),
        (with_("out.1.weight", 2), "'out.1.weight' has no place"),
        (with_("out.0.weight", 64), r"'out.0.weight' has the shape \(64,\), not \(32,\)"),
        (with_("out.2.weight", 3, 32, 3, 3), "from 1 channels to 3 .* is not one that predicts the noise"),
        (with_("time_embed.0.weight", 100, 32), "with a time embedding of 32 to 100 is not one"),
        (with_("time_embed.0.weight", 0, 0), "with a time embedding of 0 to 0 is not one"),
        (with_("time_embed.0.weight", 128), r"'time_embed.0.weight' has the shape \(128,\), not 2 dimensions"),
        (with_("input_blocks.3.0.out_layers.3.weight", 40, 40, 3, 3), r"\[32, 40\] channels are no multiples of 32"),
    ],
)
def test_a_state_dict_of_something_else_names_what_does_not_fit(tmp_path: Path, change: Callable, message: str):
    shape = SHAPES["improved"]
    torch.save(change(dict(reference(shape).state_dict())), tmp_path / "model.pt")
    with pytest.raises(DataError, match=message) as caught:
        imported(tmp_path / "model.pt", shape)
    assert str(caught.value).startswith(str(tmp_path / "model.pt"))
    assert "\n" not in str(caught.value)


class Payload:
    """Runs on unpickling, where that is allowed."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"not a model", pickle.dumps({"time_embed.0.weight": Payload()}), bytes(range(256)) * 9],
    ids=["empty", "zip", "text", "pickle", "noise"],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_of_something_else_is_a_data_error(tmp_path: Path, content: bytes, suffix: str):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a state dict of PyTorch or safetensors, or damaged"):
        imported(path, Shape())


def test_a_damaged_file_is_a_data_error_wherever_it_ends(saved):
    path = saved(Shape())
    content = path.read_bytes()
    for end in (1, 100, 5000, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(DataError, match="not a state dict of PyTorch or safetensors, or damaged"):
            imported(path, Shape())


def test_an_absent_file_is_a_data_error(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        imported(tmp_path / "absent.pt", Shape())
