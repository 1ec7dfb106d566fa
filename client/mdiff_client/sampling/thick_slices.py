"""Thick slices: smoothing across the slices, with width and gain calibrated on the material's covariance.

A 3D denoiser recognizes structure of correlation length ξ at noise σ ~ ξ^1.5, a 2D one only at σ ~ ξ. Averaging
neighbouring slices lowers the noise that the 2D network sees without blurring what it can tell yet. Which width, and by
how much the planes' mean then falls short of the 3D answer, follows in closed form for the Gaussian field that has the
material's two-point correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_THIN, _NOTHING = 1e-3, 1e-7
_WIDTHS = (0.0, 0.5, 0.7, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0)


@dataclass(frozen=True)
class Thickness:
    """``width`` of the smoothing in voxels, and the ``gain`` on the mean of the planes' predictions."""

    width: float
    gain: float


@dataclass(frozen=True)
class Look:
    """When the slices normal to an axis were last denoised.

    Attributes:
        axis: 0, 1 or 2.
        sigma: the noise at that time.
        width: of the smoothing then.
        kept: share of that noise, in standard deviations, which the volume still has.
        weight: of the answer in the mean.
    """

    axis: int
    sigma: float
    width: float
    kept: float
    weight: float


PLAIN = Thickness(0.0, 1.0)
"""Slices as they are."""


def gaussian(width: float, n: int) -> Floats:
    """Periodic Gaussian kernel of ``n`` voxels, centred on 0, sum 1; width 0 is the identity."""
    r = np.minimum(np.arange(n), n - np.arange(n))
    h = np.exp(-0.5 * (r / width) ** 2) if width > 0 else (r == 0).astype(np.float64)
    kernel: Floats = h / h.sum()
    return kernel


def kernel(width: float, n: int, *, periodic: bool) -> Floats:
    """Weights [n, n] with which n slices are made of n slices: each row a Gaussian around its own, with sum 1.

    Where the axis is not ``periodic`` the first and the last slices are made of fewer. The norm of a row is what is
    left of unit noise in that slice.
    """
    distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    weights = gaussian(width, n)[distance] if periodic else np.exp(-0.5 * (distance / max(width, _THIN)) ** 2)
    weights[weights < _NOTHING * weights.max()] = 0.0
    rows: Floats = weights / weights.sum(axis=1, keepdims=True)
    return rows


class GaussianModel:
    """The isotropic Gaussian field with a material's covariance, on an n-periodic grid.

    Args:
        autocovariance: C(r) for r = 0, 1, 2 … voxels; taken as zero beyond.
        n: edge of the volume, voxels.
    """

    def __init__(self, autocovariance: Sequence[float] | Floats, n: int) -> None:
        r = np.minimum(np.arange(n), n - np.arange(n)).astype(np.float64)

        def covariance(*offsets: Floats) -> Floats:
            distance = np.sqrt(sum(offset**2 for offset in np.meshgrid(*offsets, indexing="ij")))
            return np.interp(distance, np.arange(len(autocovariance)), autocovariance, right=0.0)

        # Even in every axis: one octant of the spectrum says it all, each mode counted as often as it occurs.
        half = n // 2 + 1
        self._n = n
        self._volume = np.maximum(np.fft.fftn(covariance(r, r, r)).real[:half, :half, :half], 1e-6)
        self._slice = np.maximum(np.fft.fft2(covariance(r, r)).real[:half, :half], 1e-6)
        line = np.full(half, 2.0)
        line[0] = 1.0
        if n % 2 == 0:
            line[-1] = 1.0
        self._count = line[:, None, None] * line[:, None] * line

    def width(self, sigma: float) -> float:
        """Width with which the mean of three thick-slice denoisers, times a gain, comes nearest to the exact 3D one."""
        return min(_WIDTHS, key=lambda width: self._fit(sigma, _all_now(sigma, width))[0])

    def gain(self, sigma: float, looks: Sequence[Look]) -> float:
        """Factor with which the mean of the answers to ``looks`` comes nearest to the exact 3D one at noise ``sigma``.

        The exact one is λ₃/(λ₃+σ²), a thick-slice one ĥ·λ₂/(λ₂+σ²Σh²); nearest in least squares over the modes. An
        earlier look has seen the same field, λ₃, but another noise, of which less is left the more has been drawn anew.
        """
        return self._fit(sigma, looks)[1]

    def correlation(self, sigma: float) -> Floats:
        """Correlation, at distances of 0, 1, 2 … voxels, of what noise σ leaves unknown: of spectrum λ₃σ²/(λ₃+σ²)."""
        left = self._volume * sigma**2 / (self._volume + sigma**2)
        along = (self._count[0] * left).sum(axis=(1, 2))
        covariance = np.fft.irfft(along, n=self._n)[: self._n // 2 + 1]
        correlation: Floats = covariance / covariance[0]
        return correlation

    def _fit(self, sigma: float, looks: Sequence[Look]) -> tuple[float, float]:
        """Relative squared error, and gain, of the best multiple of the mean of what was answered."""
        exact = self._volume / (self._volume + sigma**2)
        # Looks at one time saw one noise: their answers add up.
        answers: dict[tuple[float, float], Floats] = {}
        for look in looks:
            time = look.sigma, look.kept
            answers[time] = answers.get(time, 0.0) + look.weight * self._answer(look)
        cross = square = 0.0
        for (one, kept), answer in answers.items():
            cross += self._power(answer * exact, kept * one * sigma)
            for (two, later), other in answers.items():
                common = 1.0 if kept == later else min(kept, later) / max(kept, later)
                square += self._power(answer * other, common * one * two)
        return 1 - cross**2 / (square * self._power(exact**2, sigma**2)), cross / square

    def _power(self, transfer: Floats, noise: float) -> float:
        """Of all modes of the field, and of noise of this variance, that pass through ``transfer``."""
        return float((self._count * transfer * (self._volume + noise)).sum())

    def _answer(self, look: Look) -> Floats:
        h = gaussian(look.width, self._n)
        across = np.fft.rfft(h).real.reshape([-1 if axis == look.axis else 1 for axis in range(3)])
        within = self._slice / (self._slice + look.sigma**2 * (h**2).sum())
        answer: Floats = np.expand_dims(within, look.axis) * across
        return answer


def _all_now(sigma: float, width: float) -> list[Look]:
    return [Look(axis, sigma, width, 1.0, 1 / 3) for axis in range(3)]
