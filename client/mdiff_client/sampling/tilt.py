"""The tilt: a two-phase field held at its phase fraction."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_LIMIT = 1 - 1e-5


def tilt(x0: npt.NDArray[np.floating], fraction: float) -> npt.NDArray[np.floating]:
    """Shift the log-odds of every voxel by one number so that the share ``fraction`` of them is above zero.

    A voxel's x̂₀ in (-1, 1) is the difference of its phases' probabilities; x̂₀ → tanh(artanh x̂₀ + δ) multiplies their
    odds by e^{2δ}. The voxels above zero are those that thresholding counts; the mean of x̂₀ would be held just as
    well by lifting voxels that are decided already, which changes no phase. With the quantile q = -tanh δ that is to
    become zero, the shift is (x̂₀ - q) / (1 - x̂₀ q).

    Args:
        x0: any shape, in [-1, 1].
        fraction: of the second phase, between 0 and 1.
    """
    x = np.clip(x0, -_LIMIT, _LIMIT)
    q = np.quantile(x, 1 - fraction).astype(x.dtype)
    tilted: npt.NDArray[np.floating] = (x - q) / (1 - x * q)
    return tilted
