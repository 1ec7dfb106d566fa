"""Case II of Micro3Diff: synthetic images of polycrystalline grains with white boundaries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mdiff_core import DataError, UsageError

Floats = npt.NDArray[np.float64]

APART = 0.7
"""Share of their diameter at which packed discs keep apart; near the densest that always packs. Of sizes 6, 9 and 12
on 64 pixels come grains of 6.1, 9.0 and 11.8 on average; points that may overlap give 5.7, 8.2 and 11.6, and one in ten
of the smallest grains is swallowed."""


def grains(
    count: int = 300, edge: int = 64, *, sizes: Sequence[float] = (6, 9, 12), seed: int = 0
) -> npt.NDArray[np.uint8]:
    """Independent images of grains by Laguerre tessellation of a periodic square (Micro3Diff, section 5).

    ``sizes`` are grain diameters in pixels, those of circles of the same area; each takes an equal part of every image.
    A pixel is boundary where its middle is at most half a pixel from one. Such lines are one pixel wide in every
    direction, and closed: of two neighbours on either side of a line, one is that near. (Marking the pixels whose right
    or lower neighbour belongs to another grain draws the two diagonals differently; marking all that have such a
    neighbour makes lines of two pixels, and the smallest grains vanish.)

    Returns: uint8 [count, edge, edge], 1 on the boundaries.

    Raises:
        UsageError: numbers that make no sense, or an image too small for the sizes.
        DataError: the grains find no room.
    """
    if count < 1 or not sizes or min(sizes) <= 2:
        raise UsageError(f"{count} images with grains of {list(sizes)} pixels: at least one image, and sizes above 2")
    images = np.empty((count, edge, edge), dtype=np.uint8)
    for image, rng in zip(images, np.random.default_rng(seed).spawn(count), strict=True):
        _, distance = laguerre(*packed_discs(edge, sizes, rng), edge)
        image[:] = distance <= 0.5
    return images


def packed_discs(edge: int, sizes: Sequence[float], rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Discs whose area is that of a periodic square, each of their diameters ``sizes`` having an equal part of it.

    Placed at random one after the other, largest first, no two nearer than ``APART`` times their radii's sum.

    Returns: centres [N, 2] in (y, x) and radii [N].

    Raises:
        UsageError: the square has no room for one disc of each size.
        DataError: a disc found no room.
    """
    numbers = [round(edge**2 / len(sizes) / (np.pi / 4 * size**2)) for size in sizes]
    if min(numbers) < 1 or edge < 2 * max(sizes):
        raise UsageError(f"an image of {edge} pixels is too small for grains of {list(sizes)} pixels in equal parts")
    radii = np.sort(np.repeat(np.asarray(sizes, dtype=float), numbers))[::-1] / 2
    centres = np.empty((0, 2))
    for i, radius in enumerate(radii):
        for _ in range(20_000):
            centre = rng.uniform(0, edge, 2)
            apart = np.linalg.norm(_periodic(centres - centre, edge), axis=1)
            if np.all(apart >= APART * (radii[:i] + radius)):
                centres = np.vstack([centres, centre])
                break
        else:
            raise DataError(f"grain {i + 1} of {len(radii)} found no room: make the image larger")
    return centres, radii


def laguerre(centres: Floats, radii: Floats, edge: int) -> tuple[npt.NDArray[np.intp], Floats]:
    """Laguerre cells of discs in a periodic square: a point belongs to the disc of least power, distance² − radius².

    Returns: for each pixel's middle the index of its disc, and the distance to its cell's boundary: both [edge, edge].
    """
    middle = np.arange(edge) + 0.5
    y, x = (_periodic(middle[:, None] - centres[:, axis], edge) ** 2 for axis in (0, 1))
    apart = np.linalg.norm(_periodic(centres[:, None] - centres, edge), axis=-1)
    np.fill_diagonal(apart, 1)
    cell, distance = np.empty((edge, edge), dtype=np.intp), np.empty((edge, edge))
    for row in range(edge):  # all at once would take memory for every pixel and disc
        power = y[row] + x - radii**2
        cell[row] = np.argmin(power, axis=-1)
        own = cell[row, :, None]
        surplus = power - np.take_along_axis(power, own, axis=-1)
        np.put_along_axis(surplus, own, np.inf, axis=-1)  # a cell has no boundary with itself
        distance[row] = (surplus / (2 * apart[cell[row]])).min(axis=-1)
    return cell, distance


def _periodic(offset: Floats, edge: int) -> Floats:
    nearest: Floats = offset - edge * np.round(offset / edge)
    return nearest
