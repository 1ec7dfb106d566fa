import dataclasses

import numpy as np
import pytest
import torch

from mdiff_client.phases import from_labels, to_grey, to_labels
from mdiff_core import Phase, UsageError
from mdiff_training.data.micrographs import Micrographs


def test_two_phases_are_split_at_zero(gaussian):
    field = np.array([-0.3, 0.2, 0.9, -1.0], dtype=np.float32).reshape(1, 1, 2, 2)
    assert to_labels(field, gaussian.contract).ravel().tolist() == [0, 1, 1, 0]


def test_of_many_phases_the_most_probable_wins(gaussian):
    phases = tuple(Phase(name, 0) for name in "abc")
    contract = dataclasses.replace(gaussian.contract, phases=phases, channels=3, references={})
    field = np.random.default_rng(0).standard_normal((3, 2, 2, 2))
    assert np.array_equal(to_labels(field, contract), field.argmax(axis=0))


def test_grey_levels_are_the_field_within_its_range(gaussian):
    field = np.array([-1.2, 0.2], dtype=np.float32).reshape(1, 1, 1, 2)
    assert to_grey(field, gaussian.contract).ravel().tolist() == pytest.approx([-1.0, 0.2])


def test_what_the_model_does_not_give_is_refused(gaussian):
    grey_model = dataclasses.replace(gaussian.contract, phases=(), references={})
    with pytest.raises(UsageError, match="--grey"):
        to_labels(np.zeros((1, 2, 2, 2)), grey_model)
    phases = tuple(Phase(name, 0) for name in "abc")
    one_hot = dataclasses.replace(gaussian.contract, phases=phases, channels=3, references={})
    with pytest.raises(UsageError, match="3 channels"):
        to_grey(np.zeros((3, 2, 2, 2)), one_hot)


@pytest.mark.parametrize("count", [2, 3])
def test_labels_become_what_the_network_was_trained_on(gaussian, count):
    phases = tuple(Phase(name, 0) for name in "abc"[:count])
    channels = count if count > 2 else 1
    contract = dataclasses.replace(gaussian.contract, phases=phases, channels=channels, references={})
    labels = np.random.default_rng(0).integers(0, count, (6, 5)).astype(np.uint8)
    trained = Micrographs((), phases)._encoded(torch.from_numpy(labels[None]))[0].numpy()
    assert np.array_equal(from_labels(labels, contract), trained)
    assert np.array_equal(to_labels(from_labels(labels, contract), contract), labels)
