"""Multi-plane denoising: slices of one plane go to the denoiser, and the planes' predictions become one x̂₀."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mdiff_client.denoisers import Denoiser, Images
from mdiff_client.sampling.condition import Condition, predict
from mdiff_client.sampling.plan import SamplingPlan
from mdiff_client.sampling.thick_slices import PLAIN, Thickness, residual_noise, smooth
from mdiff_client.sampling.tilt import tilt
from mdiff_core import NoiseSchedule
from mdiff_core.contract import PLANES

Volume = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Prediction:
    """A denoised volume ``x0`` [C, Z, Y, X] and, where the variance is learned, ``v`` of the same shape."""

    x0: Volume
    v: Volume | None


@dataclass
class MultiPlane:
    """The denoiser's answer for a whole volume, one plane or all three at a time.

    Attributes:
        denoiser: the network.
        condition: what the volume is asked to be.
        plan: decides which planes are asked and how they are combined.
        training: the schedule the network was trained with.
        fractions: of each phase, which gain and tilt keep; None where the plan uses neither.
        on_evaluation: called after each network evaluation.
    """

    denoiser: Denoiser
    condition: Condition
    plan: SamplingPlan
    training: NoiseSchedule
    fractions: tuple[float, ...] | None
    on_evaluation: Callable[[], object]
    _memory: dict[int, Prediction] = field(default_factory=dict)

    def predict(
        self, x: Volume, alpha_bar: float, turn: int, thickness: Thickness, shift: tuple[int, ...]
    ) -> Prediction:
        """x̂₀ of the noisy volume.

        Args:
            x: x_t [C, Z, Y, X].
            alpha_bar: ᾱ_t.
            turn: says which plane's turn it is.
            thickness: of the slices at this noise.
            shift: cyclic shift under which the volume is denoised.
        """
        for axis in self._planes_to_ask(turn):
            self._memory[axis] = self._one_plane(x, alpha_bar, axis, thickness.width, shift)
        if self.plan.planes == "turn":
            only = self._memory[turn % 3]
            return Prediction(self._constrained(only.x0), only.v)
        variances = [plane.v for plane in self._memory.values() if plane.v is not None]
        x0 = np.mean([self._memory[axis].x0 for axis in range(3)], axis=0)
        if self.fractions is not None and thickness is not PLAIN:
            # Two phases share one channel, which is their difference.
            mean = 2 * np.array(self.fractions[-len(x0) :], dtype=x0.dtype)[:, None, None, None] - 1
            x0 = mean + thickness.gain * (x0 - mean)
        return Prediction(self._constrained(x0), np.mean(variances, axis=0) if variances else None)

    def _planes_to_ask(self, turn: int) -> list[int]:
        if self.plan.planes == "average" or (self.plan.planes == "lagged" and not self._memory):
            return [0, 1, 2]
        return [turn % 3]

    def _one_plane(self, x: Volume, alpha_bar: float, axis: int, width: float, shift: tuple[int, ...]) -> Prediction:
        sigma = ((1 - alpha_bar) / alpha_bar) ** 0.5 * residual_noise(width, x.shape[axis + 1])
        t = self.training.nearest(sigma)
        scale = (self.training.alpha_bar[t].item() / alpha_bar) ** 0.5
        noisy = np.roll(smooth(x, axis + 1, width) * scale, shift, axis=(1, 2, 3))
        slices: Images = np.ascontiguousarray(np.moveaxis(noisy, axis + 1, 0), dtype=np.float32)
        steps = np.full(len(slices), t, dtype=np.int64)
        label = self.denoiser.contract.planes.get(PLANES[axis])
        eps, v = predict(self.denoiser, self.condition, slices, steps, label)
        self.on_evaluation()
        x0 = self._gathered(self.training.predicted_x0(slices, eps, t), axis, shift)
        return Prediction(
            np.clip(x0, -1, 1) if self.plan.clip else x0, None if v is None else self._gathered(v, axis, shift)
        )

    def _gathered(self, slices: Volume, axis: int, shift: tuple[int, ...]) -> Volume:
        return np.roll(np.moveaxis(slices, 0, axis + 1), [-s for s in shift], axis=(1, 2, 3))

    def _constrained(self, x0: Volume) -> Volume:
        if self.plan.clip:
            x0 = np.clip(x0, -1, 1)
        return tilt(x0, self.fractions) if self.plan.tilt and self.fractions is not None else x0
