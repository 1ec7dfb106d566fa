"""Grey levels in [-1, 1]."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from mdiff_core import DataError

Range = tuple[float, float]


def grey_range(images: Iterable[npt.NDArray[np.generic]]) -> Range:
    """Grey levels that become -1 and +1: the least 0.1 and the greatest 99.9 percentile of any of the images.

    Neither a 12-bit camera in a 16-bit file nor a few hot pixels cost contrast that way.

    Raises:
        DataError: no contrast, or values that are not finite.
    """
    low, high = np.inf, -np.inf
    for image in images:
        values = image.astype(np.float32)
        if not np.isfinite(values).all():
            raise DataError("the grey levels are not finite")
        darkest, brightest = np.percentile(values, (0.1, 99.9)).tolist()
        low, high = min(low, darkest), max(high, brightest)
    if not high > low:
        raise DataError(f"the grey levels have no contrast: nearly all of them are {low:g}")
    return low, high


def scaled(image: npt.NDArray[np.generic], to: Range) -> npt.NDArray[np.float32]:
    """An image whose range becomes [-1, 1]; what lies outside is clipped."""
    low, high = to
    grey: npt.NDArray[np.float32] = (image.astype(np.float32) - low) / (high - low) * 2 - 1
    return grey.clip(-1, 1)
