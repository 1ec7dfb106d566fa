"""The training loop: it learns, and an interruption leaves no trace."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from mdiff_core import DataError, ModelContract, UsageError
from mdiff_training.checkpoint import Checkpoint
from mdiff_training.config import TrainingConfig
from mdiff_training.loop import learning_rate_factor, train
from mdiff_training.loss import simple_loss
from mdiff_training.slices import Slices
from mdiff_training.unet import UNet


class InterruptedSlices(Slices):
    """Ctrl-C when the batch after the first ``left`` ones is asked for."""

    left = 0

    def batch(self, size: int, tile: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        type(self).left -= 1
        if type(self).left < 0:
            raise KeyboardInterrupt
        return super().batch(size, tile, generator)


def interrupted(slices: Slices, after: int) -> InterruptedSlices:
    InterruptedSlices.left = after
    return InterruptedSlices(slices.images, slices.phases, slices.references)


def with_(config: TrainingConfig, model: dict[str, Any] | None = None, **training: Any) -> TrainingConfig:
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **model or {}),
        training=dataclasses.replace(config.training, **training),
    )


def held_out_loss(network: UNet, slices: Slices, contract: ModelContract) -> float:
    generator = torch.Generator().manual_seed(99)
    x0 = slices.batch(256, contract.image_size, generator)
    t = torch.randint(0, 100, (256,), generator=generator)
    alpha_bar = torch.from_numpy(contract.schedule.build().alpha_bar).float()
    with torch.no_grad():
        return simple_loss(
            lambda x, t: network(x, t)[0], x0, t, torch.randn(x0.shape, generator=generator), alpha_bar
        ).item()


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    assert (one.step, one.losses, one.contract, one.network) == (
        other.step,
        other.losses,
        other.contract,
        other.network,
    )
    assert one.tensors.keys() == other.tensors.keys()
    assert [name for name, value in one.tensors.items() if not torch.equal(value, other.tensors[name])] == []


def test_training_learns_and_a_resumed_run_is_the_run_that_was_never_interrupted(
    tiny: TrainingConfig, cross: Slices, contract: ModelContract, tmp_path: Path
):
    whole = train(tiny, cross, contract, tmp_path / "whole.safetensors", checkpoint_every=100)
    assert (whole.step, len(whole.losses)) == (200, 2)
    # Saying nothing loses 1. The image is known, so nothing need be lost: four fifths must be gone.
    assert whole.losses[1] < 0.5 * whole.losses[0]
    assert held_out_loss(whole.denoiser(), cross, contract) < 0.2
    assert_same(whole, Checkpoint.load(tmp_path / "whole.safetensors"))

    path = tmp_path / "resumed.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(tiny, interrupted(cross, after=101), contract, path, checkpoint_every=100)
    assert Checkpoint.load(path).step == 100
    assert_same(train(tiny, cross, contract, path, resume=True), whole)


def test_dropout_is_resumed_too(tiny: TrainingConfig, cross: Slices, contract: ModelContract, tmp_path: Path):
    config = with_(tiny, {"dropout": 0.3}, steps=12)
    whole = train(config, cross, contract, tmp_path / "whole.safetensors", checkpoint_every=4)
    with pytest.raises(KeyboardInterrupt):
        train(config, interrupted(cross, after=10), contract, tmp_path / "resumed.safetensors", checkpoint_every=4)
    torch.rand(7)  # whatever else drew random numbers in the meantime
    assert_same(train(config, cross, contract, tmp_path / "resumed.safetensors", resume=True), whole)
    plain = train(with_(tiny, steps=12), cross, contract, tmp_path / "plain.safetensors")
    assert not torch.equal(plain.tensors["model.stem.weight"], whole.tensors["model.stem.weight"])


def test_a_seed_is_a_run(tiny: TrainingConfig, cross: Slices, contract: ModelContract, tmp_path: Path):
    first, again, other = (
        train(with_(tiny, steps=3, seed=seed), cross, contract, tmp_path / f"{i}.safetensors")
        for i, seed in enumerate((1, 1, 2))
    )
    assert_same(first, again)
    assert not torch.equal(first.tensors["model.stem.weight"], other.tensors["model.stem.weight"])


def test_the_first_step_is_adamw_s_and_the_average_follows_it(
    tiny: TrainingConfig, cross: Slices, contract: ModelContract, tmp_path: Path
):
    """Adam's first step is the learning rate, against the sign of the gradient; the average keeps a tenth of the start.

    A fresh network predicts no noise, so only its head has a gradient, and weight decay shrinks what is not zero.
    """
    config = with_(tiny, steps=1, learning_rate=1e-3, warmup_steps=4, weight_decay=0.5, ema=0.999)
    trained = train(config, cross, contract, tmp_path / "one.safetensors")
    torch.manual_seed(config.training.seed)
    start = UNet(config.model).state_dict()
    rate = 1e-3 / 4
    head = trained.part("model")["head.weight"]
    torch.testing.assert_close(head.abs(), torch.full_like(head, rate), rtol=1e-3, atol=0)
    stem = trained.part("model")["stem.weight"]
    torch.testing.assert_close(stem, (1 - rate * 0.5) * start["stem.weight"])
    for name, value in trained.part("ema").items():
        torch.testing.assert_close(value, 0.1 * start[name] + 0.9 * trained.part("model")[name])


def test_gradients_are_clipped(tiny: TrainingConfig, cross: Slices, contract: ModelContract, tmp_path: Path):
    """The first moment after one step is (1 − β₁) times the gradient."""
    norms = {}
    for clip in (1e-3, 1e6):
        trained = train(with_(tiny, steps=1, clip_norm=clip), cross, contract, tmp_path / f"{clip}.safetensors")
        norms[clip] = math.sqrt(sum(m.square().sum().item() for m in trained.part("first").values())) / 0.1
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-3)
    assert norms[1e6] > 1e-2


def test_bfloat16_trains_single_precision_weights(
    tiny: TrainingConfig, cross: Slices, contract: ModelContract, tmp_path: Path
):
    trained = train(with_(tiny, steps=3, bf16=True), cross, contract, tmp_path / "bf16.safetensors")
    assert {value.dtype for value in trained.tensors.values()} == {torch.float32}
    assert all(torch.isfinite(value).all() for value in trained.tensors.values())


def test_learning_rate_warms_up_linearly_and_falls_along_a_cosine():
    factors = [learning_rate_factor(step, 100, 1100) for step in range(1100)]
    assert factors[0] == 0.01
    assert factors[49] == 0.5
    assert factors[100] == 1
    assert factors[350] == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert factors[600] == pytest.approx(0.5)
    assert 0 < factors[-1] < 1e-5
    assert factors[100:] == sorted(factors[100:], reverse=True)
    assert learning_rate_factor(0, 0, 10) == 1


def test_resuming_where_there_is_nothing_starts(
    tiny: TrainingConfig, cross: Slices, contract: ModelContract, tmp_path: Path
):
    assert train(with_(tiny, steps=1), cross, contract, tmp_path / "new.safetensors", resume=True).step == 1


def test_resuming_a_finished_run_changes_nothing(
    tiny: TrainingConfig, cross: Slices, contract: ModelContract, tmp_path: Path
):
    path = tmp_path / "done.safetensors"
    done = train(with_(tiny, steps=4), cross, contract, path)
    for steps in (4, 2):
        assert_same(train(with_(tiny, steps=steps), cross, contract, path, resume=True), done)
    assert_same(Checkpoint.load(path), done)


def test_an_existing_checkpoint_is_not_overwritten(
    tiny: TrainingConfig, cross: Slices, contract: ModelContract, tmp_path: Path
):
    path = tmp_path / "precious.safetensors"
    path.write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists: continue it with --resume, or choose another name"):
        train(tiny, cross, contract, path)
    assert path.read_bytes() == b"precious"


def test_a_checkpoint_of_another_network_is_not_resumed(
    tiny: TrainingConfig, cross: Slices, contract: ModelContract, tmp_path: Path
):
    path = tmp_path / "small.safetensors"
    train(with_(tiny, steps=1), cross, contract, path)
    with pytest.raises(UsageError, match="belongs to another network"):
        train(with_(tiny, {"base_channels": 16}), cross, contract, path, resume=True)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"learned_variance": True}, "neither a learned variance nor classes"),
        ({"labels": 2}, "neither a learned variance nor classes"),
        ({"channels": 3}, "slices have one channel"),
    ],
)
def test_networks_the_objective_does_not_train_are_refused(
    tiny: TrainingConfig, cross: Slices, contract: ModelContract, tmp_path: Path, model: dict[str, Any], message: str
):
    with pytest.raises(UsageError, match=message):
        train(with_(tiny, model), cross, contract, tmp_path / "model.safetensors")


def test_a_missing_folder_is_noticed_before_training(
    tiny: TrainingConfig, cross: Slices, contract: ModelContract, tmp_path: Path
):
    with pytest.raises(DataError, match="cannot be written"):
        train(tiny, interrupted(cross, after=0), contract, tmp_path / "absent" / "model.safetensors")


@pytest.mark.parametrize("device", ["warp", *([] if torch.cuda.is_available() else ["cuda"])])
def test_a_device_that_is_not_there_is_a_usage_error(
    tiny: TrainingConfig, cross: Slices, contract: ModelContract, tmp_path: Path, device: str
):
    with pytest.raises(UsageError, match=f"torch cannot use the device '{device}'"):
        train(tiny, cross, contract, tmp_path / "model.safetensors", device=device)
