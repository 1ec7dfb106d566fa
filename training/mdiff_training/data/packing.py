"""Balls in a periodic box: where they find room, and how far apart they are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class NoRoomError(Exception):
    """A ball found none; ``number`` is which, counted from 1."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def packed(radii: Floats, box: Floats, rng: np.random.Generator, *, apart: float = 1.0, gap: float = 0.0) -> Floats:
    """Random sequential addition: centres [N, 3] of balls placed one after the other, in voxels from 0 to ``box``.

    No two are nearer than ``apart`` times the sum of their radii plus ``gap``. Give the largest first.

    Raises:
        NoRoomError: one ball found no place in 20,000 trials.
    """
    centres = np.empty((len(radii), 3))
    for i, radius in enumerate(radii):
        for _ in range(20_000):
            centres[i] = rng.uniform(0, box)
            distance = np.linalg.norm(periodic(centres[:i] - centres[i], box), axis=1)
            if np.all(distance >= apart * (radii[:i] + radius) + gap):
                break
        else:
            raise NoRoomError(i + 1)
    return centres


def periodic(offset: Floats, box: Floats) -> Floats:
    """Offsets [..., 3] to the nearest of all periodic images."""
    nearest: Floats = offset - box * np.round(offset / box)
    return nearest
