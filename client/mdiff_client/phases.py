"""From the network's field to phase labels and grey levels, and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mdiff_core import DataError, ModelContract, UsageError


def to_labels(field: npt.NDArray[np.floating], contract: ModelContract) -> npt.NDArray[np.uint8]:
    """The most probable phase of each voxel: uint8 [Z, Y, X] from x_0 [C, Z, Y, X].

    Raises:
        UsageError: the model gives grey levels, which have no phases.
    """
    if not contract.phases:
        raise UsageError(
            f"model {contract.name} gives grey levels, not phases: ask for --grey, or in a volume for a --threshold"
        )
    if len(contract.phases) == 2:
        return np.asarray(field[0] > 0, dtype=np.uint8)
    return np.asarray(field.argmax(axis=0), dtype=np.uint8)


def to_grey(field: npt.NDArray[np.floating], contract: ModelContract) -> npt.NDArray[np.float32]:
    """The field itself: float32 [Z, Y, X] in [-1, 1] from x_0 [1, Z, Y, X].

    Raises:
        UsageError: the model has a channel for each phase, so there is no one grey level.
    """
    if contract.channels != 1:
        raise UsageError(f"model {contract.name} has {contract.channels} channels: --grey needs one")
    return np.asarray(np.clip(field[0], -1, 1), dtype=np.float32)


def from_labels(labels: npt.NDArray[np.uint8], contract: ModelContract) -> npt.NDArray[np.float32]:
    """The field [C, …] that the network was trained on, from the labels of its phases."""
    if len(contract.phases) == 2:
        return labels[None].astype(np.float32) * 2 - 1
    phases = np.arange(len(contract.phases)).reshape(-1, *[1] * labels.ndim)
    return np.asarray(labels == phases, np.float32) * 2 - 1


def from_grey(levels: npt.NDArray[np.generic], what: str) -> npt.NDArray[np.float32]:
    """The field [1, …] from 8-bit grey levels, of which 0 is -1 and 255 is 1.

    Raises:
        DataError: levels of another type; it names ``what`` has them.
    """
    if levels.dtype != np.uint8:
        raise DataError(f"{what}: holds {levels.dtype}, but grey levels are read as 8 bits, 0 to 255")
    return levels[None].astype(np.float32) / np.float32(127.5) - 1
