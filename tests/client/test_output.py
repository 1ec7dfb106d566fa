"""What the commands print: drawn and coloured where a person is reading, the same bytes as ever everywhere else."""

import dataclasses
import json
import os
import pty
import re
import subprocess
import sys

import pytest
import typer

from mdiff_client.cli import app
from mdiff_client.evaluation import random_crops
from mdiff_client.library.spec import LibrarySpec
from mdiff_client.sampling import PLANS
from mdiff_client.store import VolumeStore
from mdiff_core import reference_descriptors
from mdiff_training.data.spheres import spheres

GREEN, YELLOW, RED, BOLD = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[1m"


@pytest.fixture(scope="module")
def terminal():
    """The command line at a terminal of 100 columns; its exit code, and what it shows, with \\n for \\r\\n."""

    def run(*arguments, **environment):
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "mdiff_client", *map(str, arguments)]
        inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLORTERM")}
        variables = inherited | {"TERM": "xterm", "COLUMNS": "100"} | environment
        with subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, env=variables) as process:
            os.close(theirs)
            shown = b""
            try:
                while part := os.read(ours, 4096):
                    shown += part
            except OSError:  # Linux tells so that the other end is closed
                pass
            os.close(ours)
            process.wait(60)
        return process.returncode, shown.decode().replace("\r\n", "\n")

    return run


@pytest.fixture
def location(tmp_path, make_gaussian):
    """A store of two of four volumes."""
    rod = spheres((100, 40, 40), seed=1)
    references = reference_descriptors(rod, ("matrix", "sphere"), (32, 32))
    contract = dataclasses.replace(make_gaussian(n=32).contract, references=references)
    more = {"library": LibrarySpec(contract.name).to_json()}
    store = VolumeStore.create(tmp_path / "a.zarr", contract, PLANS["fast"], seed=0, count=4, grey=False, more=more)
    for index, crop in enumerate(random_crops(rod, 32, 2)):
        store.write(index, crop, evaluations=60)
    return store.location


def cells(text):
    """All words of a text but those of which tables are made."""
    return re.sub(r"\| -.*|\x1b\[[\d;]*m|[─|]", " ", text).split()


def test_a_table_is_drawn_at_a_terminal_with_the_same_figures(client, terminal, location):
    piped = client("evaluate", location, "--metrics", "chords").stdout
    code, shown = terminal("evaluate", location, "--metrics", "chords", COLUMNS="200")
    assert code == 0
    for title in ("phase", "S2 error %", "metric", "value"):
        assert re.search(rf"{re.escape(BOLD)} ?{title} *\x1b\[0m", shown), title
    assert "| " in piped and "|" not in shown
    assert cells(shown) == cells(piped)


def test_a_table_fits_a_narrow_terminal(terminal, location):
    _, shown = terminal("compare", location, COLUMNS="60")
    table = shown.split("\n\n")[1]
    assert max(map(len, re.sub(r"\x1b\[[\d;]*m", "", table).splitlines())) <= 60
    assert "…" not in table


def test_lines_that_are_no_table_are_not_wrapped(terminal, location):
    _, shown = terminal("compare", location, COLUMNS="20")
    assert "In parentheses the reference, in brackets the 95 % interval over the samples.\n" in shown


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
@pytest.mark.parametrize("arguments", [("compare", "STORE"), ("library", "status", "STORE")])
def test_who_wants_no_colours_gets_the_text_of_a_pipe(client, terminal, location, arguments, environment):
    given = [location if one == "STORE" else one for one in arguments]
    piped = client(*given, FORCE_COLOR=1)
    assert piped.returncode == 0, piped.stderr
    assert "\x1b" not in piped.stdout
    assert terminal(*given, **environment) == (0, piped.stdout)


def test_json_is_for_machines_also_at_a_terminal(client, terminal, location):
    assert terminal("compare", location, "--json") == (0, client("compare", location, "--json").stdout)


def test_a_library_s_volumes_are_told_by_colour(terminal, location):
    VolumeStore.open(location).write_document("failed", 3, {})
    _, shown = terminal("library", "status", location)
    assert [line for line in shown.splitlines() if "\x1b" in line] == [
        f"{GREEN}done                      2\x1b[0m",
        f"{RED}given up                  1\x1b[0m",
        f"{YELLOW}missing                   1\x1b[0m",
    ]


def test_doctor_s_verdicts_are_coloured(terminal, tmp_path):
    code, shown = terminal("doctor", "--repository", tmp_path)
    assert code == 5
    assert f"{GREEN}ok\x1b[0m    mdiff " in shown
    assert f"{RED}wrong\x1b[0m models " in shown


def test_the_verdict_of_a_report_is_coloured(terminal, location, tmp_path):
    code, shown = terminal("report", location, "--metrics", "chords", "-o", tmp_path / "a.html")
    assert code == 0
    assert re.fullmatch(
        rf"{re.escape(str(tmp_path))}/a\.html: \x1b\[(32mNear|33mNot far from|31mDiffers from) .*\x1b\[0m\n", shown
    )


def test_every_command_has_json():
    def commands(group):
        for name, command in group.commands.items():
            yield from commands(command) if hasattr(command, "commands") else [(name, command)]

    found = dict(commands(typer.main.get_command(app)))
    assert {"evaluate", "export", "status"} < set(found)
    assert {name for name, one in found.items() if "--json" not in [o for p in one.params for o in p.opts]} == set()


def test_what_homogenize_would_do_is_told_to_machines_too(client, location):
    asked = client("homogenize", location, "--phase", "matrix", "--phase", "sphere", "--dry-run", "--json")
    assert json.loads(asked.stdout) == {"volumes": 2, "measurements": 4}
