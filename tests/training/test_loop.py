"""The training loop: it learns, and an interruption leaves no trace."""

import csv
import dataclasses
import math
import os
import signal
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters as dynamo_counters

from mdiff_core import DataError, ModelContract, PermanentError, UsageError
from mdiff_training import precision
from mdiff_training.checkpoint import Checkpoint
from mdiff_training.config import TrainingConfig
from mdiff_training.data.digest import digest
from mdiff_training.data.micrographs import Batch, Micrographs
from mdiff_training.data.volumes import micrographs_of_phases
from mdiff_training.loop import learning_rate_factor, train
from mdiff_training.loss import Objective
from mdiff_training.stopping import Stopped
from mdiff_training.unet import UNet


class Interrupted(Micrographs):
    """Something happens when the batch after the first ``left`` ones is asked for."""

    left = 0
    what: int | type[BaseException] = 0

    def batch(self, size: int, tile: tuple[int, int], generator: torch.Generator) -> Batch:
        if type(self).left == 0:
            if isinstance(self.what, int):
                os.kill(os.getpid(), self.what)
            else:
                raise self.what
        type(self).left -= 1
        return super().batch(size, tile, generator)


class PowerCut(Exception):  # noqa: N818
    """Nothing can be saved any more."""


def interrupted(micrographs: Micrographs, after: int, what: int | type[BaseException] = PowerCut) -> Micrographs:
    """The same until, ``after`` so many batches, a signal comes or an exception is raised."""
    Interrupted.left, Interrupted.what = after, what
    return Interrupted(micrographs.stacks, micrographs.phases, micrographs.references)


def with_(config: TrainingConfig, model: dict[str, Any] | None = None, **training: Any) -> TrainingConfig:
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **model or {}),
        training=dataclasses.replace(config.training, **training),
    )


def held_out_loss(network: UNet, micrographs: Micrographs, contract: ModelContract) -> float:
    generator = torch.Generator().manual_seed(99)
    x0 = micrographs.batch(256, contract.image_size, generator).x0
    t = torch.randint(0, 100, (256,), generator=generator)
    objective = Objective(contract.schedule.build(), learned_variance=False)
    with torch.no_grad():
        return objective.terms(network, x0, t, torch.randn(x0.shape, generator=generator)).mean().item()


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    assert (one.step, one.losses, one.contract, one.network) == (
        other.step,
        other.losses,
        other.contract,
        other.network,
    )
    assert one.tensors.keys() == other.tensors.keys()
    assert [name for name, value in one.tensors.items() if not torch.equal(value, other.tensors[name])] == []


def furthest(one: Checkpoint, other: Checkpoint) -> float:
    """The largest difference of a weight."""
    return max((value - other.part("model")[name]).abs().max().item() for name, value in one.part("model").items())


def rows(log: Path) -> list[dict[str, str]]:
    with log.open(newline="") as file:
        return list(csv.DictReader(file))


def test_training_learns_and_a_resumed_run_is_the_run_that_was_never_interrupted(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    whole = train(tiny, cross, contract, tmp_path / "whole.safetensors", checkpoint_every=100)
    assert (whole.step, len(whole.losses)) == (200, 2)
    # Saying nothing loses 1. The image is known, so nothing need be lost: four fifths must be gone.
    assert whole.losses[1] < 0.5 * whole.losses[0]
    assert held_out_loss(whole.denoiser(), cross, contract) < 0.2
    assert_same(whole, Checkpoint.load(tmp_path / "whole.safetensors"))

    path = tmp_path / "resumed.safetensors"
    with pytest.raises(PowerCut):
        train(tiny, interrupted(cross, after=101), contract, path, checkpoint_every=100)
    assert Checkpoint.load(path).step == 100
    assert_same(train(tiny, cross, contract, path, resume=True), whole)


def test_dropout_is_resumed_too(tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path):
    config = with_(tiny, {"dropout": 0.3}, steps=12)
    whole = train(config, cross, contract, tmp_path / "whole.safetensors", checkpoint_every=4)
    with pytest.raises(PowerCut):
        train(config, interrupted(cross, after=10), contract, tmp_path / "resumed.safetensors", checkpoint_every=4)
    torch.rand(7)  # whatever else drew random numbers in the meantime
    assert_same(train(config, cross, contract, tmp_path / "resumed.safetensors", resume=True), whole)
    plain = train(with_(tiny, steps=12), cross, contract, tmp_path / "plain.safetensors")
    assert not torch.equal(plain.tensors["model.stem.weight"], whole.tensors["model.stem.weight"])


def test_what_was_learned_about_the_steps_is_resumed_too(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    """A schedule of two steps, so that importance sampling begins within a few batches."""
    contract = dataclasses.replace(contract, schedule=dataclasses.replace(contract.schedule, timesteps=2))
    config = with_(tiny, {"learned_variance": True}, steps=16, importance_sampling=True)
    whole = train(config, cross, contract, tmp_path / "whole.safetensors", checkpoint_every=8)
    history = whole.tensors["timesteps"]
    assert history.shape == (2, 10)
    assert (history > 0).all()
    with pytest.raises(PowerCut):
        train(config, interrupted(cross, after=11), contract, tmp_path / "resumed.safetensors", checkpoint_every=8)
    assert_same(train(config, cross, contract, tmp_path / "resumed.safetensors", resume=True), whole)
    even = train(with_(config, importance_sampling=False), cross, contract, tmp_path / "even.safetensors")
    assert furthest(even, whole) > 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_first_and_says_how_to_go_on(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path, number: signal.Signals, code: int
):
    path = tmp_path / "model.safetensors"
    handler = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped:
        train(tiny, interrupted(cross, 2, number), contract, path)
    assert stopped.value.exit_code == code
    assert str(stopped.value) == (
        f"stopped by {number.name}: {path} keeps step 3; the same command with --resume goes on from it"
    )
    assert Checkpoint.load(path).step == 3  # the step in which it came was finished
    assert signal.getsignal(number) == handler


def test_a_stop_in_the_middle_of_a_window_leaves_no_trace_in_weights_or_log(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    config = with_(tiny, steps=120)
    whole = train(config, cross, contract, tmp_path / "whole.safetensors", log=tmp_path / "whole.csv")
    path, log = tmp_path / "stopped.safetensors", tmp_path / "stopped.csv"
    with pytest.raises(Stopped):
        train(config, interrupted(cross, 60, signal.SIGTERM), contract, path, log=log)
    assert_same(train(config, cross, contract, path, resume=True, log=log), whole)
    for before, after in zip(rows(tmp_path / "whole.csv"), rows(log), strict=True):
        for column in ("step", "loss", "learning_rate", "gradient_norm"):
            assert before[column] == after[column]


def test_a_signal_in_the_last_step_changes_nothing(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    config = with_(tiny, steps=3)
    assert train(config, interrupted(cross, 2, signal.SIGTERM), contract, tmp_path / "last.safetensors").step == 3


def test_the_log_has_a_row_for_each_window_and_for_the_end(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    config, log = with_(tiny, steps=150, clip_norm=1e6), tmp_path / "log.csv"
    trained = train(config, cross, contract, tmp_path / "model.safetensors", log=log)
    first, end = rows(log)
    assert (first["step"], end["step"]) == ("100", "150")
    assert list(first) == ["step", "loss", "images_per_s", "learning_rate", "gradient_norm", "seconds"]
    assert float(first["loss"]) == pytest.approx(trained.losses[0], rel=1e-5)
    assert float(end["loss"]) == pytest.approx(trained.tensors["window"][:, 0].mean().item(), rel=1e-5)
    rates = [5e-3 * learning_rate_factor(step, 10, 150) for step in (99, 149)]
    assert [float(row["learning_rate"]) for row in (first, end)] == pytest.approx(rates, rel=1e-5)
    assert 0 < float(end["gradient_norm"]) < float(first["gradient_norm"])
    # The rate is over the steps since the last row; between the rows there is nothing but them.
    seconds = [float(first["seconds"]), float(end["seconds"]) - float(first["seconds"])]
    assert [float(row["images_per_s"]) for row in (first, end)] == pytest.approx(
        [8 * 100 / seconds[0], 8 * 50 / seconds[1]], rel=0.2
    )


def test_rows_that_a_lost_run_had_written_are_dropped(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    path, log = tmp_path / "model.safetensors", tmp_path / "log.csv"
    with pytest.raises(PowerCut):
        train(with_(tiny, steps=220), interrupted(cross, 205), contract, path, checkpoint_every=120, log=log)
    written = rows(log)
    assert [row["step"] for row in written] == ["100", "200"]
    train(with_(tiny, steps=130), cross, contract, path, resume=True, log=log)
    resumed = rows(log)
    assert resumed[0] == written[0]
    assert [row["step"] for row in resumed] == ["100", "130"]
    assert float(resumed[1]["seconds"]) > float(resumed[0]["seconds"])


def test_samples_are_measured_and_pictured_while_training(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    path, log = tmp_path / "model.safetensors", tmp_path / "log.csv"
    config = with_(tiny, {"dropout": 0.3}, steps=13)
    sampled = train(config, cross, contract, path, sample_every=6, log=log)
    table = rows(log)
    assert [row["step"] for row in table] == ["6", "12", "13"]
    assert all(float(row["s2_error_cross"]) > 0 and float(row["lp_error_matrix"]) > 0 for row in table)
    pictures = sorted(picture.name for picture in (tmp_path / "model.samples").iterdir())
    assert pictures == ["000006.png", "000012.png", "000013.png"]
    assert_same(sampled, train(config, cross, contract, tmp_path / "unwatched.safetensors"))


def test_a_row_without_samples_leaves_their_columns_empty(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    log = tmp_path / "log.csv"
    train(with_(tiny, steps=102), cross, contract, tmp_path / "model.safetensors", sample_every=101, log=log)
    assert [(row["step"], row["s2_error_cross"] == "") for row in rows(log)] == [
        ("100", True),
        ("101", False),
        ("102", False),
    ]


def test_micro_batches_make_the_step_that_the_whole_batch_makes(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    """But for rounding; clipping and weights see the gradient of the whole batch. Adam divides by gradients of 1e-8."""
    contract = dataclasses.replace(contract, schedule=dataclasses.replace(contract.schedule, timesteps=2))
    config = with_(tiny, {"learned_variance": True}, steps=10, importance_sampling=True, clip_norm=0.1)
    whole, parts, other = (
        train(with_(config, **change), cross, contract, tmp_path / f"{name}.safetensors")
        for name, change in (("whole", {}), ("parts", {"accumulate": 4}), ("other", {"seed": 4}))
    )
    assert furthest(whole, parts) < 1e-5
    assert furthest(whole, other) > 1e-2
    torch.testing.assert_close(parts.tensors["window"], whole.tensors["window"], rtol=1e-5, atol=0)
    torch.testing.assert_close(parts.tensors["timesteps"], whole.tensors["timesteps"], rtol=1e-5, atol=0)


def test_a_compiled_network_trains_as_it_would_and_keeps_its_names(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Traced and differentiated by torch.compile, but run by operators that need no C++ compiler and no minutes."""
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="aot_eager"))
    plain = train(with_(tiny, steps=3), cross, contract, tmp_path / "plain.safetensors")
    dynamo_counters.clear()
    compiled = train(with_(tiny, steps=3, compile=True), cross, contract, tmp_path / "compiled.safetensors")
    assert dynamo_counters["stats"]["unique_graphs"] > 0
    assert compiled.tensors.keys() == plain.tensors.keys()
    assert furthest(compiled, plain) < 1e-4


def test_a_run_that_diverges_ends_and_keeps_what_was_good(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    """Weights are lost in step 6, saved, and seen to be lost in step 7."""
    path, previous = tmp_path / "model.safetensors", tmp_path / "model.previous.safetensors"
    train(with_(tiny, steps=5), cross, contract, path)
    good = path.read_bytes()
    mad = with_(tiny, steps=20, learning_rate=1e30)
    with pytest.raises(PermanentError) as diverged:
        train(mad, cross, contract, path, resume=True, checkpoint_every=2)
    assert str(diverged.value).startswith("training diverged at step 7 (loss ")
    assert f": {path} keeps step 6 and {previous} an older one; go on " in str(diverged.value)
    assert "learning_rate below 1e+30" in str(diverged.value)
    assert Checkpoint.load(path).step == 6
    assert previous.read_bytes() == good

    previous.replace(path)
    train(with_(tiny, steps=7), cross, contract, path, resume=True, checkpoint_every=1)
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_that_diverges_at_once_leaves_nothing(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    with pytest.raises(PermanentError, match=r"at step 2 .*: no checkpoint was saved yet; .* or with bf16=false$"):
        train(with_(tiny, steps=9, learning_rate=1e30, bf16=True), cross, contract, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_diverges_under_importance_sampling_says_so_too(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    """Of two steps t, each has its ten losses before the run is looked at; losses that are lost are no likelihoods."""
    contract = dataclasses.replace(contract, schedule=dataclasses.replace(contract.schedule, timesteps=2))
    config = with_(tiny, {"learned_variance": True}, steps=20, importance_sampling=True, learning_rate=1e30)
    with pytest.raises(PermanentError, match="training diverged at step"):
        train(config, cross, contract, tmp_path / "model.safetensors")


def test_a_seed_is_a_run(tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path):
    first, again, other = (
        train(with_(tiny, steps=3, seed=seed), cross, contract, tmp_path / f"{i}.safetensors")
        for i, seed in enumerate((1, 1, 2))
    )
    assert_same(first, again)
    assert not torch.equal(first.tensors["model.stem.weight"], other.tensors["model.stem.weight"])


def test_the_first_step_is_adamw_s_and_the_average_follows_it(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
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


def test_gradients_are_clipped(tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path):
    """The first moment after one step is (1 − β₁) times the gradient."""
    norms = {}
    for clip in (1e-3, 1e6):
        trained = train(with_(tiny, steps=1, clip_norm=clip), cross, contract, tmp_path / f"{clip}.safetensors")
        norms[clip] = math.sqrt(sum(m.square().sum().item() for m in trained.part("first").values())) / 0.1
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-3)
    assert norms[1e6] > 1e-2


def test_bfloat16_trains_single_precision_weights(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(precision, "computes_bfloat16", lambda device: True)
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
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    assert train(with_(tiny, steps=1), cross, contract, tmp_path / "new.safetensors", resume=True).step == 1


def test_resuming_a_finished_run_changes_nothing(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    path = tmp_path / "done.safetensors"
    done = train(with_(tiny, steps=4), cross, contract, path)
    for steps in (4, 2):
        assert_same(train(with_(tiny, steps=steps), cross, contract, path, resume=True), done)
    assert_same(Checkpoint.load(path), done)


def test_an_existing_checkpoint_is_not_overwritten(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    path = tmp_path / "precious.safetensors"
    path.write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists: continue it with --resume, or choose another name"):
        train(tiny, cross, contract, path)
    assert path.read_bytes() == b"precious"


def test_a_checkpoint_of_another_network_is_not_resumed(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    path = tmp_path / "small.safetensors"
    train(with_(tiny, steps=1), cross, contract, path)
    with pytest.raises(UsageError, match="belongs to another network"):
        train(with_(tiny, {"base_channels": 16}), cross, contract, path, resume=True)


def test_other_images_of_the_same_material_are_not_resumed_with(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    """Slices along another axis: references, and all else that the contract tells, are the same."""
    volume = (np.random.default_rng(0).random((8, 8, 8)) < 0.5).astype(np.uint8)
    along_z, along_x = (micrographs_of_phases([volume], ("matrix", "cross"), axis=a, tile=(8, 8)) for a in (0, 2))
    assert along_z.references == along_x.references
    path, config = tmp_path / "model.safetensors", with_(tiny, steps=2)
    train(with_(tiny, steps=1), along_z, contract, path)
    with pytest.raises(UsageError, match="was trained on other images: resume with the same files, read the same way"):
        train(config, along_x, contract, path, resume=True)
    assert Checkpoint.load(path).step == 1
    again = micrographs_of_phases([volume.copy()], ("matrix", "cross"), tile=(8, 8))
    assert train(config, again, contract, path, resume=True).data == digest(along_z)


def test_a_checkpoint_that_does_not_know_its_data_is_resumed(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    path = tmp_path / "older.safetensors"
    dataclasses.replace(train(with_(tiny, steps=1), cross, contract, path), data="").save(path)
    assert train(with_(tiny, steps=2), cross, contract, path, resume=True).data == digest(cross)


def test_a_missing_folder_is_noticed_before_training(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    with pytest.raises(DataError, match="cannot be written"):
        train(tiny, interrupted(cross, after=0), contract, tmp_path / "absent" / "model.safetensors")


def test_pictures_that_cannot_be_written_are_noticed_before_training(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path
):
    (tmp_path / "model.samples").touch()
    with pytest.raises(DataError, match=r"model.samples.* cannot be written \(Not a directory\)"):
        train(tiny, interrupted(cross, after=0), contract, tmp_path / "model.safetensors", sample_every=1)
    train(with_(tiny, steps=1), cross, contract, tmp_path / "model.safetensors")


@pytest.mark.parametrize("steps", [6, 9])
def test_a_picture_that_fails_costs_no_training(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path, steps: int
):
    """In step 6, which is the last or one that is saved."""
    path, config = tmp_path / "model.safetensors", with_(tiny, steps=steps)
    (tmp_path / "model.samples" / "000006.png").mkdir(parents=True)
    with pytest.raises(DataError, match=r"000006.png: cannot be written"):
        train(config, cross, contract, path, checkpoint_every=6, sample_every=6)
    assert Checkpoint.load(path).step == 6
    assert list(tmp_path.glob("*.safetensors")) == [path]
    whole = train(config, cross, contract, tmp_path / "whole.safetensors")
    assert_same(train(config, cross, contract, path, resume=True), whole)


@pytest.mark.parametrize("device", ["warp", *([] if torch.cuda.is_available() else ["cuda"])])
def test_a_device_that_is_not_there_is_a_usage_error(
    tiny: TrainingConfig, cross: Micrographs, contract: ModelContract, tmp_path: Path, device: str
):
    with pytest.raises(UsageError, match=f"torch cannot use the device '{device}'"):
        train(tiny, cross, contract, tmp_path / "model.safetensors", device=device)
