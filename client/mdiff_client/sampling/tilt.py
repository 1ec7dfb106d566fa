"""The tilt: a field of phases held at its phase fractions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_LIMIT = 1 - 1e-5
_SWEEPS, _CLOSE_ENOUGH = 20, 1e-3
Field = npt.NDArray[np.floating]


def tilt(x0: Field, fractions: Sequence[float]) -> Field:
    """Multiply the odds of the phases by the same numbers in every voxel, so that thresholding gives ``fractions``.

    This is the posterior under a constraint on the volume's phase fractions. The voxels in which a phase is the most
    probable one are those that thresholding counts; the mean probability would be held just as well by lifting voxels
    that are decided already, which changes no phase.

    Args:
        x0: [C, Z, Y, X] in [-1, 1]: of two phases one channel, the difference of their probabilities; of more a channel
            each, twice its probability less one.
        fractions: of each phase, at least two, with sum 1.
    """
    return _tilt_two(x0, fractions[1]) if len(x0) == 1 else _tilt_many(x0, fractions)


def _tilt_two(x0: Field, fraction: float) -> Field:
    # x̂₀ → tanh(artanh x̂₀ + δ) multiplies the odds by e^{2δ}. With the quantile q = -tanh δ that is to become zero, the
    # shift is (x̂₀ - q) / (1 - x̂₀ q).
    x = np.clip(x0, -_LIMIT, _LIMIT)
    q = np.quantile(x, 1 - fraction).astype(x.dtype)
    tilted: Field = (x - q) / (1 - x * q)
    return tilted


def _tilt_many(x0: Field, fractions: Sequence[float]) -> Field:
    """One phase after the other gets the log-odds that give it its share against the rest, until all have it."""
    logits = np.log((1 + np.clip(x0, -_LIMIT, _LIMIT)) / 2)
    for _ in range(_SWEEPS):
        shares = np.bincount(logits.argmax(axis=0).ravel(), minlength=len(logits)) / logits[0].size
        if np.abs(shares - fractions).max() <= _CLOSE_ENOUGH:
            break
        for phase, fraction in enumerate(fractions):
            lead = logits[phase] - np.delete(logits, phase, axis=0).max(axis=0)
            logits[phase] -= np.quantile(lead, 1 - fraction)
    odds = np.exp(logits - logits.max(axis=0))
    tilted: Field = 2 * odds / odds.sum(axis=0) - 1
    return tilted
