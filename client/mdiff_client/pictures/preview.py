"""A volume as one picture: the block, the phase of interest alone, three sections, legend and scale bar."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from mdiff_client.pictures.drawing import FAINT, HAIR, LINE, captioned, rgb, stroke, text_width, write
from mdiff_client.pictures.raycast import Camera, Pixels, Shape, block, corners
from mdiff_client.pictures.sections import grey_legend, phase_legend, sections
from mdiff_client.pictures.solids import bodies
from mdiff_core import DataError, Phase, UsageError

COLOURS: Pixels = np.array(
    [
        (226, 222, 213),  # stone
        (84, 134, 172),  # steel blue
        (214, 152, 92),  # ochre
        (126, 162, 122),  # sage
        (150, 116, 156),  # plum
        (222, 196, 116),  # sand
        (188, 108, 108),  # brick
        (86, 94, 108),  # slate
    ],
    np.uint8,
)
"""The colour of each label (``Phase.grey`` alone would leave middle phases hard to tell apart)."""

_GREYS: Pixels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
_MOST_VOXELS = 256**3  # of the 3D views

# Pixels. Sections of 64³ voxels come out at exactly four pixels to the voxel.
_WIDEST, _HEIGHT = 640, 582  # of a panel below its caption
_TITLE = 42
_MARGIN, _GAP = 52, 64


def preview(
    volume: npt.NDArray[np.generic],
    *,
    phases: Sequence[Phase] = (),
    highlight: int | None = None,
    voxel_size: float = 1.0,
    voxel_unit: str = "voxel",
    title: str = "",
) -> Image.Image:
    """Draw a volume: as a block seen from a corner, one phase alone as solid bodies, and its three middle sections.

    The sections lie as in a drawing: xy, below it xz (sharing x), to the right of it yz (sharing y). Volumes beyond
    256³ voxels are thinned out for the 3D views. Grey-level volumes have no bodies.

    Args:
        volume: labels [Z, Y, X] (integers) where there are ``phases``, else grey levels in [-1, 1].
        phases: the phases, in the order of their labels; at most eight.
        highlight: label of the phase shown as bodies; the last one by default.
        voxel_size: edge of a voxel in ``voxel_unit``.
        voxel_unit: unit of the scale bar.
        title: headline, if any.

    Raises:
        DataError: an array that is not 3D or is empty, labels beyond the phases or not integers, grey levels that are
            not finite floats, more than eight phases.
        UsageError: ``highlight`` is not the label of a phase, or the voxel size is not positive.
    """
    labels, colours = _as_labels(volume, phases)
    if highlight is not None and not 0 <= highlight < len(phases):
        raise UsageError(f"label {highlight} is no phase of this volume, which has {len(phases)}")
    if not voxel_size > 0:
        raise UsageError(f"voxel size {voxel_size:g} is not positive")
    thinned = _thinned(labels)
    camera = Camera.fit(_shape(thinned), _WIDEST, _HEIGHT)
    panels = [captioned(Image.fromarray(block(thinned, colours, camera)), _size_text(labels, voxel_size, voxel_unit))]
    if phases:
        shown = len(phases) - 1 if highlight is None else highlight
        picture = bodies(thinned == shown, rgb(colours[shown]), camera)
        panels.append(captioned(Image.fromarray(picture), phases[shown].name))
    legend = phase_legend(labels, colours, phases) if phases else grey_legend()
    voxel = (voxel_size, voxel_unit)
    panels.append(sections(labels, colours, legend, voxel, width=_WIDEST, height=_HEIGHT))
    top = _MARGIN + (_TITLE + 34 if title else 0)
    page = _side_by_side(panels, top, text_width(title, _TITLE))
    write(page, (_MARGIN, _MARGIN - 6), title, size=_TITLE)
    _draw_axes(page, camera, (_MARGIN, top + LINE))
    if phases:
        _draw_box(page, camera, (_MARGIN + panels[0].width + _GAP, top + LINE))
    return page


def _as_labels(volume: npt.NDArray[np.generic], phases: Sequence[Phase]) -> tuple[Pixels, Pixels]:
    """The volume as uint8 indices [Z, Y, X] into colours [n, 3]."""
    if volume.ndim != 3 or volume.size == 0:
        raise DataError(f"a picture needs a volume of three axes with voxels in it, not an array of {volume.shape}")
    if not phases:
        return _quantized(volume), _GREYS
    if len(phases) > len(COLOURS):
        raise DataError(f"a picture has colours for {len(COLOURS)} phases, not for {len(phases)}")
    if not np.issubdtype(volume.dtype, np.integer):
        raise DataError(f"labels of phases must be integers, not {volume.dtype}")
    lowest, highest = np.min(volume), np.max(volume)
    if lowest < 0 or highest >= len(phases):
        raise DataError(f"labels {lowest} to {highest} do not fit {len(phases)} phases, 0 to {len(phases) - 1}")
    return volume.astype(np.uint8, copy=False), COLOURS


def _quantized(volume: npt.NDArray[np.generic]) -> Pixels:
    if not np.issubdtype(volume.dtype, np.floating):
        raise DataError(f"grey levels must be floating-point numbers in [-1, 1], not {volume.dtype}")
    levels = np.empty(volume.shape, np.uint8)
    for section, level in zip(volume, levels, strict=True):
        grey = (np.asarray(section, np.float32) + 1) * 127.5
        if not np.isfinite(grey).all():
            raise DataError("the volume holds grey levels that are not finite numbers")
        level[:] = np.rint(np.clip(grey, 0, 255))
    return levels


def _thinned(labels: Pixels) -> Pixels:
    """Every n-th voxel along each axis, so that the 3D views need bounded memory."""
    stride = math.ceil((labels.size / _MOST_VOXELS) ** (1 / 3))
    return np.ascontiguousarray(labels[::stride, ::stride, ::stride])


def _shape(labels: Pixels) -> Shape:
    z, y, x = labels.shape
    return z, y, x


def _size_text(labels: Pixels, voxel_size: float, voxel_unit: str) -> str:
    size = " x ".join(str(n) for n in reversed(labels.shape)) + " voxels"
    return size if voxel_unit == "voxel" else f"{size} of {voxel_size:g} {voxel_unit}"


def _draw_axes(page: Image.Image, camera: Camera, at: tuple[int, int]) -> None:
    """An arrow for each axis beside the block whose picture is ``at`` a place, from where the axis is 0."""
    z, y, x = camera.shape
    centre = np.array(camera.size) / 2
    for name, ends in (("x", [(z, y, 0), (z, y, x)]), ("y", [(z, 0, x), (z, y, x)]), ("z", [(0, y, 0), (z, y, 0)])):
        start, end = camera.project(ends)
        length = np.linalg.norm(end - start)
        along = (end - start) / length
        outward = np.array([along[1], -along[0]])
        outward *= np.sign(outward @ (start - centre))
        tail = start + at + 14 * outward
        tip = tail + min(80, 0.6 * length) * along
        stroke(page, tail, tip, 2, FAINT)
        for side in (-1, 1):
            stroke(page, tip, tip - 9 * along + 4.5 * side * outward, 2, FAINT)
        write(page, tip + 17 * along, name, FAINT, anchor="mm")


def _draw_box(page: Image.Image, camera: Camera, at: tuple[int, int]) -> None:
    """Outline the box whose picture is ``at`` a place: the edges that meet neither its near nor its far corner."""
    box = camera.project(corners(camera.shape)) + np.array(at)
    for first, second in itertools.combinations(range(8), 2):
        if (first ^ second) in (1, 2, 4) and not {first, second} & {0b011, 0b100}:
            stroke(page, box[first], box[second], 1.2, HAIR)


def _side_by_side(panels: Sequence[Image.Image], top: int, least: int) -> Image.Image:
    """The panels from ``top`` on, on a page that leaves room for ``least`` pixels between its margins."""
    width = max(least, sum(panel.width + _GAP for panel in panels) - _GAP)
    page = Image.new("RGB", (width + 2 * _MARGIN, top + max(p.height for p in panels) + _MARGIN), "white")
    left = _MARGIN
    for panel in panels:
        page.paste(panel, (left, top))
        left += panel.width + _GAP
    return page
