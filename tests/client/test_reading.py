import dataclasses
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from mdiff_client import open_library
from mdiff_client.sampling import PLANS
from mdiff_client.store import MERGED, VolumeStore
from mdiff_core import DataError, UsageError

MADE = (0, 2, 5, 6)  # of eight volumes


@pytest.fixture
def contract(make_gaussian):
    return dataclasses.replace(make_gaussian(n=8).contract, voxel_size=0.5, voxel_unit="micrometer")


@pytest.fixture
def store(tmp_path, contract):
    """Volumes that differ along each axis, and from each other."""
    store = VolumeStore.create(tmp_path / "l.zarr", contract, PLANS["draft"], None, count=8, grey=False)
    for number in MADE:
        volume = labels(number)
        sphere = float(volume.mean())
        store.write(number, volume, seed=10 + number, fractions={"matrix": 1 - sphere, "sphere": sphere})
    return store


def labels(number):
    return np.random.default_rng(number).integers(0, 2, (8, 8, 8)).astype(np.uint8)


@pytest.fixture
def library(store):
    return open_library(store.location)


@pytest.fixture
def objects_read(monkeypatch):
    """Keys of the arrays' objects that are read from now on."""
    read, get = [], zarr.storage.LocalStore.get

    async def noted(self, key, *arguments, **more):
        read.append(key)
        return await get(self, key, *arguments, **more)

    monkeypatch.setattr(zarr.storage.LocalStore, "get", noted)
    return read


def test_importing_the_client_loads_neither_numpy_nor_zarr():
    code = "import sys; from mdiff_client import open_library; print({'numpy', 'zarr', 'xarray'} & {*sys.modules})"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "set()\n"


def test_complete_volumes_are_there_by_their_number(library):
    assert (len(library), tuple(library), library.numbers) == (4, MADE, MADE)
    assert 5 in library
    assert 1 not in library
    assert np.array_equal(library[5], labels(5))


def test_a_volume_that_is_not_complete_is_refused(library):
    with pytest.raises(DataError, match="volume 1 is not there; it holds 4"):
        library[1]


def test_volumes_are_read_one_after_the_other(library, objects_read):
    items = library.items()
    assert objects_read == []
    number, volume = next(items)
    assert (number, objects_read) == (0, ["0/c/0/0/0/0"])
    assert np.array_equal(volume, labels(0))
    assert [number for number, _ in items] == [2, 5, 6]


def test_batches_are_read_one_after_the_other(library, objects_read):
    batches = library.batches(3)
    numbers, volumes = next(batches)
    assert (numbers, sorted(objects_read)) == ((0, 2, 5), [f"0/c/{number}/0/0/0" for number in (0, 2, 5)])
    assert np.array_equal(volumes, [labels(number) for number in (0, 2, 5)])
    (last, volumes), *more = batches
    assert (last, volumes.shape, more) == ((6,), (1, 8, 8, 8), [])


def test_what_comes_back_may_be_written_to(library):
    library[0][:] = 0  # torch.from_numpy warns of arrays that may not


def test_records_come_from_one_file_where_they_were_merged(store, library, objects_read):
    apart = library.records()
    assert [record["seed"] for record in apart] == [10, 12, 15, 16]
    lines = [{"accepted": True, **record} for record in apart] + [{"accepted": False, "volume": 1}]
    (Path(store.location) / MERGED).write_text("".join(json.dumps(line) + "\n" for line in lines))
    objects_read.clear()
    assert library.records() == apart
    assert objects_read == [MERGED]


def test_a_store_of_generate3d_is_read_as_well(tmp_path, gaussian):
    from mdiff_client.generate import generate

    made = generate(gaussian, PLANS["draft"], tmp_path / "g.zarr", seed=3, count=2, grey=True)
    library = open_library(str(tmp_path / "g.zarr"))
    assert library[1].dtype == np.float32
    assert np.array_equal(library[1], made.read(1))
    view = library.to_xarray()
    assert view.seed.values.tolist() == [3, 3]
    assert view.attrs == {}
    assert np.array_equal(view.sel(volume=1), made.read(1))


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such store"):
        open_library(tmp_path / "none.zarr")


def test_a_damaged_volume_is_told(store, library):
    damage(store, 2)
    with pytest.raises(DataError, match="volume 2 is damaged"):
        library[2]
    with pytest.raises(DataError, match=r"one of the volumes \(0, 2\) is damaged"):
        next(library.batches(2))
    with pytest.raises(DataError, match=r"one of the volumes \[0, 2, 5, 6\] is damaged"):
        library.to_xarray().load()


def test_another_process_is_given_it_by_pickle(library):
    assert np.array_equal(pickle.loads(pickle.dumps(library))[5], labels(5))


def test_the_xarray_names_volumes_places_seeds_and_phases(library):
    view = library.to_xarray()
    assert view.dims == ("volume", "z", "y", "x")
    assert view.volume.values.tolist() == [*MADE]
    assert view.seed.values.tolist() == [10, 12, 15, 16]
    assert view.z.values.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    assert view.x.attrs["units"] == "micrometer"
    assert (view.attrs["flag_values"], view.attrs["flag_meanings"]) == ([0, 1], "matrix sphere")
    assert view.sphere_fraction.values.tolist() == [labels(number).mean() for number in MADE]


def test_the_xarray_holds_the_voxels_of_complete_volumes_alone(library):
    stack = np.stack([labels(number) for number in MADE])
    view = library.to_xarray()
    assert np.array_equal(view, stack)
    assert np.array_equal(view.sel(volume=5, z=1.5), stack[2, 3])
    assert np.array_equal(view[::-1, 1:6:2, ::-3, -1], stack[::-1, 1:6:2, ::-3, -1])
    assert np.array_equal(view.isel(volume=[3, 0, 0], y=[7, 1]), stack[[3, 0, 0]][:, :, [7, 1]])
    with pytest.raises(KeyError):
        view.sel(volume=1)


def test_the_xarray_reads_what_it_is_asked_for(library, objects_read):
    view = library.to_xarray()
    objects_read.clear()
    dilute = view.isel(volume=view.sphere_fraction <= view.sphere_fraction.min())
    assert objects_read == []
    dilute.mean("z").load()
    assert objects_read == [f"0/c/{dilute.volume.item()}/0/0/0"]


def test_a_library_without_a_volume_is_empty(tmp_path, contract):
    VolumeStore.create(tmp_path / "e.zarr", contract, PLANS["draft"], None, count=8, grey=False)
    library = open_library(tmp_path / "e.zarr")
    assert (len(library), [*library.batches(2)], library.records()) == (0, [], [])
    assert library.to_xarray().values.shape == (0, 8, 8, 8)


def test_without_xarray_it_says_what_to_install(library, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    monkeypatch.delitem(sys.modules, "mdiff_client.xarray_view", raising=False)
    with pytest.raises(UsageError, match=r"xarray is not installed: pip install '\.\[xarray\]'"):
        library.to_xarray()


def damage(store, number):
    file = Path(store.location) / f"0/c/{number}/0/0/0"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
