"""Volumes of a store into files: which, under what names, whole or not at all."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import damask
import numpy as np
import pytest
import tifffile

from mdiff_client.formats import FORMATS, Exporter, format_named, format_of
from mdiff_client.store import VolumeStore
from mdiff_core import DataError, UsageError


@pytest.fixture
def store(make_store):
    return make_store(complete=(1, 4))


def size_of(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("name", "format_"),
    [("a.vti", "vti"), ("a.h5", "fans"), ("a.tif", "tiff"), ("a.zarr", "zarr"), ("a.b.ome.zarr", "zarr")],
)
def test_the_ending_says_the_format(tmp_path, name, format_):
    assert format_of(tmp_path / name) is FORMATS[format_]


@pytest.mark.parametrize("name", ["a", "a.vtk", "vti"])
def test_an_ending_of_no_format_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"use \.vti, \.h5"):
        format_of(tmp_path / name)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_writes_what_it_says_and_nothing_else(store, tmp_path, name):
    chosen = format_named(name)
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / f"rve{chosen.endings[0]}"
    Exporter(store, chosen, store.contract).write(4, out)
    assert {file.suffix for file in out.parent.iterdir()} == {out.suffix, chosen.beside or out.suffix}


def test_what_the_plan_made_periodic_is_periodic_in_the_deck(store, tmp_path):
    Exporter(store, FORMATS["inp"], store.contract).write(1, tmp_path / "rve.inp")
    text = (tmp_path / "rve.inp").read_text()
    assert "nset=REF_X" in text and "nset=REF_Y" in text and "nset=WALL_Z1" in text
    assert text.startswith("*Heading\ncathode, volume 1 of rve.zarr, made by mdiff\n")


def test_grey_levels_become_phases_for_a_solver_and_stay_for_an_image(make_store, tmp_path):
    store = make_store(grey=True)
    for name in ("vti", "tiff"):
        Exporter(store, FORMATS[name], store.contract).write(0, tmp_path / f"rve.{name}")
    assert np.array_equal(damask.GeomGrid.load(tmp_path / "rve.vti").material, store.labels(0).transpose())
    assert np.array_equal(tifffile.imread(tmp_path / "rve.tiff"), store.read(0))


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_file_that_fails_half_way_leaves_nothing(store, tmp_path, failure):
    def write(path, volume):
        path.write_text("half of it")
        raise failure

    (tmp_path / "out").mkdir()
    exporter = Exporter(store, dataclasses.replace(FORMATS["vti"], write=write), store.contract)
    with pytest.raises((DataError, KeyboardInterrupt)):
        exporter.write(1, tmp_path / "out" / "rve.vti")
    with pytest.raises((DataError, KeyboardInterrupt)):
        exporter.write_all([1, 4], tmp_path / "new", lambda: None)
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "new").exists()


def test_a_library_is_read_one_volume_after_the_other(store, tmp_path, monkeypatch):
    events = []
    read = VolumeStore.labels
    monkeypatch.setattr(VolumeStore, "labels", lambda self, index: events.append(index) or read(self, index))
    chosen = dataclasses.replace(FORMATS["vti"], write=lambda path, volume: events.append("written"))
    Exporter(store, chosen, store.contract).write_all([1, 4], tmp_path / "out", lambda: None)
    assert events == [1, "written", 4, "written"]


def test_an_unknown_unit_is_refused_before_anything_is_written(store, tmp_path):
    parsecs = dataclasses.replace(store.contract, voxel_unit="parsec")
    with pytest.raises(UsageError, match="'parsec' is unknown: say --voxel-unit angstrom"):
        Exporter(store, FORMATS["vti"], parsecs).write_all([1], tmp_path / "out", lambda: None)
    assert not (tmp_path / "out").exists()


def test_the_command_exports_the_first_volume_with_a_voxel_of_the_user_s(client, store, tmp_path):
    result = client("export", store.location, tmp_path / "a.vti", "--voxel-size", 2, "--voxel-unit", "nanometer")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{tmp_path / 'a.vti'}\n", "")
    grid = damask.GeomGrid.load(tmp_path / "a.vti")
    assert np.array_equal(grid.material, store.labels(1).transpose())
    assert np.allclose(grid.size, np.array([10, 9, 8]) * 2e-9, rtol=1e-12)


def test_the_command_exports_a_library_and_goes_on(client, store, assert_one_line, tmp_path):
    everything = ("export", store.location, tmp_path / "out", "--all", "--format", "npy")
    assert client(*everything).returncode == 0
    files = [tmp_path / "out" / name for name in ("000001.npy", "000004.npy")]
    assert sorted((tmp_path / "out").iterdir()) == files
    files[0].unlink()
    before = files[1].stat().st_mtime_ns
    assert_one_line(client(*everything), 2, "go on with --resume")
    assert client(*everything, "--resume").returncode == 0
    assert np.array_equal(np.load(files[0]), store.read(1))
    assert files[1].stat().st_mtime_ns == before


@pytest.mark.parametrize("name", FORMATS)
def test_the_command_tells_machines_what_it_wrote(client, store, tmp_path, name):
    out = tmp_path / "out" / f"rve{FORMATS[name].endings[0]}"
    out.parent.mkdir()
    told = json.loads(client("export", store.location, out, "--volume", 4, "--voxel-size", 2, "--json").stdout)
    assert sorted(told.pop("written")) == sorted(map(str, out.parent.iterdir()))
    assert told == {
        "store": store.location,
        "format": name,
        "volumes": [4],
        "shape": list(store.shape[1:]),
        "voxel_size": 2.0,
        "voxel_unit": store.contract.voxel_unit,
        "bytes": size_of(out.parent),
    }


def test_of_a_library_the_folder_is_told(client, store, tmp_path):
    out = tmp_path / "out"
    told = json.loads(client("export", store.location, out, "--all", "--format", "fans", "--json").stdout)
    assert (told["written"], told["volumes"], told["bytes"]) == ([str(out)], [1, 4], size_of(out))


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["a.xyz"], 2, "its ending names no format"),
        (["a.npy", "--volume", "2"], 3, "volume 2 is not there"),
        (["a.npy", "--elastic", "pore=1,0.3"], 2, "--elastic is for .inp and .h5"),
        (["a.inp", "--elastic", "pore=1,0.3"], 2, "active material, binder are missing"),
        (["a.vti", "--voxel-size", "-1"], 2, "not a positive length"),
        (["a.vti", "--voxel-unit", "parsec"], 2, "'parsec' is unknown"),
        (["a", "--all"], 2, "give it --format"),
        (["a", "--all", "--format", "vtk"], 2, "format 'vtk' is unknown"),
        (["a.vti", "--format", "vti"], 2, "go with --all"),
        (["nowhere/a.vti"], 3, "cannot be written"),
        (["taken.vti"], 2, "exists: choose another name"),
        (["taken.h5"], 2, "taken.json exists"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(
    client, assert_one_line, store, tmp_path, arguments, code, complaint
):
    for name in ("taken.vti", "taken.json"):
        (tmp_path / name).write_text("precious")
    before = sorted(tmp_path.iterdir())
    out, *options = arguments
    assert_one_line(client("export", store.location, tmp_path / out, *options), code, complaint)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "taken.json").read_text() == "precious"


def test_something_else_than_a_store_is_one_line(client, assert_one_line, tmp_path):
    assert_one_line(client("export", tmp_path, tmp_path / "a.vti"), 3, "no such store")


def test_a_store_without_volumes_is_one_line(client, assert_one_line, make_store, tmp_path):
    assert_one_line(client("export", make_store(()).location, tmp_path / "a.vti"), 3, "holds no complete volume")


def test_killed_at_any_moment_it_is_completed_by_resuming(client, make_store, tmp_path):
    store = make_store(range(30), size=(24, 24, 24), count=30)
    out = tmp_path / "out"
    command = ["export", store.location, out, "--all", "--format", "inp"]
    process = subprocess.Popen([sys.executable, "-m", "mdiff_client", *map(str, command)])
    while len(list(out.glob("*.inp"))) < 3:
        assert process.poll() is None
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    survived = {file: file.read_bytes() for file in out.glob("*.inp")}
    assert 3 <= len(survived) < 30
    assert client(*command, "--resume").returncode == 0
    assert sorted(file.name for file in out.iterdir()) == [f"{index:06d}.inp" for index in range(30)]
    exporter = Exporter(store, FORMATS["inp"], store.contract)
    for file, content in survived.items():
        exporter.write(int(file.stem), tmp_path / file.name)
        assert content == file.read_bytes() == (tmp_path / file.name).read_bytes()
