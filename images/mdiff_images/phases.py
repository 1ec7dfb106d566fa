"""Selecting phases of a labelled array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mdiff_core import DataError


def group_phases(
    array: npt.NDArray[np.generic], values: Sequence[int], what: str = "the array"
) -> npt.NDArray[np.bool_]:
    """True where the array holds one of ``values``: the phase of interest against the rest.

    Raises:
        DataError: a value that does not occur, or nothing left beside the phase.
    """
    absent = [value for value in values if not np.any(array == value)]
    if absent:
        found = np.unique(array)
        listed = ", ".join(str(v) for v in found[:10]) + (" …" if len(found) > 10 else "")
        raise DataError(f"{what} has no voxel of value {absent[0]}: its values are {listed}")
    phase = np.isin(array, list(values))
    if phase.all():
        raise DataError(f"{what} holds nothing beside the phase {list(values)}")
    return phase
