"""A small library: volumes of 8³ voxels by a denoiser with a closed-form answer, or by an untrained network."""

import dataclasses
import json

import pytest

from mdiff_client.library.library import Library
from mdiff_client.library.spec import LibrarySpec
from mdiff_client.plane_models import PlaneModels
from mdiff_client.sampling import named_plan, planes_of

PLAN = named_plan("fast", steps=4)


@pytest.fixture
def make_library():
    """A library of a denoiser; keywords are those of :class:`LibrarySpec`."""

    def make(denoiser, plan=PLAN, **spec):
        models = PlaneModels(tuple(planes_of(denoiser)), (denoiser,))
        return Library.of(LibrarySpec(**spec), plan, models)

    return make


@pytest.fixture
def small(make_gaussian):
    return make_gaussian(n=8)


@pytest.fixture
def objects():
    """Every volume as it lies in a store, and every record but for how long it took."""

    def found(store):
        bytes_of = {index: store.voxels(index).tobytes() for index in store.complete()}
        records = {index: {**store.record(index), "seconds": None} for index in store.complete()}
        return bytes_of, json.loads(json.dumps(records))

    return found


@pytest.fixture
def rejecting(small):
    """A denoiser whose material's reference says fraction 0.9: no volume of it is near that."""
    off = {name: dataclasses.replace(one, fraction=0.9) for name, one in small.contract.references.items()}
    small.contract = dataclasses.replace(small.contract, references=off)
    return small
