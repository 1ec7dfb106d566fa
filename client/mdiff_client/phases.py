"""From the network's field to phase labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mdiff_core import ModelContract, UsageError


def to_labels(field: npt.NDArray[np.floating], contract: ModelContract) -> npt.NDArray[np.uint8]:
    """The most probable phase of each voxel: uint8 [Z, Y, X] from x_0 [C, Z, Y, X].

    Raises:
        UsageError: the model gives grey levels, which have no phases.
    """
    if not contract.phases:
        raise UsageError(f"model {contract.name} gives grey levels, not phases: ask for --grey")
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
