"""What a writer of files is given: one volume and what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mdiff_client.formats.elastic import Elastic
from mdiff_core import ModelContract, UsageError

METRES = {
    "angstrom": 1e-10,
    "nanometer": 1e-9,
    "micrometer": 1e-6,
    "millimeter": 1e-3,
    "centimeter": 1e-2,
    "meter": 1.0,
}
"""Length of each unit that a voxel may be given in, by the names of OME-Zarr."""


@dataclass(frozen=True)
class Volume:
    """One volume.

    Attributes:
        voxels: phase labels uint8, or grey levels float32, [Z, Y, X].
        contract: names of the phases, size and unit of a voxel.
        title: a line that names the volume.
        periodic: axes along which opposite faces match, as ``xyz``.
        elastic: constants of each phase; empty: not given.
        made: what made the volume, JSON.

    Raises:
        UsageError: the voxels' unit is not known.
    """

    voxels: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    contract: ModelContract
    title: str
    periodic: str = ""
    elastic: tuple[Elastic, ...] = ()
    made: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.contract.voxel_unit not in (*METRES, "voxel"):
            raise UsageError(
                f"a voxel's unit {self.contract.voxel_unit!r} is unknown: say --voxel-unit {', '.join(METRES)} or voxel"
            )

    @property
    def phases(self) -> tuple[str, ...]:
        """Names of the phases, in the order of their labels."""
        return tuple(phase.name for phase in self.contract.phases)

    def voxel_size_in(self, unit: str) -> float:
        """Edge of a voxel in a unit of :data:`METRES`; where it is known in voxels only, that number."""
        size, own = self.contract.voxel_size, self.contract.voxel_unit
        return size if own in (unit, "voxel") else float(f"{size * METRES[own] / METRES[unit]:.12g}")

    @property
    def notes(self) -> list[str]:
        """Lines for a format's comments: title, voxel size, phases by label."""
        size, unit = self.contract.voxel_size, self.contract.voxel_unit
        return [
            self.title,
            f"voxel {size:g} {unit}, periodic along {self.periodic or 'no axis'}",
            *(f"{label}: {' '.join(name.split())}" for label, name in enumerate(self.phases)),
        ]
