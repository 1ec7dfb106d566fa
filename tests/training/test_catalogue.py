"""The UHCS catalogue: its table of micrographs tells which image of a folder belongs to which class."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tifffile

from mdiff_core import DataError, UsageError
from mdiff_training.data.catalogue import catalogued_images
from mdiff_training.data.sources import Reading, read_micrographs

# The columns of bdecost/uhcsdb, uhcsdb/models.py.
SCHEMA = """
CREATE TABLE sample (sample_id INTEGER PRIMARY KEY, label VARCHAR(250), anneal_time FLOAT, cool_method VARCHAR(16));
CREATE TABLE micrograph (
    micrograph_id INTEGER PRIMARY KEY, path VARCHAR, micron_bar FLOAT, micron_bar_units VARCHAR(64),
    micron_bar_px INTEGER, magnification INTEGER, detector VARCHAR(16), sample_key INTEGER, contributor_key INTEGER,
    primary_microconstituent VARCHAR(250)
);
"""
CLASSES = {
    "micrograph1.tif": "pearlite",
    "micrograph2.tif": "spheroidite",
    "micrograph7.tif": "spheroidite+widmanstatten",
    "micrograph10.npy": "spheroidite",
}


def write(catalogue: Path, rows: list[tuple[str | None, str | None]]) -> Path:
    with closing(sqlite3.connect(catalogue)) as database:
        database.executescript(SCHEMA)
        database.executemany("INSERT INTO micrograph (path, primary_microconstituent) VALUES (?, ?)", rows)
        database.commit()
    return catalogue


def save(path: Path) -> None:
    image = np.random.default_rng(len(path.name)).integers(0, 256, (20, 20)).astype(np.uint8)
    if path.suffix == ".npy":
        np.save(path, image)
    else:
        tifffile.imwrite(path, image)


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    return write(tmp_path / "microstructures.sqlite", list(CLASSES.items()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "micrographs").mkdir()
    for name in CLASSES:
        save(tmp_path / "micrographs" / name)
    return tmp_path / "micrographs"


def names(found: dict[str, list[Path]]) -> dict[str, list[str]]:
    return {class_: [path.name for path in paths] for class_, paths in found.items()}


def test_the_primary_microconstituent_is_the_class(folder: Path, catalogue: Path):
    found = catalogued_images(folder, catalogue)
    assert names(found) == {
        "pearlite": ["micrograph1.tif"],
        "spheroidite": ["micrograph10.npy", "micrograph2.tif"],
        "spheroidite+widmanstatten": ["micrograph7.tif"],
    }
    assert all(path.is_file() for paths in found.values() for path in paths)


def test_it_becomes_labels_in_the_order_of_the_names(folder: Path, catalogue: Path):
    reading = Reading(catalogue=catalogue)
    found = read_micrographs([folder], reading, (16, 16), seed=0)
    assert found.classes == ("pearlite", "spheroidite", "spheroidite+widmanstatten")
    assert [(stack.label, len(stack.images)) for stack in found.stacks] == [(0, 1), (1, 2), (2, 1)]


def test_its_paths_may_name_folders_that_are_not_here(folder: Path, tmp_path: Path):
    catalogue = write(tmp_path / "other.sqlite", [(f"data/micrographs/{n}", c) for n, c in CLASSES.items()])
    assert names(catalogued_images(folder, catalogue))["pearlite"] == ["micrograph1.tif"]


def test_it_is_not_written_to(folder: Path, catalogue: Path):
    before = catalogue.read_bytes(), sorted(catalogue.parent.iterdir())
    catalogue.chmod(0o400)
    catalogued_images(folder, catalogue)
    assert (catalogue.read_bytes(), sorted(catalogue.parent.iterdir())) == before


@pytest.mark.parametrize("class_", [None, ""])
def test_an_image_without_a_class_is_refused_by_name_or_left_out(folder: Path, tmp_path: Path, class_: str | None):
    catalogue = write(tmp_path / "gaps.sqlite", [*CLASSES.items(), ("micrograph16.tif", class_), (None, "pearlite")])
    catalogued_images(folder, catalogue)  # nothing without a class in the folder
    save(folder / "micrograph16.tif")
    with pytest.raises(DataError, match=r"micrograph16\.tif: gaps\.sqlite gives it no class: .* name the --classes"):
        catalogued_images(folder, catalogue)
    assert names(catalogued_images(folder, catalogue, ["pearlite"])) == {"pearlite": ["micrograph1.tif"]}


def test_an_image_that_it_does_not_list_is_refused_by_name(folder: Path, catalogue: Path):
    save(folder / "holiday.tif")
    with pytest.raises(DataError, match=r"holiday\.tif: microstructures\.sqlite gives it no class"):
        catalogued_images(folder, catalogue)


def test_a_missing_image_is_named_where_its_class_is_taken(folder: Path, catalogue: Path):
    (folder / "micrograph7.tif").unlink()
    with pytest.raises(DataError, match=r"micrograph7\.tif: no such file, but .* lists it as spheroidite\+widman"):
        catalogued_images(folder, catalogue)
    assert set(catalogued_images(folder, catalogue, ["pearlite", "spheroidite"])) == {"pearlite", "spheroidite"}


def test_an_image_in_two_classes_is_refused(folder: Path, tmp_path: Path):
    catalogue = write(tmp_path / "twice.sqlite", [*CLASSES.items(), ("micrograph1.tif", "network")])
    with pytest.raises(DataError, match=r"lists micrograph1\.tif both as .* and as"):
        catalogued_images(folder, catalogue)


def test_files_that_are_no_catalogue_are_data_errors(folder: Path, tmp_path: Path):
    (tmp_path / "text.sqlite").write_text("path,primary_microconstituent\n" * 100)
    with closing(sqlite3.connect(tmp_path / "empty.sqlite")) as database:
        database.execute("CREATE TABLE image (path)")
    for name, reason in [
        ("absent.sqlite", "unable to open database file"),
        ("text.sqlite", "file is not a database"),
        ("empty.sqlite", "no such table: micrograph"),
    ]:
        with pytest.raises(DataError, match=reason) as caught:
            catalogued_images(folder, tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: cannot be read as a catalogue of micrographs")
    assert not (tmp_path / "absent.sqlite").exists()


def test_folders_with_and_without_class_folders_go_together(folder: Path, catalogue: Path, tmp_path: Path):
    """The thirteen classes of Düreth et al.: some from folders, some from the catalogue."""
    (tmp_path / "nffa" / "sponge").mkdir(parents=True)
    save(tmp_path / "nffa" / "sponge" / "1.tif")
    reading = Reading(classes="sponge,pearlite", catalogue=catalogue)
    assert read_micrographs([tmp_path / "nffa", folder], reading, (16, 16), seed=0).classes == ("pearlite", "sponge")
    with pytest.raises(UsageError, match="--catalogue is for a folder of images that are not sorted"):
        read_micrographs([tmp_path / "nffa"], reading, (16, 16), seed=0)
