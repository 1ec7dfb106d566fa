"""3D view of one phase of a volume alone, as lit solid bodies.

Points are in voxels, as in :mod:`mdiff_client.pictures.raycast`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mdiff_client.pictures.raycast import (
    FORWARD,
    INSIDE,
    LIGHT,
    Camera,
    Floats,
    Pixels,
    Rays,
    brightness,
    render,
    voxel_index,
)

_STEP = np.float32(0.45)  # voxels along the ray
_REACH = 10  # largest clearance told
_WALL = np.array([250, 249, 247], np.float32)


def bodies(phase: npt.NDArray[np.bool_], colour: tuple[int, int, int], camera: Camera) -> Pixels:
    """A phase as lit solid bodies before the three far walls of its box; where the box cuts a body, the cut is paler.

    Args:
        phase: bool [Z, Y, X], the indicator.
        colour: RGB of the bodies.
        camera: the view; made for ``phase.shape``.

    Returns: uint8 [H, W, 3] on white.
    """
    solid = Solid.of(phase)
    body = np.array(colour, np.float32)
    cut = 0.72 * body + 0.28 * 255

    def shade(rays: Rays) -> Floats:
        distance, hit = solid.march(rays)
        at_face = hit & (distance <= rays.enter + INSIDE)
        inner = hit & ~at_face
        shown = np.empty((len(hit), 3), np.float32)
        shown[~hit] = solid.walls(rays.only(~hit), 1 / camera.scale)
        shown[at_face] = cut * brightness(rays.only(at_face).normal_in())[:, None]
        shown[inner] = solid.light(rays.only(inner).at(distance[inner]), body)
        return shown

    return render(camera, shade)


@dataclass(frozen=True)
class Solid:
    """What rays need of a phase: a field whose level 1/2 is its surface, smoother ones for normals and for shadow.

    ``clearance`` counts, per voxel, how many voxels (chessboard) separate it from the nearest that the surface touches.
    ``crowding`` holds (distance, strength, field): the share of solid around a point that far above the surface.
    """

    surface: Floats
    normals: Floats
    clearance: npt.NDArray[np.uint8]
    crowding: tuple[tuple[float, float, Floats], ...]

    @classmethod
    def of(cls, phase: npt.NDArray[np.bool_]) -> Solid:
        """The solid of an indicator [Z, Y, X]."""
        indicator = phase.astype(np.float32)
        smooth = _smooth(indicator, 0.15)
        # Every voxel's centre stays clearly on its side of the surface: nothing thin is lost, no gap is closed.
        surface = np.where(phase, np.maximum(smooth, 0.75), np.minimum(smooth, 0.25))
        edge = phase.size ** (1 / 3)
        near, wide = max(1, round(edge / 20)), max(2, round(edge / 8))
        return cls(
            surface,
            _smooth(_smooth(smooth, 0.25), 0.25),
            _clearance(phase),
            ((near + 1, 0.6, _box_mean(indicator, near)), (wide + 1, 0.3, _box_mean(indicator, wide))),
        )

    def march(self, rays: Rays) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """How far along each ray the surface lies, and whether the ray meets it at all."""
        distance = rays.enter + INSIDE
        hit = np.zeros(len(distance), bool)
        per_voxel = np.abs(FORWARD).max()
        active = np.arange(len(distance))
        while len(active):
            t = distance[active]
            points = rays.origin[:, active] + FORWARD[:, None] * t
            clearance = self.clearance.ravel()[voxel_index(points, self.surface.shape)]
            inside = clearance <= 1
            inside[inside] = _sample(self.surface, points[:, inside]) >= 0.5
            hit[active] = inside
            t += np.maximum(_STEP, (clearance.astype(np.float32) - 2) / per_voxel)
            going = ~inside & (t < rays.leave[active])
            active = active[going]
            distance[active] = t[going]
        return self._refined(rays, distance, hit), hit

    def _refined(self, rays: Rays, distance: Floats, hit: npt.NDArray[np.bool_]) -> Floats:
        """Put the hits inside the box where the field, linear over the last step, is 1/2."""
        last = hit & (distance > rays.enter + INSIDE)
        chosen, after = rays.only(last), distance[last]
        before = np.maximum(after - _STEP, chosen.enter)
        low, high = (_sample(self.surface, chosen.at(t)) for t in (before, after))
        share = np.clip((0.5 - low) / np.maximum(high - low, 1e-6), 0, 1)
        refined = distance.copy()
        refined[last] = before + share * (after - before)
        return refined

    def light(self, points: Floats, colour: Floats) -> Floats:
        """Colours [n, 3] of surface ``points`` [3, n]: diffuse light, shadow in the crevices, a soft gloss."""
        normals = self._normals(points)
        open_sky = self._open_sky(points, normals)
        halfway = LIGHT - FORWARD
        gloss = np.maximum(halfway @ normals / np.linalg.norm(halfway), 0) ** 30
        lit: Floats = colour * (brightness(normals) * open_sky)[:, None] + (34 * gloss * open_sky)[:, None]
        return lit

    def walls(self, rays: Rays, line: float) -> Floats:
        """Colours [n, 3] of the far walls, shadowed by the bodies before them; ``line`` is the width of their seams."""
        points, normals = rays.at(rays.leave), rays.normal_out()
        shade = (0.3 + 0.7 * brightness(normals)) * (1 - 0.6 * (1 - self._open_sky(points, normals)))
        far = np.where(FORWARD > 0, self.surface.shape, 0).astype(np.float32)
        from_seam = np.sort(np.abs(points - far[:, None]), axis=0)[1]
        shade[from_seam < line] *= 0.86
        shown: Floats = _WALL * shade[:, None]
        return shown

    def _normals(self, points: Floats) -> Floats:
        """Unit normals by central differences over the corners of a tetrahedron: four samples instead of six."""
        tetrahedron = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32)
        outward = -sum(corner[:, None] * _sample(self.normals, points + corner[:, None]) for corner in tetrahedron)
        unit: Floats = outward / np.maximum(np.linalg.norm(outward, axis=0), 1e-6)
        return unit

    def _open_sky(self, points: Floats, normals: Floats) -> Floats:
        """Ambient light [n] that the solid around a point leaves it."""
        light = np.ones(points.shape[1], np.float32)
        for distance, strength, crowding in self.crowding:
            light *= 1 - strength * _sample(crowding, points + np.float32(distance) * normals)
        return light


def _sample(field: Floats, points: Floats) -> Floats:
    """Trilinear values of ``field`` [Z, Y, X], given at the voxels' centres and constant beyond them."""
    start: npt.NDArray[np.intp] = np.zeros(1, np.intp)
    parts: list[Floats] = []
    strides: list[int] = []
    for coordinate, n in zip(points, field.shape, strict=True):
        place = np.clip(coordinate - np.float32(0.5), 0, n - 1)
        cell = np.minimum(place.astype(np.intp), max(n - 2, 0))
        parts.append(place - cell.astype(np.float32))
        start = start * n + cell
        strides = [stride * n for stride in strides] + [1 if n > 1 else 0]
    flat = field.ravel()

    def along(axis: int, at: npt.NDArray[np.intp]) -> Floats:
        if axis == 3:
            return flat[at]
        first, second = along(axis + 1, at), along(axis + 1, at + strides[axis])
        return first + parts[axis] * (second - first)

    return along(0, start)


def _smooth(field: Floats, weight: float) -> Floats:
    """Weigh each voxel's neighbours along every axis by ``weight`` (edges repeated)."""
    for axis in range(3):
        smoothed = np.float32(1 - 2 * weight) * field
        to, of = np.moveaxis(smoothed, axis, 0), np.float32(weight) * np.moveaxis(field, axis, 0)
        to[1:] += of[:-1]
        to[:-1] += of[1:]
        to[0] += of[0]
        to[-1] += of[-1]
        field = smoothed
    return field


def _box_mean(field: Floats, radius: int) -> Floats:
    """Mean over a cube of 2 ``radius`` + 1 voxels; beyond the volume there is nothing."""
    width = 2 * radius + 1
    for axis in range(3):
        padding = [(radius + 1, radius) if axis == other else (0, 0) for other in range(3)]
        total = np.moveaxis(np.cumsum(np.pad(field, padding), axis=axis), axis, 0)
        field = np.moveaxis((total[width:] - total[:-width]) / np.float32(width), 0, axis)
    return field


def _clearance(solid: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Chessboard distance of each voxel to the nearest solid one, voxels, at most ``_REACH``."""
    clearance = np.zeros(solid.shape, np.uint8)
    reached = solid
    for _ in range(_REACH):
        clearance += ~reached
        reached = _dilated(reached)
    return clearance


def _dilated(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    for axis in range(3):
        grown = mask.copy()
        to, of = np.moveaxis(grown, axis, 0), np.moveaxis(mask, axis, 0)
        to[1:] |= of[:-1]
        to[:-1] |= of[1:]
        mask = grown
    return mask
