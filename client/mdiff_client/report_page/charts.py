"""Curves as SVG, coloured by the page's style sheet so that they are readable in dark and light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 40


@dataclass(frozen=True)
class Curves:
    """Curves of one descriptor of one phase against the distance.

    Attributes:
        name: of the descriptor.
        phase: which.
        lag: distance of one step, and its unit.
        volumes: of each volume, [volumes, lags].
        reference: of the material, [lags].
        real: of each real piece, [pieces, lags]; None where there are none.
    """

    name: str
    phase: str
    lag: tuple[float, str]
    volumes: Floats
    reference: Floats
    real: Floats | None


def drawn(curves: Curves) -> str:
    """An SVG: the volumes' mean over the reference and the band of 95 % of the real pieces."""
    mean = curves.volumes.mean(axis=0)
    band = None if curves.real is None else np.percentile(curves.real, [2.5, 97.5], axis=0)
    top = max(float(np.max(of)) for of in (mean, curves.reference, *([band] if band is not None else [])))
    rise = _round_step(top)
    ceiling = rise * np.ceil(top / rise - 1e-9)
    x = np.linspace(_LEFT, _WIDTH - _RIGHT, len(curves.reference))

    def points(values: Floats) -> str:
        y = _HEIGHT - _BOTTOM - values / ceiling * (_HEIGHT - _BOTTOM - _TOP)
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x[: len(values)], y, strict=True))

    parts = [_y_axis(rise, float(ceiling)), _x_axis(x, curves.lag)]
    if band is not None:
        outline = f"{points(band[0])} {' '.join(reversed(points(band[1]).split()))}"
        parts.append(f'<polygon class="band" points="{outline}"/>')
    parts.append(f'<polyline class="reference" points="{points(curves.reference)}"/>')
    parts.append(f'<polyline class="made" points="{points(mean)}"/>')
    label = escape(f"{curves.name} of {curves.phase} against distance")
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">' + "".join(parts) + "</svg>"


def _y_axis(rise: float, ceiling: float) -> str:
    lines = []
    for tick in np.arange(0, ceiling + rise / 2, rise):
        y = _HEIGHT - _BOTTOM - tick / ceiling * (_HEIGHT - _BOTTOM - _TOP)
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text class="end" x="{_LEFT - 8}" y="{y + 4:.1f}">{tick:.3g}</text>')
    return "".join(lines)


def _x_axis(x: Floats, lag: tuple[float, str]) -> str:
    size, unit = lag
    length, base = (len(x) - 1) * size, _HEIGHT - _BOTTOM
    ticks = np.arange(0, length * (1 + 1e-9), _round_step(length))
    texts = [
        f'<text class="middle" x="{x[0] + tick / length * (x[-1] - x[0]):.1f}" y="{base + 17}">{tick:.3g}</text>'
        for tick in ticks
    ]
    title = "distance, voxels" if unit == "voxel" else f"distance, {escape(unit)}"
    return "".join([*texts, f'<text class="middle" x="{(x[0] + x[-1]) / 2:.1f}" y="{_HEIGHT - 5}">{title}</text>'])


def _round_step(length: float, least: Sequence[float] = (1, 2, 2.5, 5, 10)) -> float:
    """A step of 1, 2, 2.5 or 5 times a power of ten that divides a length into at most five."""
    power = 10.0 ** np.floor(np.log10(length / 5))
    return float(next(step * power for step in least if step * power * 5 >= length * (1 - 1e-9)))
