"""What goes over the wire follows from the contract."""

import dataclasses

import numpy as np
import pytest

from mdiff_core.contract import NOT_TOLD
from mdiff_export.wire import WireTensor, inputs, outputs, random_batch
from mdiff_training.checkpoint import Checkpoint


def test_a_plain_model_takes_an_image_and_its_step_and_gives_the_noise(plain: Checkpoint):
    image = (1, 16, 16)
    assert inputs(plain.contract) == (WireTensor("x", "float32", image), WireTensor("t", "int64", (1,)))
    assert outputs(plain.contract) == (WireTensor("eps", "float32", image),)


def test_conditions_follow_image_and_step_and_the_variance_the_noise(conditional: Checkpoint):
    image = (3, 16, 24)
    assert inputs(conditional.contract)[2:] == (
        WireTensor("label", "int64", (1,)),
        WireTensor("fractions", "float32", (2,)),
    )
    assert outputs(conditional.contract) == (WireTensor("eps", "float32", image), WireTensor("v", "float32", image))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"fractions": ()}, ["x", "t", "label"]),
        ({"null_class": None}, ["x", "t", "label", "fractions"]),
        ({"classes": (), "null_class": None, "planes": {}}, ["x", "t", "fractions"]),
        ({"classes": (), "null_class": None, "planes": {}, "fractions": ()}, ["x", "t"]),
    ],
    ids=["label", "both", "fractions", "none"],
)
def test_only_conditions_that_the_contract_knows_are_taken(conditional: Checkpoint, changes: dict, names: list[str]):
    contract = dataclasses.replace(conditional.contract, **changes)
    assert [tensor.name for tensor in inputs(contract)] == names
    assert list(random_batch(contract, np.array([0, 1]), np.random.default_rng(0))) == names


def test_a_random_batch_is_what_the_wire_takes(conditional: Checkpoint):
    batch = random_batch(conditional.contract, np.arange(40), np.random.default_rng(0))
    for tensor in inputs(conditional.contract):
        assert batch[tensor.name].shape == (40, *tensor.dims)
        assert batch[tensor.name].dtype == tensor.dtype
    assert batch["t"].ravel().tolist() == list(range(40))
    assert batch["x"].std() == pytest.approx(1, abs=0.02)


def test_a_random_batch_knows_every_label_and_fractions_told_and_not(conditional: Checkpoint):
    batch = random_batch(conditional.contract, np.arange(40), np.random.default_rng(0))
    assert set(batch["label"].ravel().tolist()) == {0, 1, 2}
    told = (batch["fractions"] != NOT_TOLD).all(axis=1)
    assert told.sum() == 20
    assert np.all(batch["fractions"][~told] == NOT_TOLD)
    assert len(np.unique(batch["fractions"][told])) == 40
    assert 0 <= batch["fractions"][told].min() < batch["fractions"][told].max() <= 1
