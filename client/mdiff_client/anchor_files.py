"""Anchors as a user gives them: ``z=12:slice.tif``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mdiff_client.evaluation import read_labels
from mdiff_client.phases import from_grey, from_labels
from mdiff_client.sampling import Anchor
from mdiff_core import DataError, ModelContract, UsageError
from mdiff_core.contract import AXES
from mdiff_images import read_array


def read_anchors(
    texts: Sequence[str], contract: ModelContract, shape: tuple[int, int, int], phases: str | None = None
) -> list[Anchor]:
    """The slices that a volume is to contain.

    Args:
        texts: ``AXIS=INDEX:FILE`` each, of an image of phase labels, or of 8-bit grey levels for a model of those.
        contract: of the model.
        shape: of the volume, [Z, Y, X].
        phases: the phases' values in the files, as ``matrix=0,sphere=255``; None: 0, 1, 2 … in the contract's order.

    Raises:
        DataError: a file that cannot be read or is no image, or holds other values than those of the phases.
        UsageError: not of that form, a place outside the volume, a slice of another size, or phases of a grey model.
    """
    if phases and not (texts and contract.phases):
        raise UsageError("--anchor-phases is about labelled slices: give --anchor, and a model with phases")
    return [_read(text, contract, shape, phases) for text in texts]


def _read(text: str, contract: ModelContract, shape: tuple[int, int, int], phases: str | None) -> Anchor:
    match = re.fullmatch(r"([zyx])=(\d+):(.+)", text)
    if match is None:
        raise UsageError(f"anchor {text!r} is not of the form z=12:slice.tif, with one of the axes z, y and x")
    x0 = _field(Path(match[3]), contract, phases)
    anchor = Anchor(AXES.index(match[1]), int(match[2]), x0)
    anchor.check((contract.channels, *shape))
    return anchor


def _field(path: Path, contract: ModelContract, phases: str | None) -> npt.NDArray[np.float32]:
    """The slice as the network knows images, [C, H, W]."""
    if contract.phases:
        x0 = from_labels(read_labels(path, contract, phases, all_present=False), contract)
    else:
        x0 = from_grey(read_array(path, luminance=True), str(path))
    if x0.ndim != 3:
        raise DataError(f"{path}: a volume of {'x'.join(map(str, x0.shape[1:]))}, but an anchor is one slice")
    return x0
