"""Diffusion and conduction, by TauFactor (Kench, Squires and Cooper, J. Open Source Softw. 8, 5358, 2023).

TauFactor solves ∇·(D ∇c) = 0 by finite differences, a node for each voxel, between two faces of fixed c. The effective
diffusivity is the flux between them over the one that the bulk would carry.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mdiff_client.properties.measures import Labels, Values, quiet
from mdiff_core import ModelContract, UsageError
from mdiff_core.contract import AXES

# TauFactor brings torch, without which a client must load: only functions import it.
if TYPE_CHECKING:
    from taufactor import SORSolver

_logger = logging.getLogger(__name__)

_FLUX_SPREAD = 1e-3  # of the layers' fluxes at the end, relative
_ITERATIONS = 20_000


@dataclass(frozen=True)
class Diffusivity:
    """Effective diffusivity of one phase, relative to its bulk, and its tortuosity factor, along each axis.

    The tortuosity factor is τ = fraction / (D_eff / D_bulk). A phase that does not connect the two faces has the
    diffusivity 0 and an infinite tortuosity factor, which is None.
    """

    phase: str
    label: int

    @property
    def title(self) -> str:
        """What it is."""
        return f"effective diffusivity of {self.phase}, relative to its bulk"

    @property
    def asked(self) -> Mapping[str, float]:
        """Nothing but the phase, which the keys name."""
        return {}

    @property
    def keys(self) -> tuple[str, ...]:
        """Diffusivities and tortuosity factors."""
        return (*self.headline, *(f"tortuosity_factor_{self.phase}_{axis}" for axis in AXES))

    @property
    def headline(self) -> tuple[str, ...]:
        """The diffusivities."""
        return tuple(f"effective_diffusivity_{self.phase}_{axis}" for axis in AXES)

    def __call__(self, labels: Labels, periodic: str) -> Values:
        """Values by key of a volume [Z, Y, X]."""
        conducts = labels == self.label
        found = [_diffusivity(conducts, axis, periodic) for axis in AXES]
        fraction = float(conducts.mean())
        factors = [fraction / diffusivity if diffusivity else None for diffusivity in found]
        return dict(zip(self.keys, [*found, *factors], strict=True))


@dataclass(frozen=True)
class Conductivity:
    """Effective conductivity along each axis, of phases that conduct, in the unit of theirs.

    Attributes:
        phases: names, in the order of their labels.
        values: their conductivities; 0 insulates.
    """

    phases: tuple[str, ...]
    values: tuple[float, ...]

    @classmethod
    def parse(cls, text: str, contract: ModelContract) -> Conductivity:
        """From ``matrix=1,sphere=10``; a phase that is not named insulates.

        Raises:
            UsageError: not of that form, a phase unknown or named twice, a conductivity below 0, or none above it.
        """
        values = [0.0] * len(contract.phases)
        names = [entry.partition("=")[0].strip() for entry in text.split(",")]
        for name, entry in zip(names, text.split(","), strict=True):
            label = contract.phase_label(name)
            if names.count(name) > 1:
                raise UsageError(f"conductivity of {name!r} is given twice")
            try:
                values[label] = float(entry.partition("=")[2])
            except ValueError:
                raise UsageError(f"conductivity {entry!r}: say PHASE=VALUE, as matrix=1,sphere=10") from None
        if not all(0 <= value < float("inf") for value in values) or not any(values):
            raise UsageError(f"conductivities {text!r}: they must be 0 or more, and one of them above 0")
        return cls(tuple(phase.name for phase in contract.phases), tuple(values))

    @property
    def title(self) -> str:
        """What it is."""
        return "effective conductivity"

    @property
    def asked(self) -> Mapping[str, float]:
        """The phases' conductivities."""
        return {f"conductivity_of_{name}": value for name, value in zip(self.phases, self.values, strict=True)}

    @property
    def keys(self) -> tuple[str, ...]:
        """Conductivities."""
        return tuple(f"effective_conductivity_{axis}" for axis in AXES)

    @property
    def headline(self) -> tuple[str, ...]:
        """All of them."""
        return self.keys

    def __call__(self, labels: Labels, periodic: str) -> Values:
        """Values by key of a volume [Z, Y, X]."""
        return dict(zip(self.keys, (_conductivity(labels, self.values, axis) for axis in AXES), strict=True))


def _diffusivity(conducts: npt.NDArray[np.bool_], axis: str, periodic: str) -> float | None:
    """D_eff / D_bulk; periodic across the flux where both other axes are, walls without flux otherwise."""
    from taufactor import PeriodicSolver, Solver

    wraps = all(other in periodic for other in AXES if other != axis)
    image = np.moveaxis(conducts, AXES.index(axis), 0)
    if not _connects(image, wraps=wraps):
        return 0.0
    solver = PeriodicSolver if wraps else Solver
    return _solved(solver(np.ascontiguousarray(image, np.uint8), device="cpu"), axis)


def _conductivity(labels: Labels, values: Sequence[float], axis: str) -> float | None:
    from taufactor import MultiPhaseSolver

    # TauFactor's label 0 insulates.
    names = np.array([label + 1 if value else 0 for label, value in enumerate(values)], np.uint8)
    image = np.ascontiguousarray(np.moveaxis(names[labels], AXES.index(axis), 0))
    if not _connects(image > 0, wraps=False):
        return 0.0
    conducting = {label + 1: value for label, value in enumerate(values) if value and (labels == label).any()}
    return _solved(MultiPhaseSolver(image, conducting, device="cpu"), axis)


def _connects(image: npt.NDArray[np.bool_], *, wraps: bool) -> bool:
    """Whether it connects the two faces of the first axis; the solvers do not converge where it does not."""
    from taufactor.metrics import extract_through_feature

    _, share = extract_through_feature(image, True, "x", periodic=[False, wraps, wraps])
    return bool(np.any(share))


def _solved(solver: SORSolver, axis: str) -> float | None:
    with quiet():
        solver.solve(iter_limit=_ITERATIONS, conv_crit=_FLUX_SPREAD, verbose=False)
    if not solver.converged:
        _logger.warning("TauFactor did not converge along %s in %d iterations: no value", axis, _ITERATIONS)
        return None
    found: Any = solver.D_eff
    return float(found[0])
