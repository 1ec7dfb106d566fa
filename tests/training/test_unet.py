"""The U-Net: shapes, what it listens to, and the size the presets promise."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mdiff_core import UsageError
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
@pytest.mark.parametrize("labels", [0, 3])
@pytest.mark.parametrize("learned_variance", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_predictions_are_shaped_like_the_images(unshuffle: int, labels: int, learned_variance: bool, channels: int):
    config = UNetConfig(
        **SMALL, channels=channels, pixel_unshuffle=unshuffle, labels=labels, learned_variance=learned_variance
    )
    assert config.stride == 2 * unshuffle
    x, t = images(2, (4 * config.stride, 3 * config.stride), channels), torch.tensor([0, 999])
    with torch.no_grad():
        eps, v = awake(config)(x, t, torch.tensor([0, labels - 1]) if labels else None)
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
    """Down: one a block; up: one a block and one more; and one in the middle if the coarsest level attends."""
    config = UNetConfig(**SMALL | {"multipliers": (1, 2, 3), "attention": attention}, blocks=2)
    widths = [m.qkv.in_channels for m in UNet(config).modules() if isinstance(m, SelfAttention)]
    for level, attends in enumerate(attention):
        expected = (2 + 3) * attends + (level == 2 and attends)
        assert widths.count(8 * (level + 1)) == expected


def test_attention_reaches_across_the_image_where_convolutions_do_not():
    x = images(1, (32, 32))
    far = x.clone()
    far[..., -1, -1] += 1
    for attends in (False, True):
        config = UNetConfig(
            base_channels=8, multipliers=(1,), attention=(attends,), head_channels=8, norm_groups=4, pixel_unshuffle=1
        )
        network = awake(config)
        # Group normalization reaches everywhere too: without it only the convolutions and the attention are left.
        for module in list(network.modules()):
            for name, child in module.named_children():
                if isinstance(child, torch.nn.GroupNorm):
                    setattr(module, name, torch.nn.Identity())
        with torch.no_grad():
            change = (network(far, torch.tensor([5]))[0] - network(x, torch.tensor([5]))[0]).abs()
        assert (change[..., 0, 0].item() > 0) == attends
        assert change[..., -1, -1].item() > 0


def test_an_untrained_network_predicts_no_noise_and_the_middle_of_the_variances():
    network = UNet(UNetConfig(**SMALL, learned_variance=True))
    eps, v = network(images(2, (8, 8)), torch.tensor([3, 4]))
    assert torch.all(eps == 0)
    assert torch.all(v == 0.5)


def test_samples_of_a_batch_do_not_know_each_other():
    network = awake(UNetConfig(**SMALL, labels=2))
    x, t, label = images(3, (8, 8)), torch.tensor([0, 50, 999]), torch.tensor([0, 1, 1])
    with torch.no_grad():
        together = network(x, t, label)[0]
        for i in range(3):
            alone = network(x[i : i + 1], t[i : i + 1], label[i : i + 1])[0]
            torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


def test_step_and_label_change_the_prediction():
    network = awake(UNetConfig(**SMALL, labels=2))
    x, zero, one = images(1, (8, 8)), torch.tensor([0]), torch.tensor([1])
    with torch.no_grad():
        base = network(x, zero, zero)[0]
        assert not torch.allclose(base, network(x, one, zero)[0], atol=1e-4)
        assert not torch.allclose(base, network(x, zero, one)[0], atol=1e-4)


def test_every_parameter_is_trained():
    network = awake(UNetConfig(**SMALL | {"attention": (True, True)}, labels=2, learned_variance=True))
    eps, v = network(images(2, (8, 8)), torch.tensor([3, 700]), torch.tensor([0, 1]))
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
        ({"head_channels": 36}, "96 channels do not split into heads of 36"),
        ({"base_channels": 15, "norm_groups": 5, "head_channels": 15}, "base_channels 15 is odd"),
        ({"base_channels": 0}, "must be positive"),
        ({"pixel_unshuffle": 0}, "must be positive"),
        ({"blocks": 0}, "must be positive"),
        ({"multipliers": (), "attention": ()}, "at least one level"),
    ],
)
def test_networks_that_cannot_be_built_are_usage_errors(fields: dict, message: str):
    with pytest.raises(UsageError, match=message):
        UNetConfig(**fields)
