"""Two-point correlation over all directions, and S2 and LP along each axis."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

from mdiff_client.metrics.metric import Floats, Labels, Row, Setting, Volumes
from mdiff_core import Descriptors, error_rate
from mdiff_core.contract import AXES

Indicator = npt.NDArray[np.bool_]
_BLOCK = 256  # edge of what one transform takes: 1.5 times that in every direction, float32, is 0.5 GB


def radial_two_point_correlation(indicator: Indicator, max_lag: int) -> Floats:
    """S2(r) for r = 0 … ``max_lag`` over all directions: the mean over the lags whose length rounds to r.

    Every pair inside the array counts once, pairs across its edges do not (no periodic wrap), as along an axis in
    :func:`mdiff_core.descriptors.two_point_correlation`. By the Wiener-Khinchin theorem, with zeros around the array;
    one larger than 256 voxels in a direction is taken in blocks, and pairs across blocks are left out.

    Args:
        indicator: boolean [Z, Y, X] or [H, W].
        max_lag: shorter than the array in every direction.

    Returns: float64 [max_lag + 1].
    """
    hits = np.zeros(max_lag + 1)
    pairs = np.zeros(max_lag + 1)
    starts = [range(0, max(n - max_lag, 1), _BLOCK) for n in indicator.shape]
    for corner in product(*starts):
        block = indicator[tuple(slice(start, start + _BLOCK) for start in corner)]
        if min(block.shape) > max_lag:
            of_block = _pairs(block, max_lag)
            hits, pairs = hits + of_block[0], pairs + of_block[1]
    return np.asarray(hits / pairs)


def _pairs(indicator: Indicator, max_lag: int) -> tuple[Floats, Floats]:
    """Of each rounded length: pairs that lie in the phase, and pairs."""
    from scipy import fft

    # Zeros as wide as the longest lag keep the transform's wrap away from the lags that are read.
    size = [fft.next_fast_len(n + max_lag, real=True) for n in indicator.shape]
    spectrum = fft.rfftn(indicator.astype(np.float32), size)
    products = fft.irfftn(np.abs(spectrum) ** 2, size)
    lags = [np.concatenate([np.arange(max_lag + 1), np.arange(-max_lag, 0)]) for _ in size]
    inside = np.ix_(*(lag % n for lag, n in zip(lags, size, strict=True)))
    possible = np.ones(())
    squares = np.zeros(())
    for lag, n in zip(lags, indicator.shape, strict=True):
        possible = possible[..., None] * (n - np.abs(lag))
        squares = squares[..., None] + lag**2
    length = np.rint(np.sqrt(squares)).astype(np.int64)
    near = length <= max_lag

    def summed(values: npt.NDArray[np.floating]) -> Floats:
        weights = values[near].astype(np.float64)
        return np.asarray(np.bincount(length[near], weights, max_lag + 1), dtype=np.float64)

    return summed(products[inside]), summed(possible)


def radial_rows(volumes: Volumes, setting: Setting) -> Iterator[Row]:
    """Error rate (Micro3Diff eq. 24) of the volumes' mean radial S2.

    Against that of the real material; where only its curves along the axes are known, against these: in an isotropic
    material they are the same function.
    """
    for name in setting.references:
        label = setting.names.index(name)
        reference = (
            np.array(setting.references[name].s2)
            if setting.real is None
            else radial_two_point_correlation(setting.real == label, setting.max_lag)
        )
        samples = np.array([radial_two_point_correlation(one == label, setting.max_lag) for one in volumes()])
        yield Row(name, samples, partial(_error, reference))


def axis_rows(volumes: Volumes, setting: Setting) -> Iterator[Row]:
    """Error rates of S2 and LP along each axis, against the material along that axis where it is known."""
    for name in setting.references:
        label = setting.names.index(name)
        found = [_along_axes(one, label, setting.max_lag) for one in volumes()]
        for axis in sorted(set.intersection(*map(set, found)), key=AXES.index):
            reference = setting.references_along.get(axis, {}).get(name) or setting.references[name]
            curves: tuple[tuple[str, Literal["s2", "lineal_path"]], ...] = (("S2", "s2"), ("LP", "lineal_path"))
            for title, curve in curves:
                samples = np.array([getattr(of[axis], curve) for of in found])
                yield Row(
                    f"{title} of {name} along {axis}", samples, partial(_error, np.array(getattr(reference, curve)))
                )


def _along_axes(labels: Labels, label: int, max_lag: int) -> dict[str, Descriptors]:
    return {name: Descriptors.of(labels == label, max_lag, [axis]) for axis, name in enumerate(AXES[-labels.ndim :])}


def _error(reference: Floats, samples: Floats) -> float:
    return error_rate(samples.mean(axis=0), reference)
