"""Fréchet distance between the sections of volumes and of training material."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mdiff_client.metrics.metric import Floats, Labels, Row, Setting, Volumes
from mdiff_client.metrics.nearest import lacks_training
from mdiff_client.metrics.sections import planes, random_sections
from mdiff_core import DataError, Descriptors
from mdiff_core.extras import not_installed

CURVES = "curves"
_EACH = 8  # sections of a volume across each axis
_WEIGHTS = "the checkpoint of Inception v3 that torch-fidelity's releases hold, pt_inception-2015-12-05-6726825d.pth"


def frechet_distance(one: Floats, other: Floats) -> float:
    """|μ₁ − μ₂|² + Tr(C₁ + C₂ − 2 √(C₁ C₂)) of features [n, d] and [m, d] (Düreth et al. eq. 11).

    With C = A Aᵀ the trace of the root is the sum of the singular values of A₁ᵀ A₂, a matrix [n, m] only.
    """

    def centred(features: Floats) -> Floats:
        return np.asarray((features - features.mean(axis=0)) / np.sqrt(len(features) - 1))

    a, b = centred(one), centred(other)
    shift = np.sum((one.mean(axis=0) - other.mean(axis=0)) ** 2)
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(shift + np.sum(a**2) + np.sum(b**2) - 2 * root)


def curve_features(sections: Labels, kinds: int) -> Floats:
    """S2 and LP of every phase along both axes of each section to half its edge: [n, features]; needs no network."""
    max_lag = sections.shape[-1] // 2

    def of(section: Labels) -> Floats:
        curves = [Descriptors.of(section == label, max_lag, [axis]) for label in range(kinds) for axis in (0, 1)]
        return np.concatenate([[*one.s2, *one.lineal_path] for one in curves])

    return np.array([of(section) for section in sections])


def fid_rows(volumes: Volumes, setting: Setting) -> Iterator[Row]:
    """FID (eq. 11) of eight sections across each axis of every volume to as many random ones of the training material.

    It falls with the number of sections and depends on the extractor: compare only numbers of the same of both, best
    with the floor. One image has none.
    """
    sections = np.concatenate([planes(labels, _EACH, setting.edge) for labels in volumes()])
    if len(sections) < 2:
        return
    training = random_sections(setting.tools.training, len(sections), setting.edge)
    if setting.tools.extractor == CURVES:
        kinds = len(setting.names)
        distance = frechet_distance(curve_features(sections, kinds), curve_features(training, kinds))
    else:
        distance = network_distance(setting.grey(sections), setting.grey(training), setting)
    yield Row("", np.array([distance]))


def network_distance(sections: Floats, training: Floats, setting: Setting) -> float:
    """FID of images [n, H, W], grey levels from 0 to 1, by torch-fidelity on the CPU.

    Raises:
        DataError: torch-fidelity refuses the extractor or its checkpoint.
    """
    import torch_fidelity
    from PIL import Image

    with TemporaryDirectory() as folder:
        for name, images in (("sections", sections), ("training", training)):
            (Path(folder) / name).mkdir()
            for i, image in enumerate(np.rint(255 * images).astype(np.uint8)):
                Image.fromarray(image).convert("RGB").save(Path(folder) / name / f"{i:05}.png")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the loader's, about a GPU that is not used
                found = torch_fidelity.calculate_metrics(
                    input1=f"{folder}/sections",
                    input2=f"{folder}/training",
                    fid=True,
                    cuda=False,
                    verbose=False,
                    cache=False,
                    save_cpu_ram=True,
                    feature_extractor=setting.tools.extractor,
                    feature_extractor_weights_path=str(setting.tools.fid_weights),
                )
        except Exception as error:  # of a wrong checkpoint it raises anything from AssertionError to UnpicklingError
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"{setting.tools.fid_weights}: torch-fidelity cannot use it as {setting.tools.extractor} ({reason})"
            ) from error
    return float(found["frechet_inception_distance"])


def lacks_extractor(setting: Setting) -> str | None:
    """Advice where the network, its weights or training material are missing."""
    if setting.tools.extractor != CURVES:
        if not find_spec("torch_fidelity"):
            return f"{not_installed('torch_fidelity')}, or take --extractor {CURVES}"
        if setting.tools.fid_weights is None:
            return f"it needs a network's weights: give {_WEIGHTS}, with --fid-weights, or take --extractor {CURVES}"
        if not setting.tools.fid_weights.is_file():
            return f"{setting.tools.fid_weights}: no such file; it needs {_WEIGHTS}"
    return lacks_training(setting)
