"""Whether a tile is large enough to stand for the material: a representative volume element (RVE)."""

from __future__ import annotations

import math

import numpy as np

from mdiff_training.data.micrographs import Micrographs

PRECISION = 0.5
"""Largest relative error of a tile's phase fractions. Spheres of diameter 15 at fraction .3 keep it on 64 pixels."""


def relative_errors(micrographs: Micrographs, tile: tuple[int, int]) -> dict[str, float]:
    """Relative error 2 D / f of one tile's phase fraction f, for each phase, by name; 95 % of tiles lie within.

    Kanit et al. 2003 (Int. J. Solids Struct. 40:3647) size an RVE by it. The variance D² of the fraction is the mean of
    the covariance C(r) = S2(r) - f² over all pairs of points in the tile. In a square of side L that is the integral of
    2 π r C(r) g(r) / L², where g(r) = 1 - 4 r / (π L) + r² / (π L²) is the share of points from which a step r in a
    random direction stays inside; for large L, f (1 - f) times integral range over area.

    C and f are those of the references, where fractions are told of the middle material: what sets the others apart is
    no scatter among its tiles. C is cut off where it first vanishes: what follows is noise, or forced by taking f from
    the same data. Grey levels have no fractions, and so no errors.
    """
    side = math.sqrt(math.prod(tile))
    errors = {}
    for phase in micrographs.phases:
        reference = micrographs.references[phase.name]
        covariance = np.array(reference.s2) - reference.fraction**2
        below = np.flatnonzero(covariance <= 0)
        covariance = covariance[: below[0]] if len(below) else covariance
        lags = np.arange(len(covariance))
        inside = 1 - 4 * lags / (np.pi * side) + lags**2 / (np.pi * side**2)
        integral = covariance[0] + 2 * np.pi * (lags * covariance * inside).sum()  # a pixel, and the rings around it
        errors[phase.name] = 2 * math.sqrt(integral) / side / reference.fraction
    return errors


def rve_warning(micrographs: Micrographs, tile: tuple[int, int]) -> str | None:
    """One line where a tile is smaller than the material's RVE: how uncertain its fraction is, and what would do."""
    errors = relative_errors(micrographs, tile)
    if not errors or max(errors.values()) <= PRECISION:
        return None
    name = max(errors, key=lambda phase: errors[phase])
    edge = math.ceil(math.sqrt(math.prod(tile)) * errors[name] / PRECISION)
    return (
        f"a tile of {tile[0]}×{tile[1]} is smaller than the material's RVE: its fraction of phase {name!r} varies by "
        f"±{errors[name]:.0%}; for ±{PRECISION:.0%} take tiles of {edge} pixels or more, or coarser pixels"
    )
