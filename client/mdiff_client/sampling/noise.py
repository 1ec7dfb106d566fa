"""Noise that depends only on where it is used, so that batching, sharding, retries and resuming cannot change it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Purpose(IntEnum):
    """What a draw is for; each has its own streams."""

    START = 0
    REVERSE = 1
    ROLL = 2


@dataclass(frozen=True)
class Noise:
    """The random numbers of one volume or image, from the counter-based generator Philox keyed by (seed, number)."""

    seed: int
    number: int

    def normal(
        self, purpose: Purpose, step: int, repeat: int, shape: tuple[int, ...], part: int = 0
    ) -> npt.NDArray[np.float32]:
        """Standard normal float32 of ``shape`` for pass ``repeat`` of ``step``; each ``part`` has its own stream."""
        return self._stream(purpose, step, repeat, part).standard_normal(shape, dtype=np.float32)

    def shift(self, step: int, repeat: int, size: tuple[int, ...]) -> tuple[int, ...]:
        """A cyclic shift for each axis of a volume of ``size``."""
        return tuple(self._stream(Purpose.ROLL, step, repeat).integers(0, size).tolist())

    def _stream(self, purpose: Purpose, step: int, repeat: int, part: int = 0) -> np.random.Generator:
        # The lowest word of the counter is the one that the generator advances.
        counter = np.array([0, purpose + (part << 8), repeat, step], dtype=np.uint64)
        key = np.array([self.seed, self.number], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))
