"""The chain from noise to x_0: the volume itself, and what each pass does to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mdiff_client.sampling.noise import Noise, Purpose
from mdiff_client.sampling.plan import Pass, SamplingPlan
from mdiff_client.sampling.planes import MultiPlane
from mdiff_client.sampling.reverse import reverse_step
from mdiff_core import NoiseSchedule

Volume = npt.NDArray[np.float32]

_SLAB = 16  # slices along z that are updated together; each slab has its own stream of noise


class Chain:
    """x_t on its way: each pass is x ← a·x + b·x̂₀ + c·z, done in place, slab by slab.

    A solver of second order adds a multiple of the x̂₀ of the step before.

    Attributes:
        x: x_t, float32 [C, Z, Y, X].
    """

    def __init__(
        self, noise: Noise, shape: tuple[int, ...], plan: SamplingPlan, schedule: NoiseSchedule, *, learned: bool
    ) -> None:
        self._noise, self._plan, self._schedule, self._learned = noise, plan, schedule, learned
        self.x = np.empty(shape, np.float32)
        # x̂₀ of the step before, which a solver of second order goes by.
        self._before = np.zeros(shape, np.float32) if plan.sampler == "dpm-solver++" else None
        self._slabs = [slice(first, min(first + _SLAB, shape[1])) for first in range(0, shape[1], _SLAB)]

        def start(slab: slice) -> None:
            self.x[:, slab] = self._draw(Purpose.START, 0, 0, slab)

        self._everywhere(start)

    def scale_and_noise(self, this: Pass) -> None:
        """a·x + c·z, for which no answer is needed."""
        step = reverse_step(self._plan, self._schedule, this.i, again=this.again)

        def update(slab: slice) -> None:
            x = self.x[:, slab]
            x *= np.float32(step.state)
            if self._before is not None:
                x += np.float32(step.before) * self._before[:, slab]
            if step.variance and not self._learned:
                x += np.float32(step.variance**0.5) * self._draw(Purpose.REVERSE, this.i, this.repeat, slab)

        self._everywhere(update)

    def add_prediction(self, planes: MultiPlane, this: Pass) -> None:
        """b·x̂₀, and the noise whose variance the network tells."""

        def update(slab: slice) -> None:
            step = reverse_step(self._plan, self._schedule, this.i, planes.v(slab), again=this.again)
            x, x0 = self.x[:, slab], planes.x0(slab)
            if self._before is not None and not this.again:
                self._before[:, slab] = x0
            x0 *= np.float32(step.x0)
            x += x0
            if self._learned and this.i > 0:
                x += np.sqrt(step.variance, dtype=np.float32) * self._draw(Purpose.REVERSE, this.i, this.repeat, slab)

        self._everywhere(update)

    def _draw(self, purpose: Purpose, step: int, repeat: int, slab: slice) -> Volume:
        channels, _, height, width = self.x.shape
        shape = (channels, slab.stop - slab.start, height, width)
        return self._noise.normal(purpose, step, repeat, shape, part=slab.start // _SLAB)

    def _everywhere(self, update: Callable[[slice], None]) -> None:
        # numpy lets other threads run while it computes.
        for _ in _threads().map(update, self._slabs):
            pass


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    # Each holds a few copies of a slab.
    return ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="mdiff-update")
