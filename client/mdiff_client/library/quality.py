"""The quality gate: how near one volume is to its material, and whether that is near enough."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import get_type_hints

import numpy as np
import numpy.typing as npt

from mdiff_core import Descriptors, ModelContract, UsageError, error_rate
from mdiff_core.contract import AXES

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Limits:
    """What a volume of a library must keep to; None and empty: no limit. One that is no number is never kept.

    Attributes:
        fraction: largest distance of a phase fraction from the reference.
        s2: largest S2 error of a phase, per cent (Micro3Diff eq. 24).
        lineal_path: largest LP error of a phase, per cent.
        percolates: phases that must connect opposite faces along every axis.
        attempts: how often a volume is made, each time of another sub-seed, before it is given up.

    Raises:
        UsageError: a limit below 0, or no attempt.
    """

    fraction: float | None = None
    s2: float | None = None
    lineal_path: float | None = None
    percolates: tuple[str, ...] = ()
    attempts: int = 3

    def __post_init__(self) -> None:
        for name in ("fraction", "s2", "lineal_path"):
            limit = getattr(self, name)
            if limit is not None and not limit >= 0:
                raise UsageError(f"limit {name} = {limit:g}: give a number from 0")
        if self.attempts < 1:
            raise UsageError(f"limit attempts = {self.attempts}: ask for at least one")

    @classmethod
    def parse(cls, texts: Sequence[str]) -> dict[str, object]:
        """Fields as a user gives them, ``s2=20`` or ``percolates=matrix,sphere``.

        Raises:
            UsageError: not of that form, or no field.
        """
        found: dict[str, object] = {}
        kinds = get_type_hints(cls)
        for text in texts:
            name, _, value = text.partition("=")
            if name not in kinds or not value:
                raise UsageError(f"limit {text!r}: give {', '.join(field.name for field in fields(cls))}, as s2=20")
            if name == "percolates":
                found[name] = tuple(value.split(","))
            elif re.fullmatch(r"\d+" if name == "attempts" else r"\d*\.?\d+", value):
                found[name] = int(value) if name == "attempts" else float(value)
            else:
                raise UsageError(f"limit {text!r}: give a number, as s2=20")
        return found

    def check(self, contract: ModelContract, *, grey: bool) -> None:
        """Refuse limits that the volumes of a model cannot be held to; ``grey``: they are grey levels.

        Raises:
            UsageError: phases that it does not have, or errors against a reference that it does not have.
        """
        if grey and dataclasses.replace(self, attempts=NO_LIMITS.attempts) != NO_LIMITS:
            raise UsageError("grey levels have no phases to be held to limits: leave out the limits or --grey")
        names = [phase.name for phase in contract.phases]
        unknown = [name for name in self.percolates if name not in names]
        if unknown:
            raise UsageError(
                f"model {contract.name} has no phase {unknown[0]!r}; its phases: {', '.join(names) or 'none'}"
            )
        asked = [name for name in ("fraction", "s2", "lineal_path") if getattr(self, name) is not None]
        if asked and not contract.references:
            raise UsageError(f"model {contract.name} has no reference curves to hold {' and '.join(asked)} to")

    def exceeded(self, scores: Mapping[str, Score]) -> list[str]:
        """What a volume does not keep to, a line each."""
        return [complaint for name, score in scores.items() for complaint in self._exceeded(name, score)]

    def _exceeded(self, name: str, score: Score) -> Iterator[str]:
        for what, value, limit in (
            ("fraction", score.fraction_error, self.fraction),
            ("S2 error %", score.s2_error_percent, self.s2),
            ("LP error %", score.lineal_path_error_percent, self.lineal_path),
        ):
            if limit is not None and value is not None and not value <= limit:
                off = " off by" if what == "fraction" else ""
                yield f"{name}: {what}{off} {value:.3g}, limit {limit:g}"
        if name in self.percolates and score.percolates != "".join(AXES):
            along = "".join(axis for axis in AXES if axis not in score.percolates)
            yield f"{name}: does not percolate along {along}"


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Score:
    """One phase of one volume beside its reference; what needs a reference is None where there is none.

    ``specific_surface`` as :func:`mdiff_core.descriptors.specific_surface`; ``percolates``: the axes along which the
    phase connects the opposite faces.
    """

    fraction: float
    specific_surface: float
    percolates: str
    fraction_error: float | None = None
    s2_error_percent: float | None = None
    lineal_path_error_percent: float | None = None


def scores(labels: Labels, contract: ModelContract, references: Mapping[str, Descriptors]) -> dict[str, Score]:
    """Score a volume [Z, Y, X], by phase."""
    return {phase.name: _score(labels == i, references.get(phase.name)) for i, phase in enumerate(contract.phases)}


def percolates(indicator: npt.NDArray[np.bool_]) -> str:
    """The axes along which voxels that share faces connect one face of the volume with the opposite one."""
    from scipy import ndimage

    bodies, _ = ndimage.label(indicator)
    return "".join(
        name
        for axis, name in enumerate(AXES)
        if np.intersect1d(bodies.take(0, axis), bodies.take(-1, axis)).any()  # body 0 is what is not in the phase
    )


def _score(indicator: npt.NDArray[np.bool_], reference: Descriptors | None) -> Score:
    max_lag = len(reference.s2) - 1 if reference else 0
    found = Descriptors.of(indicator, max_lag)
    if reference is None:
        return Score(found.fraction, found.specific_surface, percolates(indicator))
    return Score(
        found.fraction,
        found.specific_surface,
        percolates(indicator),
        abs(found.fraction - reference.fraction),
        error_rate(found.s2, reference.s2),
        error_rate(found.lineal_path, reference.lineal_path),
    )
