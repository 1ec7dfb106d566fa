"""A volume that is different along each axis, and a store of volumes."""

import dataclasses

import numpy as np
import pytest

from mdiff_client.formats import Elastic, Volume
from mdiff_client.sampling import PLANS
from mdiff_client.store import VolumeStore
from mdiff_core import ModelContract, Phase, Provenance, ScheduleSpec

CONTRACT = ModelContract(
    name="cathode",
    image_size=(8, 8),
    channels=3,
    phases=(Phase("pore", 0), Phase("active material", 255), Phase("binder", 128)),
    schedule=ScheduleSpec("linear", 1000),
    prediction="epsilon",
    provenance=Provenance("none", "CC0-1.0", "none", "none"),
    voxel_size=0.4,
    voxel_unit="micrometer",
)


@pytest.fixture
def make_volume():
    """``make_volume(**changes)``: 5 x 6 x 7 voxels along z, y, x, of 0.4 µm, of three phases."""

    def make(voxels=None, **changes):
        fields = {
            "voxels": np.random.default_rng(1).integers(0, 3, (5, 6, 7)).astype(np.uint8) if voxels is None else voxels,
            "contract": CONTRACT,
            "title": "cathode, volume 3 of rve.zarr",
            "periodic": "xyz",
            "elastic": (Elastic(1e-3, 0.2), Elastic(140.0, 0.3), Elastic(2.0, 0.35)),
        }
        return Volume(**(fields | changes))

    return make


@pytest.fixture
def volume(make_volume):
    return make_volume()


@pytest.fixture
def make_store(tmp_path):
    """``make_store(complete)``: a store of volumes, periodic along x and y, of which these are complete."""

    def make(complete=(0, 2), size=(8, 9, 10), count=10, grey=False):
        # Grey levels have one channel, as those of two phases.
        contract = dataclasses.replace(CONTRACT, channels=1, phases=CONTRACT.phases[:2]) if grey else CONTRACT
        plan = dataclasses.replace(PLANS["balanced"], size=size, periodic="xy")
        store = VolumeStore.create(tmp_path / "rve.zarr", contract, plan, seed=0, count=count, grey=grey)
        for index in complete:
            random = np.random.default_rng(index)
            if grey:
                store.write(index, random.uniform(-1, 1, size).astype(np.float32))
            else:
                store.write(index, random.integers(0, len(contract.phases), size).astype(np.uint8))
        return store

    return make
