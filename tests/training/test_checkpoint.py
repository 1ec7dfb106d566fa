"""Checkpoints: what is written is read, and nothing else is taken for one."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mdiff_core import ContractError, DataError, ModelContract
from mdiff_training.checkpoint import Checkpoint, Keeper
from mdiff_training.config import TrainingConfig
from mdiff_training.unet import UNet


@pytest.fixture
def checkpoint(tiny: TrainingConfig, contract: ModelContract) -> Checkpoint:
    generator = torch.Generator().manual_seed(0)
    weights = UNet(tiny.model).state_dict()
    tensors = {
        f"{part}.{name}": torch.randn(value.shape, generator=generator)
        for part in ("model", "ema", "first", "second")
        for name, value in weights.items()
    }
    return Checkpoint(contract, tiny.model, 1234, (0.5, 0.25), tensors, data="c0ffee")


def test_round_trip(checkpoint: Checkpoint, tmp_path: Path):
    path = tmp_path / "model.safetensors"
    checkpoint.save(path)
    read = Checkpoint.load(path)
    assert dataclasses.replace(read, tensors={}) == dataclasses.replace(checkpoint, tensors={})
    assert read.tensors.keys() == checkpoint.tensors.keys()
    assert all(torch.equal(read.tensors[name], value) for name, value in checkpoint.tensors.items())
    assert list(tmp_path.iterdir()) == [path]


def test_saving_replaces_the_older_checkpoint(checkpoint: Checkpoint, tmp_path: Path):
    path = tmp_path / "model.safetensors"
    checkpoint.save(path)
    dataclasses.replace(checkpoint, step=2000).save(path)
    assert Checkpoint.load(path).step == 2000


def test_the_contract_can_be_read_without_mdiff(checkpoint: Checkpoint, tmp_path: Path):
    checkpoint.save(tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["contract"])["name"] == "cross8"


def test_the_denoiser_has_the_averaged_weights_and_is_evaluated(checkpoint: Checkpoint):
    denoiser = checkpoint.denoiser()
    assert not denoiser.training
    for name, value in denoiser.network.state_dict().items():
        assert torch.equal(value, checkpoint.tensors[f"ema.{name}"])


def test_weights_are_known_by_the_names_and_values_of_the_average_alone(checkpoint: Checkpoint):
    digest = hashlib.sha256()
    for name in sorted(UNet(checkpoint.network).state_dict()):
        digest.update(name.encode() + bytes(checkpoint.tensors[f"ema.{name}"].flatten().view(torch.uint8).tolist()))
    assert checkpoint.weights_sha256() == digest.hexdigest()

    others = {k: v for k, v in reversed(checkpoint.tensors.items()) if k.startswith("ema.")}
    assert dataclasses.replace(checkpoint, tensors=others).weights_sha256() == digest.hexdigest()
    name = next(iter(others))
    changed = {**others, name: others[name] + 1e-6}
    assert dataclasses.replace(checkpoint, tensors=changed).weights_sha256() != digest.hexdigest()


def test_an_absent_file_is_a_data_error(tmp_path: Path):
    with pytest.raises(DataError, match="no such checkpoint"):
        Checkpoint.load(tmp_path / "absent.safetensors")


def test_a_damaged_file_is_a_data_error_wherever_it_ends(checkpoint: Checkpoint, tmp_path: Path):
    path = tmp_path / "model.safetensors"
    checkpoint.save(path)
    content = path.read_bytes()
    for end in (0, 1, 8, 100, 5000, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(DataError, match="not a checkpoint of mdiff, or damaged"):
            Checkpoint.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"network": None},
        {"contract": None},
        {"step": "many"},
        {"losses": "["},
        {"losses": "1"},
        {"network": "[]"},
        {"network": '{"width": 3}'},
    ],
)
def test_another_safetensors_file_is_a_data_error(checkpoint: Checkpoint, tmp_path: Path, change: dict):
    checkpoint.save(tmp_path / "good.safetensors")
    with safe_open(tmp_path / "good.safetensors", framework="pt") as file:
        metadata = {key: value for key, value in (file.metadata() | change).items() if value is not None}
    save_file(checkpoint.tensors, tmp_path / "bad.safetensors", metadata)
    with pytest.raises(DataError, match="not a checkpoint of mdiff, or damaged"):
        Checkpoint.load(tmp_path / "bad.safetensors")


def test_a_checkpoint_of_before_they_knew_their_data_is_read(checkpoint: Checkpoint, tmp_path: Path):
    checkpoint.save(tmp_path / "now.safetensors")
    with safe_open(tmp_path / "now.safetensors", framework="pt") as file:
        metadata = {key: value for key, value in file.metadata().items() if key != "data"}
    save_file(checkpoint.tensors, tmp_path / "older.safetensors", metadata)
    assert Checkpoint.load(tmp_path / "older.safetensors").data == ""


def test_a_safetensors_file_without_metadata_is_a_data_error(checkpoint: Checkpoint, tmp_path: Path):
    save_file(checkpoint.tensors, tmp_path / "bare.safetensors")
    with pytest.raises(DataError, match="not a checkpoint of mdiff"):
        Checkpoint.load(tmp_path / "bare.safetensors")


def test_a_contract_of_another_version_is_a_contract_error(checkpoint: Checkpoint, tmp_path: Path):
    checkpoint.save(tmp_path / "now.safetensors")
    with safe_open(tmp_path / "now.safetensors", framework="pt") as file:
        metadata = file.metadata()
    metadata["contract"] = json.dumps(json.loads(metadata["contract"]) | {"version": 99})
    save_file(checkpoint.tensors, tmp_path / "later.safetensors", metadata)
    with pytest.raises(ContractError, match="version 99 is unknown"):
        Checkpoint.load(tmp_path / "later.safetensors")


def test_the_older_checkpoint_is_the_last_whose_loss_had_not_risen(checkpoint: Checkpoint, tmp_path: Path):
    path = tmp_path / "model.safetensors"
    keeper = Keeper(path)
    losses: tuple[float, ...] = ()
    kept = []
    for step, loss in enumerate((0.5, 0.4, 0.7, 0.9, 7.0, 0.6), 1):
        losses = (*losses, loss)
        keeper.save(dataclasses.replace(checkpoint, step=step, losses=losses))
        assert Checkpoint.load(path).step == step
        kept.append(Checkpoint.load(keeper.previous).step if keeper.previous.exists() else None)
    # 0.9 and 7.0 are more than twice 0.4.
    assert kept == [None, 1, 2, 3, 3, 3]
    assert keeper.kept() == f"{path} keeps step 6 and {tmp_path / 'model.previous.safetensors'} an older one"
    Keeper(path, Checkpoint.load(path)).save(dataclasses.replace(checkpoint, step=7, losses=losses))
    assert Checkpoint.load(keeper.previous).step == 6


def test_who_reads_a_checkpoint_while_it_is_replaced_reads_the_old_one(checkpoint: Checkpoint, tmp_path: Path):
    keeper = Keeper(tmp_path / "model.safetensors")
    for step in (1, 2):
        keeper.save(dataclasses.replace(checkpoint, step=step))
    files = [tmp_path / "model.safetensors", keeper.previous]
    before = [file.read_bytes() for file in files]
    with files[0].open("rb") as newest, files[1].open("rb") as older:
        keeper.save(dataclasses.replace(checkpoint, step=3))
        assert [newest.read(), older.read()] == before
    assert [Checkpoint.load(file).step for file in files] == [3, 2]
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_checkpoints_may_be_read_by_whom_the_umask_lets(checkpoint: Checkpoint, tmp_path: Path):
    keeper = Keeper(tmp_path / "model.safetensors")
    before = os.umask(0o027)
    try:
        for step in (1, 2):
            keeper.save(dataclasses.replace(checkpoint, step=step))
    finally:
        os.umask(before)
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {
        "model.safetensors": "0o640",
        "model.previous.safetensors": "0o640",
    }


@pytest.mark.parametrize(("last", "left"), [(0.4, False), (4.0, True)])
def test_the_older_checkpoint_goes_at_the_end_unless_the_loss_has_risen(
    checkpoint: Checkpoint, tmp_path: Path, last: float, left: bool
):
    keeper = Keeper(tmp_path / "model.safetensors")
    for losses in ((0.5,), (0.5, 0.4), (0.5, 0.4, last)):
        keeper.save(dataclasses.replace(checkpoint, losses=losses), final=len(losses) == 3)
    assert keeper.previous.exists() == left


def test_a_process_that_does_not_write_knows_what_is_kept(checkpoint: Checkpoint, tmp_path: Path):
    keeper = Keeper(tmp_path / "model.safetensors", writes=False)
    assert keeper.kept() == "no checkpoint was saved yet"
    keeper.save(checkpoint)
    assert keeper.kept() == f"{tmp_path / 'model.safetensors'} keeps step 1234"
    assert list(tmp_path.iterdir()) == []
