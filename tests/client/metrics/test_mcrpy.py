"""MCRpy in another environment: what is missing or goes wrong is told in one line."""

import sys
from pathlib import Path

import numpy as np
import pytest

from mdiff_client.metrics import Tools
from mdiff_client.metrics.mcrpy import lacks_mcrpy, run_program
from mdiff_core import DataError, UsageError


def test_an_interpreter_that_is_not_there_is_told():
    with pytest.raises(UsageError, match=r"/nowhere/python: cannot be run .*--mcrpy takes a Python interpreter"):
        run_program(Path("/nowhere/python"), "")


def test_an_environment_without_mcrpy_is_told():
    with pytest.raises(DataError, match="failed: ModuleNotFoundError: No module named 'no_mcrpy'"):
        run_program(Path(sys.executable), "import no_mcrpy")


def test_arguments_reach_the_program_and_keras_is_the_old_one(tmp_path):
    program = "import os, sys; open(sys.argv[1], 'w').write(os.environ['TF_USE_LEGACY_KERAS'] + sys.argv[2])"
    run_program(Path(sys.executable), program, str(tmp_path / "told"), "x")
    assert (tmp_path / "told").read_text() == "1x"


def test_it_needs_an_interpreter_and_training_images(setting):
    training = (np.zeros((20, 20), np.uint8),)
    assert "--mcrpy" in lacks_mcrpy(setting(tools=Tools(training)))
    assert "--training" in lacks_mcrpy(setting(tools=Tools(mcrpy=Path("python"))))
    assert "smaller than the sections of 16" in lacks_mcrpy(
        setting(tools=Tools((training[0][:10],), mcrpy=Path("python")))
    )
    assert lacks_mcrpy(setting(tools=Tools(training, mcrpy=Path("python")))) is None
