"""The tilt: the posterior of a two-phase field under a constraint on its volume fraction."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_LIMIT = 1 - 1e-5
_HALVINGS = 30


def tilt(x0: npt.NDArray[np.floating], mean: float) -> npt.NDArray[np.floating]:
    """Shift the log-odds of every voxel by one number so that the field's mean becomes ``mean``.

    A voxel's x̂₀ in (-1, 1) is the difference of its phases' probabilities; x̂₀ → tanh(artanh x̂₀ + δ) multiplies their
    odds by e^{2δ}. With τ = tanh δ this is (x̂₀ + τ) / (1 + x̂₀ τ); τ is found by bisection, the mean being monotone.
    """
    x = np.clip(x0, -_LIMIT, _LIMIT)
    low, high = -_LIMIT, _LIMIT
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _tilted(x, middle).mean(dtype=np.float64) < mean:
            low = middle
        else:
            high = middle
    return _tilted(x, (low + high) / 2)


def _tilted(x: npt.NDArray[np.floating], tau: float) -> npt.NDArray[np.floating]:
    tilted: npt.NDArray[np.floating] = (x + tau) / (1 + x * tau)
    return tilted
