"""What the shell offers after a tab, as bash asks for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mdiff_core.repository import bundled_repository, model_names

SCRIPT = Path(sys.executable).with_name("mdiff-client")


def offered(*words):
    """What is offered for the last of some words."""
    variables = {
        "_MDIFF_CLIENT_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(map(str, ["mdiff-client", *words])),
        "COMP_CWORD": str(len(words)),
    }
    result = subprocess.run(
        [SCRIPT], capture_output=True, text=True, timeout=60, check=True, env=os.environ | variables
    )
    assert result.stderr == ""
    return result.stdout.split()


def test_commands_and_options_are_offered():
    assert offered("gen") == ["generate2d", "generate3d"]
    assert offered("generate3d", "--plane") == ["--plane", "--plane-ratio"]


@pytest.mark.parametrize(
    "command", [["generate2d", "out"], ["generate3d", "out"], ["info"], ["compare", "out"], ["library", "plan", "out"]]
)
def test_bundled_models_are_offered(command):
    assert offered(*command, "--model", "nmc") == [n for n in model_names(bundled_repository()) if n.startswith("nmc")]


def test_of_a_given_repository_its_models_are_offered(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.pbtxt").touch()
    assert offered("info", "--repository", tmp_path, "--model", "m") == ["mine"]
    assert offered("info", "--repository", tmp_path / "none", "--model", "m") == []


def test_a_server_is_not_asked():
    assert offered("info", "--url", "localhost:1", "--model", "n") == []


def test_plans_are_offered():
    assert offered("generate3d", "out", "--plan", "f") == ["fast", "films"]
