"""Selecting phases of a labelled array."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mdiff_core import DataError, UsageError

Phases = Mapping[str, tuple[int, ...]]
"""Values that stand for each phase in a file, by phase name, in the order of the phase labels."""


def parse_phases(text: str) -> Phases:
    """Turn ``"rest=0+2,active=1"`` into values by phase name.

    Raises:
        UsageError: not of that form, fewer than two phases or more than 255, or a name or a value that stands twice.
    """
    phases: dict[str, tuple[int, ...]] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*([^=\s][^=]*?)\s*=\s*(-?\d+(?:\+-?\d+)*)\s*", part)
        if match is None or match[1] in phases:
            raise UsageError(f"phases {text!r}: {part!r} is not NAME=VALUE or NAME=VALUE+VALUE with a name of its own")
        phases[match[1]] = tuple(int(value) for value in match[2].split("+"))
    values = [value for group in phases.values() for value in group]
    if len(phases) < 2 or len(phases) > 255 or len(set(values)) < len(values):
        raise UsageError(f"phases {text!r}: name two to 255 phases, each value once")
    return phases


def group_phases(
    array: npt.NDArray[np.generic], phases: Phases, what: str = "the array", *, all_present: bool = True
) -> npt.NDArray[np.uint8]:
    """Phase labels: 0 where the array holds a value of the first phase, 1 for the second, and so on.

    Raises:
        DataError: values that belong to no phase or, where they must be ``all_present``, a phase of which none occurs.
    """
    found, place = np.unique(array, return_inverse=True)
    label_of = {value: label for label, values in enumerate(phases.values()) for value in values}
    listed = ", ".join(f"{value:g}" for value in found[:10].tolist()) + (" …" if len(found) > 10 else "")
    unnamed = [value for value in found.tolist() if value not in label_of]
    if unnamed:
        raise DataError(f"{what}: value {unnamed[0]:g} belongs to no phase; its values are {listed}")
    labels = np.array([label_of[value] for value in found.tolist()], dtype=np.uint8)
    absent = [name for label, name in enumerate(phases) if label not in labels]
    if absent and all_present:
        raise DataError(f"{what}: nothing of phase {absent[0]!r}; its values are {listed}")
    return labels[place].reshape(array.shape)
