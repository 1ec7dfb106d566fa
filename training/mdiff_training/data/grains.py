"""Case II of Micro3Diff, as a solid: a synthetic volume of polycrystalline grains with white boundaries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from mdiff_core import DataError, UsageError
from mdiff_training.data.packing import Floats, NoRoomError, packed, periodic

APART = 0.65
"""Share of their diameter at which packed balls keep apart. Of sizes 10, 14 and 18 in the rod of seed 0 come grains of
10.1, 13.9 and 17.7 on average; 0.7 gives 10.1, 14.0 and 17.8 and packs three times as long."""

REACH = 0.5
"""Voxels from a boundary within which a voxel's middle makes the voxel boundary: walls are one voxel thick."""


def grains(
    shape: tuple[int, int, int] = (300, 64, 64), *, sizes: Sequence[float] = (10, 14, 18), seed: int = 0
) -> npt.NDArray[np.uint8]:
    """Grains by Laguerre tessellation of a periodic box (after Micro3Diff, section 5, which draws them in 2D).

    ``sizes`` are grain diameters in voxels, those of balls of the same volume; each takes an equal part of the box.
    Those of the default make the boundaries a quarter of it, as the grains of 6, 9 and 12 pixels do in 2D.
    A voxel is boundary where its middle is at most ``REACH`` from its cell's boundary. Such walls are closed: of two
    neighbours on either side of a boundary, one is that near.

    Returns: uint8 ``shape`` (z, y, x), 1 on the boundaries.

    Raises:
        UsageError: sizes that make no sense, or a box too small for them.
        DataError: the grains find no room.
    """
    if not sizes or min(sizes) <= 2:
        raise UsageError(f"grains of {list(sizes)} voxels: at least one size, and all above 2")
    _, distance = laguerre(*packed_balls(shape, sizes, np.random.default_rng(seed)), shape)
    return (distance <= REACH).astype(np.uint8)


def packed_balls(
    shape: tuple[int, int, int], sizes: Sequence[float], rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Balls whose volume is that of a periodic box, each of their diameters ``sizes`` having an equal part of it.

    Placed at random one after the other, largest first, no two nearer than ``APART`` times their radii's sum.

    Returns: centres [N, 3] in (z, y, x) and radii [N].

    Raises:
        UsageError: the box has no room for one ball of each size.
        DataError: a ball found no room.
    """
    box = np.array(shape, dtype=float)
    numbers = [round(box.prod() / len(sizes) / (np.pi / 6 * size**3)) for size in sizes]
    if min(numbers) < 1 or min(shape) < 2 * max(sizes):
        raise UsageError(f"a box of {shape} is too small for grains of {list(sizes)} voxels in equal parts")
    radii = np.sort(np.repeat(np.asarray(sizes, dtype=float), numbers))[::-1] / 2
    try:
        return packed(radii, box, rng, apart=APART), radii
    except NoRoomError as error:
        raise DataError(f"grain {error.number} of {len(radii)} found no room: make the box larger") from error


def laguerre(centres: Floats, radii: Floats, shape: tuple[int, int, int]) -> tuple[npt.NDArray[np.intp], Floats]:
    """Laguerre cells of balls in a periodic box: a point belongs to the ball of least power, distance² − radius².

    Returns: for each voxel's middle the index of its ball, and the distance to its cell's boundary, exact up to
    ``REACH`` and elsewhere above it: both ``shape``.
    """
    box = np.array(shape, dtype=float)
    # With R the largest radius, points at height √(R² − r²) over the box lie √(power + R²) from a point of it.
    height = np.sqrt(radii.max() ** 2 - radii**2)
    tree = cKDTree(np.column_stack([centres, height]), boxsize=[*shape, 0])
    cell, distance = np.empty(shape, dtype=np.intp), np.empty(shape)
    y, x = np.meshgrid(*(np.arange(n) + 0.5 for n in shape[1:]), indexing="ij")
    count = min(8, len(radii))
    for layer in range(shape[0]):  # all at once would take memory for every voxel and neighbour
        middle = np.stack([np.full_like(y, layer + 0.5), y, x, np.zeros_like(y)], axis=-1)
        far, near = tree.query(middle, k=count)
        # The boundary to the nearest is (far² − nearest²) / (2 apart) away, and apart is at most far + nearest: balls
        # whose far exceeds the nearest by twice REACH have theirs beyond it. Eight are nearly always enough.
        while count < len(radii) and np.any(far[..., -1] - far[..., 0] <= 2 * REACH):
            count = min(2 * count, len(radii))
            far, near = tree.query(middle, k=count)
        offset = periodic(centres[near] - middle[..., None, :3], box)
        apart = np.linalg.norm(offset[..., 1:, :] - offset[..., :1, :], axis=-1)
        cell[layer] = near[..., 0]
        distance[layer] = ((far[..., 1:] ** 2 - far[..., :1] ** 2) / (2 * apart)).min(axis=-1)
    return cell, distance
