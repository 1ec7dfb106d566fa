"""Effective properties of volumes, by solvers that others wrote, and how they depend on the volumes' size.

``measures`` says what a measure is; ``transport`` (TauFactor) and ``elasticity`` (muSpectre) hold those there are.
``documents`` keeps what they find in the store, ``convergence`` asks whether the volumes are large enough, ``plot``
draws the answer and ``report`` prints it.
"""

from mdiff_client.properties.convergence import Convergence, converge
from mdiff_client.properties.documents import homogenize, unfinished, values
from mdiff_client.properties.elasticity import Stiffness
from mdiff_client.properties.measures import Measure
from mdiff_client.properties.transport import Conductivity, Diffusivity

__all__ = [
    "Conductivity",
    "Convergence",
    "Diffusivity",
    "Measure",
    "Stiffness",
    "converge",
    "homogenize",
    "unfinished",
    "values",
]
