"""Anchors: measured slices that a volume contains.

Where a slice is known, it takes the place of what is predicted (RePaint, Lugmayr et al. 2022, eq. 8, done to x̂₀). That
alone leaves its neighbours as they were: the network recognises one slice among many too late. So what the anchor says
beyond the prediction is spread to them as in kriging, with the correlation that the Gaussian field of the material's S2
still has at this noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mdiff_core import UsageError
from mdiff_core.contract import AXES

Volume = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

_JITTER = 1e-6  # neighbouring anchors of a smooth field are all but the same


@dataclass(frozen=True, eq=False)
class Anchor:
    """A slice that is known.

    Attributes:
        axis: 0, 1 or 2 for z, y or x, to which the slice is normal.
        index: where it stands on that axis, from 0.
        x0: float32 [C, H, W] in [-1, 1], the slice as the network knows images; rows and columns run along the other
            two axes in the order z, y, x.
    """

    axis: int
    index: int
    x0: Volume

    def check(self, shape: Sequence[int]) -> None:
        """See that it fits into a volume of ``shape`` [C, Z, Y, X].

        Raises:
            UsageError: it does not.
        """
        expected = tuple(n for axis, n in enumerate(shape) if axis != self.axis + 1)
        if self.x0.shape != expected:
            raise UsageError(
                f"an anchor normal to {AXES[self.axis]} has {'x'.join(map(str, expected[1:]))} pixels in this volume, "
                f"not {'x'.join(map(str, self.x0.shape[1:]))}"
            )
        if not 0 <= self.index < shape[self.axis + 1]:
            raise UsageError(
                f"anchor {AXES[self.axis]}={self.index}: the volume has {shape[self.axis + 1]} slices there, from 0"
            )


@dataclass(frozen=True)
class _Spread:
    """What parallel anchors add to the prediction: ``weights`` [slices, anchors] of ``amounts`` [anchors, C, H, W]."""

    weights: Floats
    amounts: Volume


class Anchors:
    """The anchors of one volume.

    Args:
        anchors: each of another place; where those of two axes cross, that of the later axis is put in last.
        shape: of the volume [C, Z, Y, X].
        periodic: axes along which it is.

    Raises:
        UsageError: one does not fit, or two stand at one place.
    """

    def __init__(self, anchors: Sequence[Anchor], shape: Sequence[int], periodic: str) -> None:
        for anchor in anchors:
            anchor.check(shape)
        places = [(anchor.axis, anchor.index) for anchor in anchors]
        for axis, index in places:
            if places.count((axis, index)) > 1:
                raise UsageError(f"anchor {AXES[axis]}={index}: two slices cannot stand at one place")
        self._parallel = {
            axis: of_axis for axis in range(3) if (of_axis := [anchor for anchor in anchors if anchor.axis == axis])
        }
        self._shape, self._periodic = shape, periodic
        self._spreads: dict[int, _Spread] = {}

    def compare(self, predicted: Callable[[tuple[slice, ...]], Volume], correlation: Floats) -> None:
        """Learn what the anchors say beyond the prediction; :meth:`apply` then adds it.

        Args:
            predicted: x̂₀ [C, …] of a place, given as slices along z, y and x.
            correlation: of what is still unknown, at distances of 0, 1, 2 … voxels, taken as zero beyond.
        """
        self._spreads = {}
        for axis, anchors in self._parallel.items():
            n, indices = self._shape[axis + 1], [anchor.index for anchor in anchors]
            missing = [
                anchor.x0
                - np.squeeze(predicted((slice(None),) * axis + (slice(anchor.index, anchor.index + 1),)), axis=axis + 1)
                - self._said_already(anchor)
                for anchor in anchors
            ]
            distance = np.abs(np.subtract.outer(np.arange(n), indices))
            if AXES[axis] in self._periodic:
                distance = np.minimum(distance, n - distance)
            weights = np.interp(distance, np.arange(len(correlation)), correlation, right=0.0)
            among = weights[indices] + _JITTER * np.eye(len(indices))
            amounts = np.tensordot(np.linalg.inv(among), np.stack(missing), 1).astype(np.float32)
            self._spreads[axis] = _Spread(weights, amounts)

    def _said_already(self, anchor: Anchor) -> Volume:
        """What the anchors of other axes, which cross it, add to its slice."""
        said = np.zeros_like(anchor.x0)
        for axis, spread in self._spreads.items():
            other = 3 - axis - anchor.axis
            line = np.take(spread.amounts, anchor.index, axis=2 + (anchor.axis > axis))
            added = np.tensordot(line, spread.weights, (0, 1))  # [C, other, axis]
            said += added if other < axis else np.swapaxes(added, 1, 2)
        return said

    def apply(self, x0: Volume, first: int) -> None:
        """Add what the anchors say to the prediction, and put them in.

        Args:
            x0: the part of the prediction [C, slices, Y, X] that begins at slice ``first`` along z; changed in place.
            first: see above.
        """
        part = slice(first, first + x0.shape[1])
        for axis, spread in self._spreads.items():
            weights, amounts = spread.weights, spread.amounts
            weights, amounts = (weights[part], amounts) if axis == 0 else (weights, amounts[:, :, part])
            for weight, place in zip(weights.astype(np.float32), np.moveaxis(x0, axis + 1, 0), strict=True):
                if weight.any():
                    place += np.tensordot(weight, amounts, 1)
        for axis, anchors in self._parallel.items():
            for anchor in anchors:
                if axis > 0:
                    x0[(slice(None),) * (axis + 1) + (anchor.index,)] = anchor.x0[:, part]
                elif first <= anchor.index < part.stop:
                    x0[:, anchor.index - first] = anchor.x0
