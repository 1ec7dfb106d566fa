"""Case I of Micro3Diff: synthetic volumes of spherical inclusions, apart or overlapping."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mdiff_core import DataError, UsageError
from mdiff_training.data.packing import NoRoomError, packed


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
        raise UsageError(f"fraction {fraction}: spheres apart fill between 0 and 0.38 of a box, overlapping ones more")
    _check_sizes(shape, diameter_mean, diameter_std, gap)
    rng = np.random.default_rng(seed)
    box = np.array(shape, dtype=float)
    radii = _draw_radii(rng, fraction * box.prod(), diameter_mean, diameter_std)
    try:
        centres = packed(radii, box, rng, gap=gap)
    except NoRoomError as error:
        raise DataError(f"sphere {error.number} of {len(radii)} found no room: lower the fraction") from error
    volume = np.zeros(shape, dtype=np.uint8)
    for centre, radius in zip(centres, radii, strict=True):
        where, ball = _ball(centre, radius, shape)
        volume[where] |= ball
    return volume


def overlapping_spheres(
    shape: tuple[int, int, int] = (300, 64, 64),
    *,
    fraction: float = 0.50,
    diameter_mean: float = 15.0,
    diameter_std: float = 4.0,
    seed: int = 0,
) -> npt.NDArray[np.uint8]:
    """Spheres with independent centres in a periodic box, the Boolean model (Torquato 2002, section 5.2).

    Diameters as in :func:`spheres`. Spheres are added one at a time until they fill ``fraction`` of the voxels within
    0.002; one that would overshoot is drawn again, which concerns the last one or two.

    Returns: uint8 ``shape`` (z, y, x), 1 inside the spheres.

    Raises:
        UsageError: sizes or fraction that make no sense.
        DataError: the box is too small for so exact a fraction.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"fraction {fraction}: overlapping spheres fill between 0 and 1 of a box")
    _check_sizes(shape, diameter_mean, diameter_std, gap=0)
    rng = np.random.default_rng(seed)
    volume = np.zeros(shape, dtype=np.uint8)
    missing, tolerance = fraction * volume.size, 0.002 * volume.size
    refused = 0
    for diameter in _diameters(rng, diameter_mean, diameter_std):
        where, ball = _ball(rng.uniform(0, shape), diameter / 2, shape)
        union = volume[where] | ball
        gain = np.count_nonzero(union) - np.count_nonzero(volume[where])
        if gain <= missing + tolerance:
            volume[where] = union
            missing, refused = missing - gain, 0
        else:
            refused += 1
        if missing <= tolerance or refused == 2000:
            break
    if missing > tolerance:
        raise DataError(f"no sphere brings {fraction} of {shape} voxels within 0.002: make the box larger")
    return volume


def _check_sizes(shape: tuple[int, int, int], mean: float, std: float, gap: float) -> None:
    if mean <= 1 or std < 0 or gap < 0:
        raise UsageError(f"diameters N({mean}, {std}) and gap {gap}: a mean above 1, the rest from 0")
    if min(shape) < max(2 * mean, mean + 3 * std + gap):
        raise UsageError(f"a box of {shape} is too small for spheres of diameter N({mean}, {std})")


def _draw_radii(rng: np.random.Generator, volume: float, mean: float, std: float) -> npt.NDArray[np.float64]:
    diameters: list[float] = []
    filled = 0.0
    for diameter in _diameters(rng, mean, std):
        diameters.append(diameter)
        filled += np.pi / 6 * diameter**3
        if filled >= volume:
            break
    return np.sort(diameters)[::-1] / 2


def _diameters(rng: np.random.Generator, mean: float, std: float) -> Iterator[float]:
    while True:
        diameter = rng.normal(mean, std)
        if diameter > 1 and abs(diameter - mean) <= 3 * std:
            yield diameter


def _ball(
    centre: npt.NDArray[np.float64], radius: float, shape: tuple[int, int, int]
) -> tuple[tuple[npt.NDArray[np.intp], ...], npt.NDArray[np.uint8]]:
    """Where in a periodic volume the voxels of a ball's bounding box lie, and which of them are inside the ball."""
    cells = [np.arange(np.ceil(c - radius - 0.5), np.floor(c + radius - 0.5) + 1) for c in centre]
    z, y, x = (
        (cell + 0.5 - c).reshape([-1 if i == axis else 1 for i in range(3)]) ** 2
        for axis, (cell, c) in enumerate(zip(cells, centre, strict=True))
    )
    where = np.ix_(*(cell.astype(int) % n for cell, n in zip(cells, shape, strict=True)))
    return where, (z + y + x <= radius**2).astype(np.uint8)
