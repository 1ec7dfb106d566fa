"""Orthographic ray casting: the camera, its rays, the light, and the view of a whole volume as a block.

Points and directions are in voxels, in array order (z, y, x); voxel (k, j, i) fills [k, k+1) × [j, j+1) × [i, i+1).
The first slice lies on top as an image on a table (x to the right, y towards the eye, z down) and the eye looks at the
corner between the faces y = max (left) and x = max (right).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Shape = tuple[int, int, int]

_AZIMUTH, _ELEVATION = math.radians(36), math.radians(27)
RIGHT: Floats = np.array([0, -math.sin(_AZIMUTH), math.cos(_AZIMUTH)], np.float32)
DOWN: Floats = np.array(
    [
        math.cos(_ELEVATION),
        math.sin(_ELEVATION) * math.cos(_AZIMUTH),
        math.sin(_ELEVATION) * math.sin(_AZIMUTH),
    ],
    np.float32,
)
FORWARD: Floats = np.cross(DOWN, RIGHT)  # z, y, x is a left-handed order of axes
_TOWARDS_LIGHT = -0.45 * RIGHT - 0.65 * DOWN - 0.62 * FORWARD
LIGHT: Floats = _TOWARDS_LIGHT / np.linalg.norm(_TOWARDS_LIGHT)
"""Unit vector towards the light: above, to the left of and behind the eye."""

_SAMPLES = 2  # rays along each edge of a pixel
_STRIP = 64  # rows of rays cast at once: bounds the memory and stays in the cache
INSIDE = np.float32(1e-3)  # from a face into the volume


@dataclass(frozen=True)
class Camera:
    """An orthographic view of a box of ``shape`` voxels, ``scale`` pixels to the voxel across the line of sight."""

    shape: Shape
    scale: float

    @classmethod
    def fit(cls, shape: Shape, width: int, height: int) -> Camera:
        """The camera that shows the box as large as ``width`` × ``height`` pixels allow."""
        unit = cls(shape, 1.0)
        across, down = np.ptp(unit.project(corners(shape)), axis=0)
        return cls(shape, float(min(width / across, height / down)))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture, pixels."""
        across, down = np.ptp(self._flatten(corners(self.shape)), axis=0)
        return math.ceil(across - 1e-3), math.ceil(down - 1e-3)

    def project(self, points: npt.ArrayLike) -> Floats:
        """Pixel coordinates [n, 2] (right, down) of points [n, 3]."""
        return self._flatten(points) + np.array(self.size, np.float32) / np.float32(2)

    def _flatten(self, points: npt.ArrayLike) -> Floats:
        """Pixels right of and below the centre of the box."""
        offset = np.asarray(points, np.float32) - np.array(self.shape, np.float32) / np.float32(2)
        flat: Floats = np.float32(self.scale) * offset @ np.stack([RIGHT, DOWN], axis=1)
        return flat


def corners(shape: Shape) -> Floats:
    """The eight corners of a box [8, 3]."""
    return np.array(list(itertools.product(*((0, n) for n in shape))), np.float32)


def brightness(normals: Floats) -> Floats:
    """Share of its colour that a surface with unit ``normals`` [3, n] shows: ambient light and wrapped diffuse light.

    Wrapped (1 + n·l)/2 instead of max(0, n·l), so that sides turned away keep their shape.
    """
    shade: Floats = 0.48 + 0.56 * (0.5 + 0.5 * np.tensordot(LIGHT, normals, axes=1))
    return shade


def block(labels: Pixels, colours: Pixels, camera: Camera) -> Pixels:
    """The three visible faces of a volume, each in its own light.

    Args:
        labels: uint8 [Z, Y, X], indices into ``colours``.
        colours: uint8 [n, 3], RGB.
        camera: the view; made for ``labels.shape``.

    Returns: uint8 [H, W, 3] on white.
    """

    def shade(rays: Rays) -> Floats:
        voxel = voxel_index(rays.at(rays.enter + INSIDE), labels.shape)
        lit: Floats = colours[labels.ravel()[voxel]] * brightness(rays.normal_in())[:, None]
        return lit

    return render(camera, shade)


@dataclass(frozen=True)
class Rays:
    """Parallel rays: a point of each [3, n], how far along it enters and leaves the box, and the axes of the faces it
    crosses there [n]; n may be a grid."""

    origin: Floats
    enter: Floats
    leave: Floats
    axis_in: npt.NDArray[np.intp]
    axis_out: npt.NDArray[np.intp]

    def at(self, distance: Floats) -> Floats:
        """Points [3, n] that far along."""
        return self.origin + FORWARD[:, None] * distance

    def only(self, chosen: npt.NDArray[np.bool_]) -> Rays:
        """Some of the rays [m]."""
        return Rays(*(getattr(self, field.name)[..., chosen] for field in dataclasses.fields(self)))

    def normal_in(self) -> Floats:
        """Outward normals [3, n] of the faces where the rays enter."""
        return _FACING[:, self.axis_in]

    def normal_out(self) -> Floats:
        """Inward normals [3, n] of the faces where they leave."""
        return _FACING[:, self.axis_out]


_FACING: Floats = np.diag(-np.sign(FORWARD))
"""Normals of the faces towards the eye: outward of the near ones, inward of the far ones."""


def render(camera: Camera, shade: Callable[[Rays], Floats]) -> Pixels:
    """Cast ``_SAMPLES``² rays for each pixel, ``shade`` those that meet the box (RGB [n, 3]), and average."""
    width, height = camera.size
    picture = np.full((height * _SAMPLES, width * _SAMPLES, 3), 255, np.float32)
    for top in range(0, len(picture), _STRIP):
        strip = picture[top : top + _STRIP]
        rays = _cast(camera, top, strip.shape[:2])
        meets = rays.leave > rays.enter
        strip[meets] = shade(rays.only(meets))
    mean = picture.reshape(height, _SAMPLES, width, _SAMPLES, 3).mean(axis=(1, 3))
    shown: Pixels = np.clip(np.rint(mean), 0, 255).astype(np.uint8)
    return shown


def _cast(camera: Camera, top: int, count: tuple[int, ...]) -> Rays:
    """The rays of ``count`` (rows, columns), from row ``top`` on, as a grid."""
    width, height = camera.size
    columns, rows = np.arange(count[1]), top + np.arange(count[0])
    right: Floats = (((columns + 0.5) / _SAMPLES - width / 2) / camera.scale).astype(np.float32)
    down: Floats = (((rows + 0.5) / _SAMPLES - height / 2) / camera.scale).astype(np.float32)
    box = np.array(camera.shape, np.float32)[:, None, None]
    forward = FORWARD[:, None, None]
    origin = box / np.float32(2) + RIGHT[:, None, None] * right + DOWN[:, None, None] * down[:, None]
    zero = np.zeros_like(box)
    near, far = np.where(forward > 0, zero, box), np.where(forward > 0, box, zero)
    enter, leave = (near - origin) / forward, (far - origin) / forward
    return Rays(origin, enter.max(axis=0), leave.min(axis=0), enter.argmax(axis=0), leave.argmin(axis=0))


def voxel_index(points: Floats, shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
    """Flat index of the voxel around each point [3, n], the nearest for points outside."""
    z, y, x = (np.clip(c.astype(np.intp), 0, n - 1) for c, n in zip(points, shape, strict=True))
    index: npt.NDArray[np.intp] = (z * shape[1] + y) * shape[2] + x
    return index
