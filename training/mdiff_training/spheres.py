"""Case I of Micro3Diff: a synthetic volume of spherical inclusions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mdiff_core import DataError, UsageError


def spheres(
    shape: tuple[int, int, int] = (300, 64, 64),
    *,
    fraction: float = 0.30,
    diameter_mean: float = 15.0,
    diameter_std: float = 4.0,
    gap: float = 1.0,
    seed: int = 0,
) -> npt.NDArray[np.uint8]:
    """Spheres that do not overlap, placed at random in a periodic box (random sequential addition, largest first).

    Diameters are N(``diameter_mean``, ``diameter_std``) voxels (Micro3Diff, section 4), drawn within three standard
    deviations until they fill ``fraction`` of the box; ``gap`` voxels between surfaces keep spheres apart on the grid.

    Returns: uint8 ``shape`` (z, y, x), 1 inside the spheres.

    Raises:
        UsageError: sizes or fraction that make no sense.
        DataError: the spheres do not fit.
    """
    if not 0 < fraction < 0.4:
        raise UsageError(f"fraction {fraction}: spheres placed at random fill between 0 and 0.38 of a box")
    if diameter_mean <= 1 or diameter_std < 0 or gap < 0:
        raise UsageError(f"diameters N({diameter_mean}, {diameter_std}) and gap {gap}: a mean above 1, the rest from 0")
    if min(shape) < max(2 * diameter_mean, diameter_mean + 3 * diameter_std + gap):
        raise UsageError(f"a box of {shape} is too small for spheres of diameter N({diameter_mean}, {diameter_std})")
    rng = np.random.default_rng(seed)
    box = np.array(shape, dtype=float)
    radii = _draw_radii(rng, fraction * box.prod(), diameter_mean, diameter_std)
    centres = np.empty((0, 3))
    for i, radius in enumerate(radii):
        for _ in range(20_000):
            centre = rng.uniform(0, box)
            distance = np.linalg.norm(_periodic(centres - centre, box), axis=1)
            if np.all(distance >= radii[:i] + radius + gap):
                centres = np.vstack([centres, centre])
                break
        else:
            raise DataError(f"sphere {i + 1} of {len(radii)} found no room: lower the fraction")
    return _voxelize(centres, radii, shape)


def _draw_radii(rng: np.random.Generator, volume: float, mean: float, std: float) -> npt.NDArray[np.float64]:
    diameters: list[float] = []
    filled = 0.0
    while filled < volume:
        diameter = rng.normal(mean, std)
        if diameter > 1 and abs(diameter - mean) <= 3 * std:
            diameters.append(diameter)
            filled += np.pi / 6 * diameter**3
    return np.sort(diameters)[::-1] / 2


def _voxelize(
    centres: npt.NDArray[np.float64], radii: npt.NDArray[np.float64], shape: tuple[int, int, int]
) -> npt.NDArray[np.uint8]:
    volume = np.zeros(shape, dtype=np.uint8)
    for centre, radius in zip(centres, radii, strict=True):
        reach = np.arange(-np.ceil(radius) - 1, np.ceil(radius) + 2)
        cells = [np.floor(c) + reach for c in centre]
        z, y, x = (
            (cell + 0.5 - c).reshape([-1 if i == axis else 1 for i in range(3)]) ** 2
            for axis, (cell, c) in enumerate(zip(cells, centre, strict=True))
        )
        wrapped = np.ix_(*(cell.astype(int) % n for cell, n in zip(cells, shape, strict=True)))
        volume[wrapped] |= (z + y + x <= radius**2).astype(np.uint8)
    return volume


def _periodic(offset: npt.NDArray[np.float64], box: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    nearest: npt.NDArray[np.float64] = offset - box * np.round(offset / box)
    return nearest
