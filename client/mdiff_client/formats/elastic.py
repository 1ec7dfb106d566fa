"""Isotropic elastic constants of the phases, for the formats that carry materials."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mdiff_core import ModelContract, UsageError


@dataclass(frozen=True)
class Elastic:
    """Isotropic linear elasticity.

    Attributes:
        young: Young's modulus, in a unit of the user's choice.
        poisson: Poisson's ratio.

    Raises:
        UsageError: constants of no stable material.
    """

    young: float
    poisson: float

    def __post_init__(self) -> None:
        if not (0 < self.young < float("inf") and -1 < self.poisson < 0.5):
            raise UsageError(
                f"elastic constants {self.young:g},{self.poisson:g}: Young's modulus must be above 0, Poisson's ratio "
                "between -1 and 0.5; give a pore a small modulus"
            )

    @property
    def bulk(self) -> float:
        """Bulk modulus."""
        return self.young / (3 * (1 - 2 * self.poisson))

    @property
    def shear(self) -> float:
        """Shear modulus."""
        return self.young / (2 * (1 + self.poisson))


def parse_elastic(texts: Sequence[str], contract: ModelContract) -> tuple[Elastic, ...]:
    """Constants of each phase, in the order of their labels, from ``PHASE=E,nu`` for each; of no texts, none.

    Raises:
        UsageError: a text is not of that form, or a phase is unknown, named twice or missing.
    """
    found: dict[int, Elastic] = {}
    for text in texts:
        match = re.fullmatch(r"\s*(.+?)\s*=\s*([^,\s]+)\s*,\s*([^,\s]+)\s*", text)
        try:
            if match is None:
                raise ValueError
            young, poisson = float(match[2]), float(match[3])
        except ValueError:
            raise UsageError(f"elastic constants {text!r}: say PHASE=E,nu, as matrix=3.5,0.35") from None
        label = contract.phase_label(match[1])
        if label in found:
            raise UsageError(f"elastic constants of {match[1]!r} are given twice")
        found[label] = Elastic(young, poisson)
    missing = [phase.name for label, phase in enumerate(contract.phases) if label not in found]
    if found and missing:
        raise UsageError(
            f"elastic constants of {', '.join(missing)} are missing: give --elastic for each phase, or none"
        )
    return tuple(found[label] for label in sorted(found))
