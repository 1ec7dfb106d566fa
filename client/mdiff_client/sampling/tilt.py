"""The tilt: a field of phases held at its phase fractions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_LIMIT = 1 - 1e-5
_LEVEL_LIMIT = 1 - 1e-4  # below the limit of the field, whose decided voxels would else all land on zero
_RAREST = 1e-6
_SWEEPS, _CLOSE_ENOUGH, _BINS = 20, 5e-4, 2**12
Field = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Tilt:
    """Multiplies the odds of the phases by the same numbers in every voxel, so that a field has its phase fractions.

    This is the posterior under a constraint on the volume's phase fractions: on the mean probabilities as long as most
    voxels are undecided, on what thresholding would give once they are decided. Early on a rare phase is the most
    probable one nowhere, and would have to be lifted out of all proportion; later the mean would be held just as well
    by lifting voxels that are decided already, which changes no phase.

    Attributes:
        log_odds: what is added to the log-odds of each channel's phase.
    """

    log_odds: tuple[float, ...]

    @classmethod
    def of_shares(cls, x0: Field, fractions: Sequence[float], near: Tilt | None = None) -> Tilt:
        """The tilt after which each phase is the most probable one in its fraction of the voxels.

        Args:
            x0: [C, …] in [-1, 1]: of two phases one channel, the difference of their probabilities; of more a channel
                each, twice its probability less one.
            fractions: of each phase, at least two, with sum 1.
            near: a tilt to start the search from.
        """
        if len(x0) == 1:
            return cls((-2 * float(np.arctanh(np.clip(_level(x0, fractions[1]), -_LEVEL_LIMIT, _LEVEL_LIMIT))),))
        return cls(_shares(x0, fractions, near.log_odds if near else (0.0,) * len(x0)))

    @classmethod
    def of_means(cls, x0: Field, fractions: Sequence[float], near: Tilt | None = None) -> Tilt:
        """The tilt after which the mean probability of each phase is its fraction; the arguments as before."""
        first = (1 + np.clip(x0, -_LIMIT, _LIMIT)) / 2
        odds = np.concatenate([1 - first, first]) if len(x0) == 1 else first
        odds, added = odds.reshape(len(odds), -1), np.zeros(len(odds))
        if near:
            added[-len(x0) :] = near.log_odds
        for _ in range(_SWEEPS):
            weighted = odds * np.exp(added)[:, None].astype(odds.dtype)
            means = (weighted / weighted.sum(axis=0)).mean(axis=1)
            if np.abs(means - fractions).max() <= _CLOSE_ENOUGH:
                break
            added += np.log(np.maximum(fractions, _RAREST) / np.maximum(means, _RAREST))
        return cls((added[1] - added[0],) if len(x0) == 1 else tuple(added.tolist()))

    def __call__(self, x0: Field) -> Field:
        """The field tilted."""
        if len(x0) == 1:
            # x̂₀ → tanh(artanh x̂₀ + δ), without the tanh of every voxel.
            x, shift = np.clip(x0, -_LIMIT, _LIMIT), np.tanh(self.log_odds[0] / 2).astype(x0.dtype)
            x += shift
            x /= 1 + shift * (x - shift)
            return x
        weights = np.exp(np.array(self.log_odds) - max(self.log_odds)).astype(x0.dtype)
        odds: Field = (1 + np.clip(x0, -_LIMIT, _LIMIT)) * weights.reshape(-1, *[1] * (x0.ndim - 1))
        odds /= odds.sum(axis=0) / 2
        odds -= 1
        return odds


def _shares(x0: Field, fractions: Sequence[float], start: Sequence[float]) -> tuple[float, ...]:
    """One phase after the other gets the log-odds that give it its share against the rest, until all have it."""
    added = np.array(start)
    logits = np.log1p(np.clip(x0, -_LIMIT, _LIMIT)).reshape(len(x0), -1)
    logits += added[:, None].astype(logits.dtype)
    for _ in range(_SWEEPS):
        shares = np.bincount(logits.argmax(axis=0), minlength=len(logits)) / logits[0].size
        if np.abs(shares - fractions).max() <= _CLOSE_ENOUGH:
            break
        for phase, fraction in enumerate(fractions):
            rest = np.maximum.reduce([other for i, other in enumerate(logits) if i != phase])
            lift = -_level(logits[phase] - rest, fraction)
            logits[phase] += lift
            added[phase] += lift
    return tuple(added.tolist())


def _level(values: Field, share: float) -> float:
    """The level above which lies this share of the values, from a histogram: a sort takes six times as long."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        return low
    bins = ((values.ravel() - low) * (_BINS / (high - low))).astype(np.intp)
    above = np.concatenate([[0], np.cumsum(np.bincount(bins, minlength=_BINS + 1)[::-1])])
    edges = np.linspace(high, low, _BINS + 1)
    return float(np.interp(share * values.size, above, [high, *edges]))
