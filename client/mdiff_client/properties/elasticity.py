"""Effective stiffness, by muSpectre (Leute et al., J. Comput. Phys. 453, 110931, 2022; gitlab.com/muspectre/muspectre).

muSpectre solves small-strain elasticity on the periodic voxel grid by projection in Fourier space and conjugate
gradients (Zeman et al., Int. J. Numer. Methods Eng. 111, 903, 2017). Strains live at the voxel's centre, as differences
of the means over its faces: a hexahedron with one integration point (Willot, C. R. Mécanique 343, 232, 2015).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mdiff_client.properties.measures import Labels, Values, quiet
from mdiff_core.contract import AXES

if TYPE_CHECKING:
    from mdiff_client.formats import Elastic

_logger = logging.getLogger(__name__)

_RESIDUAL = 1e-3  # of the equilibrium, relative: the stiffness is then right to 1e-5
_ITERATIONS = 5000
# Pairs of axes in Voigt's order, the normal ones first.
_PAIRS = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]


@dataclass(frozen=True)
class Stiffness:
    """Effective stiffness tensor, of phases that are isotropic, in the unit of their moduli.

    ``stiffness_zzyy`` is C of strain yy and stress zz; 21 of them are independent. The bulk and shear modulus are those
    of Voigt's average over all orientations.

    Attributes:
        phases: names, in the order of their labels.
        constants: theirs.
    """

    phases: tuple[str, ...]
    constants: tuple[Elastic, ...]

    @property
    def title(self) -> str:
        """What it is."""
        return "effective elastic moduli"

    @property
    def asked(self) -> Mapping[str, float]:
        """The phases' moduli."""
        return {
            f"{name}_of_{phase}": value
            for phase, one in zip(self.phases, self.constants, strict=True)
            for name, value in (("young", one.young), ("poisson", one.poisson))
        }

    @property
    def keys(self) -> tuple[str, ...]:
        """Two moduli and 21 components."""
        return (*self.headline, *_COMPONENTS)

    @property
    def headline(self) -> tuple[str, ...]:
        """The two moduli."""
        return ("bulk_modulus", "shear_modulus")

    def __call__(self, labels: Labels, periodic: str) -> Values:
        """Values by key of a volume [Z, Y, X], which is repeated along all axes."""
        with quiet():
            c = _stiffness(labels, self.constants)
        if c is None:
            return dict.fromkeys(self.keys)
        bulk = np.einsum("iijj", c) / 9
        shear = (np.einsum("ijij", c) - np.einsum("iijj", c) / 3) / 10
        components = (c[at] for at in _COMPONENTS.values())
        return {key: float(value) for key, value in zip(self.keys, [bulk, shear, *components], strict=True)}


_COMPONENTS = {
    "stiffness_" + "".join(AXES[axis] for axis in (*one, *other)): (*one, *other)
    for n, one in enumerate(_PAIRS)
    for other in _PAIRS[n:]
}


def _stiffness(labels: Labels, constants: tuple[Elastic, ...]) -> npt.NDArray[np.float64] | None:
    """C [3, 3, 3, 3], axes z, y, x; None where the solver does not converge."""
    from muFFT import Stencils3D
    from muSpectre import Formulation, Verbosity, cell, material, solvers

    rve = cell.CellData.make(list(labels.shape), [float(n) for n in labels.shape])
    rve.nb_quad_pts = 1
    voxels = labels.ravel(order="F")  # muSpectre counts them with the first axis fastest
    for label, one in enumerate(constants):
        phase = material.MaterialLinearElastic1_3d.make(rve, str(label), one.young, one.poisson)
        for voxel in np.flatnonzero(voxels == label).tolist():
            phase.add_pixel(voxel)
    krylov = solvers.KrylovSolverCG(_RESIDUAL, _ITERATIONS, Verbosity.Silent)
    newton = solvers.SolverNewtonCG(
        rve,
        krylov,
        Verbosity.Silent,
        _RESIDUAL,
        _RESIDUAL,
        1,
        list(Stencils3D.averaged_upwind),
        [1.0],
        solvers.MeanControl.strain_control,
    )
    newton.formulation = Formulation.small_strain
    try:
        newton.initialise_cell()
        newton.evaluate_stress_tangent()
        c = np.asarray(newton.compute_effective_stiffness())
    except RuntimeError as error:
        _logger.warning("muSpectre found no stiffness: %s", str(error).splitlines()[0])
        return None
    # It flattens pairs of axes with the first one fastest.
    return np.asarray(c.reshape(3, 3, 3, 3).transpose(1, 0, 3, 2), np.float64)
