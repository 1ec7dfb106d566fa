"""The quality gate against structures whose descriptors are known."""

import dataclasses

import numpy as np
import pytest

from mdiff_client.library.quality import Limits, percolates, scores
from mdiff_core import Descriptors, UsageError, error_rate


@pytest.fixture
def contract(small):
    return small.contract


def test_a_rod_percolates_along_itself_alone():
    rod = np.zeros((6, 7, 8), bool)
    rod[:, 3, 4] = True
    assert percolates(rod) == "z"
    assert percolates(~rod) == "zyx"
    assert percolates(np.zeros_like(rod)) == ""


def test_edges_and_corners_do_not_connect():
    steps = np.zeros((4, 4, 4), bool)
    for i in range(4):
        steps[i, i, :] = True
    assert percolates(steps) == "x"


def test_faces_that_are_reached_by_other_bodies_are_not_connected():
    halves = np.zeros((5, 5, 5), bool)
    halves[:2, 1], halves[3:, 1] = True, True
    assert "z" not in percolates(halves)


def test_scores_are_those_of_the_descriptors(contract):
    labels = np.random.default_rng(0).integers(0, 2, (8, 8, 8)).astype(np.uint8)
    reference = contract.references["sphere"]
    found = scores(labels, contract, contract.references)["sphere"]
    sphere = Descriptors.of(labels == 1, len(reference.s2) - 1)
    assert found.fraction == labels.mean()
    assert found.fraction_error == abs(labels.mean() - reference.fraction)
    assert found.s2_error_percent == error_rate(sphere.s2, reference.s2)
    assert found.lineal_path_error_percent == error_rate(sphere.lineal_path, reference.lineal_path)


def test_without_references_there_are_no_errors(contract):
    found = scores(np.ones((8, 8, 8), np.uint8), contract, {})
    assert (found["matrix"].fraction, found["sphere"].fraction) == (0, 1)
    assert found["sphere"].s2_error_percent is None
    assert Limits(s2=0.0).exceeded(found) == []


def test_what_is_exceeded_is_said(contract):
    full = scores(np.ones((8, 8, 8), np.uint8), contract, contract.references)
    limits = Limits(fraction=0.3, s2=1.0, lineal_path=1e9, percolates=("matrix", "sphere"))
    assert limits.exceeded(full) == [
        "matrix: fraction off by 0.5, limit 0.3",
        "matrix: S2 error % 100, limit 1",
        "matrix: does not percolate along zyx",
        "sphere: fraction off by 0.5, limit 0.3",
        f"sphere: S2 error % {full['sphere'].s2_error_percent:.3g}, limit 1",
    ]
    assert Limits().exceeded(full) == []


def test_limits_that_a_model_cannot_be_held_to_are_refused(contract):
    with pytest.raises(UsageError, match="no phase 'pore'; its phases: matrix, sphere"):
        Limits(percolates=("pore",)).check(contract, grey=False)
    with pytest.raises(UsageError, match="no reference curves to hold fraction and s2 to"):
        Limits(fraction=0.1, s2=3).check(dataclasses.replace(contract, references={}), grey=False)
    for limits in (Limits(s2=3), Limits(percolates=("sphere",))):
        with pytest.raises(UsageError, match="grey levels have no phases"):
            limits.check(contract, grey=True)
    Limits(attempts=1).check(contract, grey=True)
