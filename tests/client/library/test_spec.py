"""What a library is asked to be, from a file and from options."""

import json

import pytest

from mdiff_client.library.quality import Limits
from mdiff_client.library.spec import LibrarySpec, parse_fractions
from mdiff_core import DataError, UsageError

FILE = """
model = "told"
plan = "draft"
size = "16x16x32"
periodic = "none"
seeds = "0-9,20"
classes = ["fine", "coarse"]
fractions = { sphere = [0.2, 0.4] }
guidance = [1, 2]

[limits]
fraction = 0.1
percolates = ["matrix"]
attempts = 2
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "library.toml"
    path.write_text(FILE)
    return path


def test_a_file_describes_a_library(file):
    spec = LibrarySpec.read(file)
    assert list(spec.seed_list()) == [*range(10), 20]
    assert spec.limits == Limits(fraction=0.1, percolates=("matrix",), attempts=2)
    assert spec.plan_changes == {"size": (16, 16, 32), "periodic": ""}
    assert len(list(spec.grid())) == 2 * 2 * 2
    assert next(spec.grid()) == ("fine", ["sphere=0.2"], 1.0)


def test_options_go_before_the_file(file):
    spec = LibrarySpec.read(file, seeds="5", plan=None, classes=(), guidance=(3.0,), limits={"attempts": 7})
    assert (spec.seeds, spec.plan, spec.classes, spec.guidance) == ("5", "draft", ("fine", "coarse"), (3.0,))
    assert spec.limits == Limits(fraction=0.1, percolates=("matrix",), attempts=7)


def test_what_a_store_notes_is_what_was_asked(file):
    spec = LibrarySpec.read(file)
    assert LibrarySpec.stored(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("seed = 3", "a library has no seed: it has seeds, model, "),
        ("seeds = 3", "seeds = 3: give a text"),
        ("fractions = [1]", r"fractions = \[1\]: give a table of \[a number, …\]"),
        ("[limits]\ns3 = 1", "limits has no s3"),
        ("limits = 3", "limits = 3: give a table of fraction"),
        ("guidance = []", "guidance: give at least one"),
        ("fractions = { sphere = [] }", "fractions of sphere: give at least one"),
        ("fractions = { sphere = [0.3, 0.30] }", "fractions of sphere 0.3, 0.3: some are there twice"),
        ('classes = ["fine", "fine"]', "classes fine, fine: some are there twice"),
        ("[limits]\ns2 = -1", "limit s2 = -1: give a number from 0"),
        ("seeds =", "not valid TOML"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path, text, complaint):
    path = tmp_path / "library.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=complaint):
        LibrarySpec.read(path)


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        LibrarySpec.read(tmp_path / "library.toml")


@pytest.mark.parametrize("seeds", ["", "a", "3-1", "1,,2", "0-5,5", str(2**64), f"0-{2**64 - 1}", "0-9,10-99999999"])
def test_seeds_that_are_none_are_refused(seeds):
    with pytest.raises(UsageError, match="seeds"):
        LibrarySpec(seeds=seeds).seed_list()


def test_fractions_and_limits_are_read_from_options():
    assert parse_fractions(["sphere=0.2,0.3", "pore=.1"]) == {"sphere": (0.2, 0.3), "pore": (0.1,)}
    assert Limits.parse(["s2=20", "percolates=a,b", "attempts=2"]) == {
        "s2": 20.0,
        "percolates": ("a", "b"),
        "attempts": 2,
    }
    for text in ("s2", "s2=", "s2=a", "attempts=1.5", "size=3"):
        with pytest.raises(UsageError, match="limit"):
            Limits.parse([text])
    with pytest.raises(UsageError, match="fraction"):
        parse_fractions(["sphere"])
    with pytest.raises(UsageError, match="sphere is there twice"):
        parse_fractions(["sphere=0.2", "sphere=0.3"])
