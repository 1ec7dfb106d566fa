"""The U-Net: shapes, what it listens to, and the size the presets promise."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch.utils.flop_counter import FlopCounterMode

from mdiff_core import UsageError
from mdiff_core.contract import NOT_TOLD
from mdiff_training.config import load_config
from mdiff_training.unet import SelfAttention, UNet, UNetConfig, timestep_embedding

SMALL = {"base_channels": 8, "multipliers": (1, 2), "attention": (False, True), "head_channels": 8, "norm_groups": 4}


def awake(config: UNetConfig) -> UNet:
    """A network whose zeroed branches are filled, as training would, so that every input reaches the output."""
    torch.manual_seed(0)
    network = UNet(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return network


def images(batch: int, size: tuple[int, int], channels: int = 1) -> torch.Tensor:
    return torch.randn((batch, channels, *size), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("unshuffle", [1, 2])
@pytest.mark.parametrize(("labels", "fractions"), [(0, 0), (3, 0), (0, 1), (3, 2)])
@pytest.mark.parametrize("learned_variance", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_predictions_are_shaped_like_the_images(
    unshuffle: int, labels: int, fractions: int, learned_variance: bool, channels: int
):
    config = UNetConfig(
        **SMALL,
        channels=channels,
        pixel_unshuffle=unshuffle,
        labels=labels,
        fractions=fractions,
        learned_variance=learned_variance,
    )
    assert config.stride == 2 * unshuffle
    x, t = images(2, (4 * config.stride, 3 * config.stride), channels), torch.tensor([0, 999])
    label = torch.tensor([0, labels - 1]) if labels else None
    told = torch.tensor([[0.25] * fractions, [NOT_TOLD] * fractions]) if fractions else None
    with torch.no_grad():
        eps, v = awake(config)(x, t, label, told)
    assert eps.shape == x.shape
    assert (v is not None) == learned_variance
    assert v is None or v.shape == x.shape


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("multipliers", [(1,), (1, 2), (1, 1, 2, 2)])
def test_any_number_of_levels_and_blocks(multipliers: tuple[int, ...], blocks: int):
    config = UNetConfig(**SMALL | {"multipliers": multipliers, "attention": (True,) * len(multipliers)}, blocks=blocks)
    x = images(2, (2 * config.stride, config.stride))
    with torch.no_grad():
        assert awake(config)(x, torch.tensor([1, 2]))[0].shape == x.shape


@pytest.mark.parametrize("attention", [(False, False, False), (True, False, True), (False, True, False)])
def test_attention_follows_every_block_of_its_levels(attention: tuple[bool, ...]):
    """Down: one a block; up: one a block and one more; and one in the middle, whether the levels attend or not."""
    config = UNetConfig(**SMALL | {"multipliers": (1, 2, 3), "attention": attention}, blocks=2)
    widths = [m.qkv.in_channels for m in UNet(config).modules() if isinstance(m, SelfAttention)]
    for level, attends in enumerate(attention):
        assert widths.count(8 * (level + 1)) == (2 + 3) * attends + (level == 2)


def test_attention_reaches_across_the_image_where_convolutions_do_not():
    """Also from the middle alone, which attends in every network."""
    x = images(1, (32, 32))
    far = x.clone()
    far[..., -1, -1] += 10
    for levels_attend, middle_attends in ((True, True), (False, True), (False, False)):
        network = awake(UNetConfig(**SMALL | {"multipliers": (1,), "attention": (levels_attend,)}, pixel_unshuffle=1))
        if not middle_attends:
            network.middle_in.attention = torch.nn.Identity()
        # Group normalization reaches everywhere too: without it only the convolutions and the attention are left.
        for module in list(network.modules()):
            for name, child in module.named_children():
                if isinstance(child, torch.nn.GroupNorm):
                    setattr(module, name, torch.nn.Identity())
        with torch.no_grad():
            change = (network(far, torch.tensor([5]))[0] - network(x, torch.tensor([5]))[0]).abs()
        assert (change[..., 0, 0].item() > 0) == middle_attends
        assert change[..., -1, -1].item() > 0


@pytest.mark.parametrize(
    ("fields", "heads"),
    [
        ({"head_channels": 8}, {8: (1, 8), 16: (2, 8)}),
        ({"head_channels": 0, "heads": 4}, {8: (4, 2), 16: (4, 4)}),
        ({"head_channels": 16, "heads": 3}, {8: (3, 16), 16: (3, 16)}),
    ],
    ids=["of fixed channels", "of a fixed number", "of both"],
)
def test_attention_heads(fields: dict[str, int], heads: dict[int, tuple[int, int]]):
    """As many as fill the level; as wide as they share it; or both given, whatever the level's width."""
    config = UNetConfig(**SMALL | {"attention": (True, True)} | fields)
    network = awake(config)
    for module in network.modules():
        if isinstance(module, SelfAttention):
            width = module.qkv.in_channels
            number, channels = heads[width]
            assert config.heads_of(width) == (number, channels)
            assert (module.qkv.out_channels, module.project.in_channels) == (3 * number * channels, number * channels)
    with torch.no_grad():
        assert network(images(2, (8, 8)), torch.tensor([1, 2]))[0].shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    "fields", [{"head_channels": 4}, {"head_channels": 0, "heads": 2}, {"head_channels": 5, "heads": 3}]
)
def test_attention_is_that_of_every_head_by_itself(fields: dict[str, int]):
    """x + W [softmax(QᵀK/√d) Vᵀ of each head] + b (Vaswani et al. 2017, eq. 1), over all pixels of the image."""
    torch.manual_seed(0)
    attention = SelfAttention(8, UNetConfig(**SMALL | fields))
    torch.nn.init.normal_(attention.project.weight)
    x = torch.randn(1, 8, 3, 5)
    with torch.no_grad():
        found = attention(x)
        normed = attention.norm(x)
        pixels = normed.reshape(8, 15).double().numpy()
    weight, bias = (p.detach().double().numpy().squeeze() for p in (attention.qkv.weight, attention.qkv.bias))
    qkv = weight @ pixels + bias[:, None]
    heads, channels = attention.heads, attention.head_channels
    answers = []
    for head in range(heads):
        q, k, v = (qkv[(part * heads + head) * channels :][:channels] for part in range(3))
        answers.append((softmax(q.T @ k / math.sqrt(channels), axis=1) @ v.T).T)
    project = attention.project.weight.detach().double().numpy().squeeze()
    np.testing.assert_allclose(
        (found - x).reshape(8, 15).numpy(),
        project @ np.concatenate(answers) + attention.project.bias.detach().double().numpy()[:, None],
        atol=1e-4,
    )


def test_an_untrained_network_predicts_no_noise_and_the_middle_of_the_variances():
    network = UNet(UNetConfig(**SMALL, learned_variance=True))
    eps, v = network(images(2, (8, 8)), torch.tensor([3, 4]))
    assert torch.all(eps == 0)
    assert torch.all(v == 0.5)


def test_samples_of_a_batch_do_not_know_each_other():
    network = awake(UNetConfig(**SMALL, labels=2, fractions=2))
    x, t, label = images(3, (8, 8)), torch.tensor([0, 50, 999]), torch.tensor([0, 1, 1])
    fractions = torch.tensor([[0.1, 0.7], [NOT_TOLD, NOT_TOLD], [0.0, 0.3]])
    with torch.no_grad():
        together = network(x, t, label, fractions)[0]
        for i in range(3):
            alone = network(*(part[i : i + 1] for part in (x, t, label, fractions)))[0]
            torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


def test_step_and_label_change_the_prediction():
    network = awake(UNetConfig(**SMALL, labels=2))
    x, zero, one = images(1, (8, 8)), torch.tensor([0]), torch.tensor([1])
    with torch.no_grad():
        base = network(x, zero, zero)[0]
        assert not torch.allclose(base, network(x, one, zero)[0], atol=1e-4)
        assert not torch.allclose(base, network(x, zero, one)[0], atol=1e-4)


def test_every_fraction_changes_the_prediction_and_not_told_is_none_of_them():
    network = awake(UNetConfig(**SMALL, fractions=2))
    x, t = images(1, (8, 8)), torch.tensor([5])
    asked = [(0.2, 0.3), (0.4, 0.3), (0.2, 0.5), (0.0, 0.0), (NOT_TOLD, NOT_TOLD)]
    with torch.no_grad():
        answers = [network(x, t, fractions=torch.tensor([fractions]))[0] for fractions in asked]
    for i, one in enumerate(answers):
        for other in answers[:i]:
            assert (one - other).abs().max() > 1e-3


def test_what_is_learned_for_fractions_not_told_is_not_heard_where_they_are():
    network = awake(UNetConfig(**SMALL, fractions=1))
    assert network.fractions is not None
    x, t, fractions = images(2, (8, 8)), torch.tensor([5, 5]), torch.tensor([[0.3], [NOT_TOLD]])
    with torch.no_grad():
        before = network(x, t, fractions=fractions)[0]
        network.fractions.untold += 1
        after = network(x, t, fractions=fractions)[0]
    assert torch.equal(before[0], after[0])
    assert (before[1] - after[1]).abs().max() > 1e-3


def test_every_parameter_is_trained():
    config = UNetConfig(**SMALL | {"attention": (True, True)}, labels=2, fractions=2, learned_variance=True)
    fractions = torch.tensor([[0.5, 0.2], [NOT_TOLD, NOT_TOLD]])
    network = awake(config)
    eps, v = network(images(2, (8, 8)), torch.tensor([3, 700]), torch.tensor([0, 1]), fractions)
    (eps.square().mean() + v.square().mean()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_timestep_embedding_is_the_sinusoids_of_the_transformer():
    embedding = timestep_embedding(torch.tensor([0, 7, 999]), 6)
    for row, t in zip(embedding.double(), (0, 7, 999), strict=True):
        angles = [t * 10_000 ** (-i / 3) for i in range(3)]
        expected = [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
        assert row.tolist() == pytest.approx(expected, abs=1e-4)


def test_compact64_is_as_small_as_its_preset_says():
    network = UNet(load_config("compact64").model).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(1.9e6, rel=0.02)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images(1, (64, 64)), torch.tensor([5]))
    assert counter.get_total_flops() == pytest.approx(0.6e9, rel=0.05)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention": (True,)}, "attention names 1 levels, multipliers 3"),
        ({"norm_groups": 7}, "32 channels do not split into 7 normalization groups"),
        ({"head_channels": 36}, "96 channels do not split into attention heads of 36 channels"),
        ({"head_channels": 36, "attention": (False,) * 3}, "96 channels do not split into attention heads of 36"),
        ({"head_channels": 24, "attention": (True, False, False)}, "32 channels do not split into attention heads"),
        ({"head_channels": 0, "heads": 5}, "96 channels do not split into 5 heads of equal channels"),
        ({"head_channels": 0}, "must be positive"),
        ({"head_channels": 32, "heads": -1}, "must not be negative"),
        ({"head_channels": -8, "heads": 16}, "must not be negative"),
        ({"labels": -1}, "must not be negative"),
        ({"fractions": -1}, "must not be negative"),
        ({"dropout": 1.0}, "dropout 1.0 is not a probability below 1"),
        ({"base_channels": 15, "norm_groups": 5, "head_channels": 15}, "base_channels 15 is odd"),
        ({"base_channels": 0}, "must be positive"),
        ({"pixel_unshuffle": 0}, "must be positive"),
        ({"blocks": 0}, "must be positive"),
        ({"multipliers": (), "attention": ()}, "at least one level"),
    ],
)
def test_networks_that_cannot_be_built_are_usage_errors(fields: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        UNetConfig(**fields)


VARIANTS = {"residual steps between levels": {"resblock_updown": True}, "added embedding": {"scale_shift": False}}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_variants_see_all_they_are_given_and_train_all_they_have(options: dict):
    network = awake(UNetConfig(**SMALL | {"multipliers": (1, 2, 2), "attention": (False,) * 3}, labels=2, **options))
    x, t, label = images(2, (16, 24)), torch.tensor([3, 700]), torch.tensor([0, 1])
    eps, _ = network(x, t, label)
    assert eps.shape == x.shape
    for other in (network(x, t + 1, label), network(x, t, 1 - label)):
        assert not torch.allclose(eps, other[0], atol=1e-4)
    eps.square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_scaled_step_is_embedded_as_the_step_it_stands_for():
    config = UNetConfig(**SMALL)
    plain, scaled = awake(config), awake(dataclasses.replace(config, timestep_scale=0.25))
    x, t = images(2, (8, 8)), torch.tensor([0, 999])
    with torch.no_grad():
        assert torch.equal(scaled(x, 4 * t)[0], plain(x, t)[0])
        assert not torch.allclose(scaled(x, t)[0], plain(x, t)[0], atol=1e-4)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_a_timestep_scale_must_be_a_positive_number(scale: float):
    with pytest.raises(UsageError, match=f"timestep_scale {scale} is not a positive number"):
        UNetConfig(timestep_scale=scale)


def test_weights_keep_the_names_they_have_in_checkpoints():
    """Of the layers whose kind is an option; without one, they are those of the first models."""
    names = set(UNet(UNetConfig(**SMALL)).state_dict())
    assert {"down.0.shrink.weight", "up.0.grow.conv.weight", "down.0.stages.0.block.embedding.weight"} <= names
    assert not {name for name in names if "resample" in name}
