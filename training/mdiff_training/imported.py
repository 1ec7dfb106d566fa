"""U-Nets of openai/improved-diffusion and openai/guided-diffusion, read into ours.

Both repositories save a bare state dict, with the names of their ``unet.py``. It tells the network's shape but for the
heads, the order of queries, keys and values, and what t is multiplied by (:class:`Conventions`).
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mdiff_core import DataError, ModelContract, Provenance, ScheduleSpec, UsageError
from mdiff_training.checkpoint import Checkpoint
from mdiff_training.unet import UNet, UNetConfig

_PARTS = re.compile(r"(time_embed|label_emb|input_blocks|middle_block|output_blocks|out)\.")
_GROUPS = 32
_BLOCK = {
    "norm_in": "in_layers.0",
    "conv_in": "in_layers.2",
    "embedding": "emb_layers.1",
    "norm_out": "out_layers.0",
    "conv_out": "out_layers.3",
    "skip": "skip_connection",
}
_ATTENTION = {"norm": "norm", "qkv": "qkv", "project": "proj_out"}


@dataclass(frozen=True)
class Conventions:
    """What a state dict does not tell; as improved-diffusion has it, if not said otherwise.

    Attributes:
        heads: attention heads of every level (``num_heads``); unused where ``head_channels`` is given.
        head_channels: channels of one head (``num_head_channels``); 0: an equal share of the level.
        new_attention_order: queries, keys and values of all heads are kept apart (``use_new_attention_order``),
            not those of each head together.
        rescale_timesteps: the network was told 1000 t/T, not t (``rescale_timesteps``).
    """

    heads: int = 4
    head_channels: int = 0
    new_attention_order: bool = False
    rescale_timesteps: bool = True


IMPROVED_DIFFUSION = Conventions()


@dataclass(frozen=True)
class StateDict:
    """Tensors by name, and the file they are from."""

    path: Path
    tensors: Mapping[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> StateDict:
        """Read a PyTorch file, unpickling nothing but tensors, or a safetensors file.

        Raises:
            DataError: the file is absent, damaged, or not the state dict of such a U-Net.
        """
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's doubts about a file that it then refuses
                safe = path.suffix == ".safetensors"
                state = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
        except (
            OSError,
            EOFError,
            RuntimeError,
            ValueError,
            KeyError,
            pickle.UnpicklingError,
            SafetensorError,
        ) as error:
            raise DataError(f"{path}: not a state dict of PyTorch or safetensors, or damaged") from error
        if not isinstance(state, dict) or not state:
            raise DataError(f"{path}: not a state dict")
        for key, value in state.items():
            if not isinstance(value, Tensor) or not _PARTS.match(str(key)):
                raise DataError(f"{path}: {key!r} is no part of a U-Net of improved-diffusion or guided-diffusion")
        return cls(path, state)

    def __getitem__(self, key: str) -> Tensor:
        if key not in self.tensors:
            raise DataError(f"{self.path}: not a U-Net of improved-diffusion or guided-diffusion, it has no {key!r}")
        return self.tensors[key]

    def __contains__(self, key: str) -> bool:
        return key in self.tensors

    def shape(self, key: str, dimensions: int) -> tuple[int, ...]:
        """Shape of a tensor that must have so many ``dimensions``."""
        shape = tuple(self[key].shape)
        if len(shape) != dimensions:
            raise DataError(f"{self.path}: {key!r} has the shape {shape}, not {dimensions} dimensions")
        return shape


def import_model(
    path: Path,
    *,
    name: str,
    image_size: int,
    schedule: ScheduleSpec,
    provenance: Provenance,
    classes: Sequence[str] = (),
    conventions: Conventions = IMPROVED_DIFFUSION,
) -> Checkpoint:
    """Read a U-Net that predicts ε, and v where it is learned, as a checkpoint that has taken no step.

    Args:
        path: the state dict.
        name: the model's, in a repository.
        image_size: edge of its images, pixels.
        schedule: of its training.
        provenance: of its weights.
        classes: names of its labels, in their order. Labels beyond them are left out: improved-diffusion has 1000,
            however many there are in the data.
        conventions: what the state dict does not tell.

    Raises:
        DataError: the file is not such a U-Net.
        UsageError: classes, heads or image size do not fit it.
        ContractError: name or classes cannot be used.
    """
    state = StateDict.read(path)
    network = network_of(state, classes, schedule.timesteps, conventions)
    if image_size % network.stride:
        raise UsageError(f"image size {image_size} must be a multiple of {network.stride}, as the network halves it")
    contract = ModelContract(
        name=name,
        image_size=(image_size, image_size),
        channels=network.channels,
        phases=(),
        schedule=schedule,
        prediction="epsilon+variance" if network.learned_variance else "epsilon",
        classes=tuple(classes),
        provenance=provenance,
    )
    weights = weights_of(state, network, conventions)
    tensors = {f"model.{key}": value for key, value in weights.items()}
    tensors |= {f"ema.{key}": value.clone() for key, value in weights.items()}
    return Checkpoint(contract, network, 0, (), tensors)


def improved_schedule(kind: str, timesteps: int) -> ScheduleSpec:
    """The ``linear`` or ``cosine`` schedule of both repositories (``get_named_beta_schedule``).

    The linear one is 1e-4 to 2e-2 for 1000 steps, and 1000/T times that for T.

    Raises:
        UsageError: another kind, or too few steps for a linear schedule.
    """
    if kind == "cosine":
        return ScheduleSpec("cosine", timesteps)
    if kind != "linear":
        raise UsageError(f"noise schedule {kind!r} is unknown: use linear or cosine")
    if timesteps <= 20:
        raise UsageError(f"a linear schedule of {timesteps} steps would need a beta of 1 or more: it takes 21 steps")
    return ScheduleSpec("linear", timesteps, 1000 / timesteps * 1e-4, 1000 / timesteps * 2e-2)


def network_of(state: StateDict, classes: Sequence[str], timesteps: int, conventions: Conventions) -> UNetConfig:
    """The shape of a network, from the shapes of its weights.

    Raises:
        DataError: they are not those of such a U-Net.
        UsageError: it has fewer classes than named or more than none, or heads that do not fill its levels.
    """
    embedding, base = state.shape("time_embed.0.weight", 2)
    _, channels, *_ = state.shape("input_blocks.0.0.weight", 4)
    outputs, *_ = state.shape("out.2.weight", 4)
    if not base or embedding != 4 * base or outputs not in (channels, 2 * channels):
        raise DataError(
            f"{state.path}: a network from {channels} channels to {outputs} with a time embedding of {base} to "
            f"{embedding} is not one that predicts the noise of its images"
        )
    count = len({key.split(".")[1] for key in state.tensors if key.startswith("output_blocks.")})
    ends = [i for i in range(count) if _grows(state, i)]
    stages = ends[0] + 1 if ends else count  # of a level on the way up: its blocks and one more
    if stages < 2 or count != stages * (len(ends) + 1):
        raise DataError(f"{state.path}: {count} output_blocks with upsampling after {ends} are not a U-Net's")
    levels = [1 + level * stages for level in range(len(ends) + 1)]  # first of each in input_blocks
    widths = [state.shape(f"input_blocks.{i}.0.out_layers.3.weight", 4)[0] for i in levels]
    if any(width % base for width in widths):
        raise DataError(f"{state.path}: levels of {widths} channels are no multiples of {base}")
    return UNetConfig(
        channels=channels,
        base_channels=base,
        multipliers=tuple(width // base for width in widths),
        blocks=stages - 1,
        attention=tuple(f"input_blocks.{i}.1.qkv.weight" in state for i in levels),
        heads=0 if conventions.head_channels else conventions.heads,
        head_channels=conventions.head_channels,
        norm_groups=_GROUPS,
        pixel_unshuffle=1,
        labels=_labels(state, classes),
        learned_variance=outputs == 2 * channels,
        scale_shift=state.shape(f"input_blocks.{levels[0]}.0.emb_layers.1.weight", 2)[0] == 2 * widths[0],
        resblock_updown=bool(ends) and f"input_blocks.{stages}.0.op.weight" not in state,
        timestep_scale=1000 / timesteps if conventions.rescale_timesteps else 1.0,
    )


def weights_of(state: StateDict, network: UNetConfig, conventions: Conventions) -> dict[str, Tensor]:
    """The weights under the names of our network, float32.

    Raises:
        DataError: one is missing, too many, or of another shape.
    """
    with torch.device("meta"):
        ours = UNet(network)
    expected = ours.state_dict()
    names = {f"{our}.{kind}": f"{their}.{kind}" for our, their in _layers(network) for kind in ("weight", "bias")}
    known = {names[key] for key in expected}
    for key in state.tensors:
        if key not in known:
            raise DataError(f"{state.path}: {key!r} has no place in the U-Net that the other weights make")
    weights = {}
    for key, place in expected.items():
        value = state[names[key]].to(torch.float32)
        if names[key] == "label_emb.weight":
            value = value[: network.labels].clone()
        shape = tuple(value.shape) + (1,) * (place.ndim - value.ndim)  # their attention is a convolution in 1D
        if shape != tuple(place.shape):
            raise DataError(f"{state.path}: {names[key]!r} has the shape {shape}, not {tuple(place.shape)}")
        value = value.reshape(shape)
        if ".attention.qkv." in key and not conventions.new_attention_order:
            value = _heads_last(value, network.heads_of(len(value) // 3)[0])
        weights[key] = value.contiguous()
    return weights


def _labels(state: StateDict, classes: Sequence[str]) -> int:
    known = state.shape("label_emb.weight", 2)[0] if "label_emb.weight" in state else 0
    if len(classes) > known:
        raise UsageError(f"{state.path} has {known or 'no'} classes, {len(classes)} are named")
    if known and not classes:
        raise UsageError(f"{state.path} has {known} classes: name those of its data, in the order of their labels")
    return len(classes)


def _grows(state: StateDict, block: int) -> bool:
    """Whether an output block ends with a step to the next finer level, after its attention if it has any."""
    where = f"output_blocks.{block}"
    return any(f"{where}.{i}.{kind}.weight" in state for i in (1, 2) for kind in ("conv", "in_layers.0"))


def _heads_last(value: Tensor, heads: int) -> Tensor:
    """Rows in the order [head][q, k, v][channel], to [q, k, v][head][channel]."""
    return value.reshape(heads, 3, -1, *value.shape[1:]).transpose(0, 1).reshape(value.shape)


def _layers(network: UNetConfig) -> Iterator[tuple[str, str]]:
    """Our name and theirs of every layer that a network of this shape can have."""
    stages, levels = network.blocks + 1, len(network.multipliers)
    yield from (("stem", "input_blocks.0.0"), ("time.0", "time_embed.0"), ("time.2", "time_embed.2"))
    yield from (("label", "label_emb"), ("norm", "out.0"), ("head", "out.2"))
    yield from _block("middle_in.block", "middle_block.0")
    yield from _attention("middle_in.attention", "middle_block.1")
    yield from _block("middle_out.block", "middle_block.2")
    for level in range(levels):
        for i in range(network.blocks):
            yield from _block(f"down.{level}.stages.{i}.block", f"input_blocks.{1 + level * stages + i}.0")
            yield from _attention(f"down.{level}.stages.{i}.attention", f"input_blocks.{1 + level * stages + i}.1")
        shrink = f"input_blocks.{(level + 1) * stages}.0"
        yield f"down.{level}.shrink", f"{shrink}.op"
        yield from _block(f"down.{level}.shrink", shrink)
    for level in range(levels):
        for i in range(stages):
            yield from _block(f"up.{level}.stages.{i}.block", f"output_blocks.{level * stages + i}.0")
            yield from _attention(f"up.{level}.stages.{i}.attention", f"output_blocks.{level * stages + i}.1")
        grow = f"output_blocks.{(level + 1) * stages - 1}.{2 if network.attention[levels - 1 - level] else 1}"
        yield f"up.{level}.grow.conv", f"{grow}.conv"
        yield from _block(f"up.{level}.grow", grow)


def _block(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for our, their in _BLOCK.items():
        yield f"{ours}.{our}", f"{theirs}.{their}"


def _attention(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for our, their in _ATTENTION.items():
        yield f"{ours}.{our}", f"{theirs}.{their}"
