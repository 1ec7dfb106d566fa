"""The middle sections of a volume side by side, with a legend and a scale bar."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from mdiff_client.pictures.drawing import FAINT, HAIR, INK, LINE, captioned, rgb, text_width, write
from mdiff_client.pictures.raycast import Pixels
from mdiff_core import Phase

_SEAM = 24  # between the sections, pixels


def sections(
    labels: Pixels, colours: Pixels, legend: Image.Image, voxel: tuple[float, str], *, width: int, height: int
) -> Image.Image:
    """The sections xy, xz, yz through the middle, each below its caption, with a legend and a scale bar.

    They lie as in a drawing: xy, below it xz (sharing x), to the right of it yz (sharing y), all to one scale; the
    corner left free takes the legend and the bar.

    Args:
        labels: uint8 [Z, Y, X], indices into ``colours``.
        colours: uint8 [n, 3], RGB.
        legend: see :func:`phase_legend` and :func:`grey_legend`.
        voxel: edge of a voxel and its unit, for the scale bar.
        width: pixels for the sections; legend or captions may need more.
        height: likewise, below the first caption.
    """
    z, y, x = labels.shape
    scale = min((height - LINE - _SEAM) / (y + z), (width - _SEAM) / (x + z))

    def section(plane: Pixels, caption: str) -> Image.Image:
        return captioned(_enlarged(Image.fromarray(colours[plane]), scale), caption)

    xy = section(labels[z // 2], f"xy, z = {z // 2}")
    xz = section(labels[:, y // 2], f"xz, y = {y // 2}")
    yz = section(labels[:, :, x // 2].T, f"yz, x = {x // 2}")
    bar = _scale_bar(scale / voxel[0], max(x, y, z) * scale / 3, voxel[1])
    left, top = max(xy.width, xz.width) + _SEAM, xy.height + _SEAM
    across = left + max(yz.width, legend.width, bar.width)
    down = top + max(xz.height, LINE + legend.height + _SEAM + bar.height)
    panel = Image.new("RGB", (across, down), "white")
    panel.paste(xy, (0, 0))
    panel.paste(yz, (left, 0))
    panel.paste(xz, (0, top))
    panel.paste(legend, (left, top + LINE))
    panel.paste(bar, (left, down - bar.height))
    return panel


def _enlarged(section: Image.Image, scale: float) -> Image.Image:
    """Scale with sharp voxels, whose edges are antialiased where they fall between pixels."""
    width, height = (max(1, round(n * scale)) for n in section.size)
    whole = math.ceil(scale)
    coarse = section.resize((section.width * whole, section.height * whole), Image.Resampling.NEAREST)
    return coarse.resize((width, height), Image.Resampling.BOX)


def phase_legend(labels: Pixels, colours: Pixels, phases: Sequence[Phase]) -> Image.Image:
    """A line for each phase: its colour, its name, its share of the volume."""
    entries = [
        (phase.name, f"{100 * np.count_nonzero(labels == label) / labels.size:.1f} %")
        for label, phase in enumerate(phases)
    ]
    names, shares = (max(text_width(entry[part]) for entry in entries) for part in (0, 1))
    legend = Image.new("RGB", (40 + names + 20 + shares, LINE * len(entries)), "white")
    for line, (name, share) in enumerate(entries):
        top = line * LINE
        ImageDraw.Draw(legend).rectangle((0, top + 2, 25, top + 27), rgb(colours[line]))
        write(legend, (40, top), name)
        write(legend, (legend.width, top), share, FAINT, anchor="ra")
    return legend


def grey_legend() -> Image.Image:
    """The ramp of grey levels."""
    legend = Image.new("RGB", (220, 2 * LINE), "white")
    legend.paste(Image.linear_gradient("L").rotate(90).resize((220, 26)), (0, 2))
    ImageDraw.Draw(legend).rectangle((0, 2, 219, 27), outline=HAIR)
    write(legend, (0, LINE - 8), "-1", FAINT)
    write(legend, (220, LINE - 8), "1", FAINT, anchor="ra")
    return legend


def _scale_bar(pixels_per_unit: float, longest: float, unit: str) -> Image.Image:
    """A bar at most ``longest`` pixels long, with its round length above it."""
    length = _round_length(longest / pixels_per_unit)
    bar = round(length * pixels_per_unit)
    text = f"{length:g} voxels" if unit == "voxel" else f"{length:g} {unit}"
    picture = Image.new("RGB", (max(bar, text_width(text)), LINE), "white")
    write(picture, (0, 0), text)
    ImageDraw.Draw(picture).rectangle((0, LINE - 6, bar - 1, LINE - 1), INK)
    return picture


def _round_length(limit: float) -> float:
    """1, 2 or 5 times a power of ten, as large as ``limit`` allows."""
    power = 10.0 ** math.floor(math.log10(limit))
    return max((step * power for step in (1, 2, 5) if step * power <= limit), default=power)
