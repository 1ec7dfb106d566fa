"""Tiles: slices larger than the network's images, cut into such and put together again.

Where tiles overlap, as they do unless a periodic axis is a multiple of their edge, their answers are averaged
(MultiDiffusion, Bar-Tal et al. 2023), each pixel weighted by how far it stands from its tile's edge. Tiles start
elsewhere at every evaluation, so that no seam stays in one place. Along a periodic axis they wrap around, which makes
the volume periodic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]
T = TypeVar("T")


@dataclass(frozen=True)
class Tile:
    """A stretch of one axis.

    Attributes:
        places: (where in the slice, where in the tile), two of them where the tile wraps around.
        weights: of each of its pixels [edge]; those of all tiles add up to 1 in every place of the slice.
    """

    places: tuple[tuple[slice, slice], ...]
    weights: npt.NDArray[np.float32]


def cover(n: int, edge: int, offset: int, *, periodic: bool) -> list[Tile]:
    """Tiles of ``edge`` pixels that cover an axis of ``n``.

    ``offset``: any number, by which the tiles are moved.
    """
    if periodic:
        count = math.ceil(n / edge)
        starts = [(offset + round(k * n / count)) % n for k in range(count)]
    else:
        starts = sorted({min(max(k, 0), n - edge) for k in range(offset % edge - edge, n, edge)})
    # The middle of a tile counts most.
    ramp = np.minimum(np.arange(edge) + 1, edge - np.arange(edge)).astype(np.float64)
    total = np.zeros(n)
    for start in starts:
        np.add.at(total, (start + np.arange(edge)) % n, ramp)
    return [Tile(_places(start, edge, n), _share(start, ramp, total)) for start in starts]


def gather(slices: Array, rows: Sequence[Tile], columns: Sequence[Tile]) -> npt.NDArray[np.float32]:
    """The tiles [rows · columns · N, C, H, W] of slices [N, C, Y, X]: all slices' first tile, then their second …"""
    n, channels = slices.shape[:2]
    edges = len(rows[0].weights), len(columns[0].weights)
    tiles = np.empty((len(rows) * len(columns), n, channels, *edges), np.float32)
    for tile, (row, column) in zip(tiles, _pairs(rows, columns), strict=True):
        for here, there in _pairs(row.places, column.places):
            tile[:, :, here[1], there[1]] = slices[:, :, here[0], there[0]]
    return tiles.reshape(-1, channels, *edges)


def scatter(tiles: Array, slices: Array, rows: Sequence[Tile], columns: Sequence[Tile]) -> None:
    """The weighted mean of tiles, in the order of :func:`gather`, into slices [N, C, Y, X]."""
    parts = tiles.reshape(len(rows) * len(columns), *slices.shape[:2], *tiles.shape[2:])
    alone = len(parts) == 1
    target = slices if alone else np.zeros(slices.shape, slices.dtype)
    for tile, (row, column) in zip(parts, _pairs(rows, columns), strict=True):
        for here, there in _pairs(row.places, column.places):
            if alone:
                target[:, :, here[0], there[0]] = tile[:, :, here[1], there[1]]
            else:
                weights = row.weights[here[1], None] * column.weights[there[1]]
                target[:, :, here[0], there[0]] += weights * tile[:, :, here[1], there[1]]
    if not alone:
        slices[:] = target


def _pairs(first: Sequence[T], second: Sequence[T]) -> list[tuple[T, T]]:
    return [(a, b) for a in first for b in second]


def _places(start: int, edge: int, n: int) -> tuple[tuple[slice, slice], ...]:
    inside = min(edge, n - start)
    first = (slice(start, start + inside), slice(0, inside))
    return (first,) if inside == edge else (first, (slice(0, edge - inside), slice(inside, edge)))


def _share(start: int, ramp: npt.NDArray[np.float64], total: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return (ramp / total[(start + np.arange(len(ramp))) % len(total)]).astype(np.float32)
