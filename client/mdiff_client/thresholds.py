"""From grey levels to two phases, by a threshold that is given or that Otsu's method finds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mdiff_core import ModelContract, Phase, UsageError

_LEVELS = 256


@dataclass(frozen=True)
class Threshold:
    """Where grey levels in [-1, 1] are split.

    Attributes:
        level: what lies above it is bright; None: for each volume the level that Otsu's method finds.

    Raises:
        UsageError: a level outside (-1, 1).
    """

    level: float | None = None

    def __post_init__(self) -> None:
        if self.level is not None and not -1 < self.level < 1:
            raise UsageError(f"threshold {self.level:g} does not lie between the grey levels -1 and 1")

    @classmethod
    def parse(cls, text: str) -> Threshold:
        """Of ``otsu``, or a number.

        Raises:
            UsageError: neither.
        """
        if text == "otsu":
            return cls()
        try:
            return cls(float(text))
        except ValueError as error:
            raise UsageError(f"threshold {text!r}: give otsu, or a grey level between -1 and 1") from error

    def contract(self, of: ModelContract) -> ModelContract:
        """The contract of what comes out: a material of the phases ``dark`` and ``bright``, without references.

        Raises:
            UsageError: the model has phases, or more than one channel.
        """
        if of.phases:
            raise UsageError(f"model {of.name} gives phases, which need no threshold: leave --threshold out")
        if of.channels != 1:
            raise UsageError(f"model {of.name} has {of.channels} channels: a threshold needs one")
        return dataclasses.replace(
            of, phases=(Phase("dark", 0), Phase("bright", 255)), references={}, references_along={}, references_told=()
        )

    def of(self, grey: npt.NDArray[np.floating]) -> float:
        """The level at which these grey levels are split."""
        return otsu(grey) if self.level is None else self.level


def otsu(grey: npt.NDArray[np.floating]) -> float:
    """The threshold that parts grey levels in [-1, 1] into the two classes of least variance within (Otsu 1979).

    Searched between 256 equal levels; the middle one, where several are as good.
    """
    level = np.rint((np.clip(grey, -1, 1) + 1) * (_LEVELS - 1) / 2).astype(np.uint8)
    counts = np.bincount(level.ravel(), minlength=_LEVELS).astype(np.float64)
    below = counts.cumsum()[:-1]
    above, total = counts.sum() - below, (counts * np.arange(_LEVELS)).sum()
    sums = (counts * np.arange(_LEVELS)).cumsum()[:-1]
    # Variance between the classes, n₀ n₁ (μ₀ - μ₁)² but for a factor; what it gains, the variance within loses.
    apart = np.divide(sums, below, where=below > 0, out=np.zeros_like(sums))
    apart -= np.divide(total - sums, above, where=above > 0, out=np.zeros_like(sums))
    between = below * above * apart**2
    best = float(np.flatnonzero(between == between.max()).mean())
    return (best + 0.5) * 2 / (_LEVELS - 1) - 1
