"""Abaqus input (.inp) of a voxel mesh that runs as it is; CalculiX runs it too.

Every voxel is a C3D8 element. Along each periodic axis a, of length L_a, opposite nodes are tied through a reference
node R_a, which belongs to no element and whose displacement is that of the far face against the near one:

    u(x + L_a e_a) - u(x) - u(R_a) = 0,    u_i(R_a) = ε_ia L_a for the mean strain ε.

A node on several far faces is tied in one equation to the node that all its periodic axes lead back to. So no node is
dependent twice, and none that others depend on is dependent; equations from face to edge to corner would break both.
The virtual work of R_a gives the mean stress: σ_ia = RF_i(R_a) / area of the face normal to a. CalculiX gives no forces
of such nodes; the sum of RF_i over the far face is the same.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from mdiff_client.formats.volume import Volume

_AXES = "xyz"
_STRAIN = 1e-3
_ROWS = 1 << 16  # rows made into text at once
_PER_LINE = 16  # numbers a line of a set may have
_NAME = 80  # characters a name may have
_KINDS = ("FACE", "EDGE", "CORNER")

Ids = npt.NDArray[np.int64]


def write_abaqus(path: Path, volume: Volume) -> None:
    """A deck of mesh, element sets and materials a phase, node sets, periodic equations and one load step.

    The step is a uniaxial mean strain of 0.001 along x. Along an axis that is not periodic the two faces stay plane.
    Lengths are in the unit of the voxel. Without elastic constants the materials are left to be filled in.

    Raises:
        OSError: ``path`` cannot be written.
    """
    mesh = _Mesh.of(volume)
    with path.open("w", encoding="ascii", errors="replace") as file:
        file.write(f"*Heading\n{volume.title}\n")
        file.writelines(f"** {note}\n" for note in volume.notes[1:])
        _write_mesh(file, volume, mesh)
        _write_sets(file, mesh)
        _write_equations(file, mesh)
        _write_materials(file, volume)
        _write_step(file, mesh)


@dataclass(frozen=True)
class _Mesh:
    """Nodes of the mesh.

    Attributes:
        ids: number of each node, [z, y, x]; x runs fastest.
        images: number of the node that the periodic axes lead it back to.
        size: edge of a voxel.
        references: number of the reference node of each periodic axis (0, 1, 2: x, y, z).
    """

    ids: Ids
    images: Ids
    size: float
    references: dict[int, int]

    @classmethod
    def of(cls, volume: Volume) -> _Mesh:
        shape = tuple(n + 1 for n in volume.voxels.shape)
        ids = np.arange(1, np.prod(shape) + 1).reshape(shape)
        periodic = [axis for axis in range(3) if _AXES[axis] in volume.periodic]
        images = ids
        for axis in periodic:
            images = images.copy()
            images[_face(axis, 1)] = images[_face(axis, 0)]
        references = {axis: ids.size + 1 + place for place, axis in enumerate(periodic)}
        return cls(ids, images, volume.contract.voxel_size, references)

    def length(self, axis: int) -> float:
        """Of the volume along x, y or z."""
        return float(self.size * (self.ids.shape[2 - axis] - 1))


def _face(axis: int, side: int) -> tuple[slice | int, ...]:
    """Where the nodes of a face lie in [z, y, x]; side 1 is the far one."""
    return tuple(-side if place == 2 - axis else slice(None) for place in range(3))


def _write_mesh(file: TextIO, volume: Volume, mesh: _Mesh) -> None:
    z, y, x = (index.ravel() for index in np.indices(mesh.ids.shape, dtype=np.int32))
    file.write("*Node\n")
    _write_rows(file, "%d, %.9g, %.9g, %.9g\n", [mesh.ids.ravel(), *(index * mesh.size for index in (x, y, z))])
    for axis, node in mesh.references.items():
        # Beside the mesh, where it can be seen; its place enters nothing.
        place = [1.25 * mesh.length(axis) if axis == along else 0.0 for along in range(3)]
        file.write(f"{node}, " + ", ".join(f"{value:.9g}" for value in place) + "\n")
    low, high = slice(None, -1), slice(1, None)
    corners = [mesh.ids[k, j, i] for k in (low, high) for j, i in ((low, low), (low, high), (high, high), (high, low))]
    labels = volume.voxels.ravel()
    for label, name in _present(volume):
        chosen = np.flatnonzero(labels == label)
        file.write(f"*Element, type=C3D8, elset={name}\n")
        _write_rows(file, ", ".join(["%d"] * 9) + "\n", [chosen + 1, *(corner.ravel()[chosen] for corner in corners)])


def _write_sets(file: TextIO, mesh: _Mesh) -> None:
    file.write("** Faces have their edges and corners, edges their corners.\n")
    for sides in itertools.product((None, 0, 1), repeat=3):
        given = [(axis, side) for axis, side in enumerate(sides) if side is not None]
        if given:
            where = tuple(slice(None) if side is None else -side for side in reversed(sides))
            name = f"{_KINDS[len(given) - 1]}_" + "".join(f"{_AXES[axis].upper()}{side}" for axis, side in given)
            _write_set(file, name, np.atleast_1d(mesh.ids[where]).ravel())
    for axis, node in mesh.references.items():
        _write_set(file, _reference(axis), [node])
    if mesh.references:
        _write_set(file, "REFERENCE", list(mesh.references.values()))
    for axis, side in _walls(mesh):
        # What an equation decides may not be prescribed as well; it follows its image.
        face = mesh.ids[_face(axis, side)]
        _write_set(file, _wall(axis, side), face[face == mesh.images[_face(axis, side)]])


def _write_equations(file: TextIO, mesh: _Mesh) -> None:
    if not mesh.references:
        return
    file.write("** u(node) - u(image) - u(reference nodes of the axes between them) = 0\n*Equation\n")
    far = {axis: np.zeros(mesh.ids.shape, bool) for axis in mesh.references}
    for axis, flags in far.items():
        flags[_face(axis, 1)] = True
    for crossed in _subsets(list(far)):
        chosen = np.all([flags == (axis in crossed) for axis, flags in far.items()], axis=0)
        columns = [mesh.ids[chosen], mesh.images[chosen]]
        for dof in (1, 2, 3):
            terms = [f"%d, {dof}, 1.", f"%d, {dof}, -1.", *(f"{mesh.references[axis]}, {dof}, -1." for axis in crossed)]
            # Four terms are what a line may have.
            lines = [", ".join(terms[start : start + 4]) for start in range(0, len(terms), 4)]
            _write_rows(file, "\n".join([str(len(terms)), *lines, ""]), columns)


def _write_materials(file: TextIO, volume: Volume) -> None:
    for label, name in _present(volume):
        file.write(f"*Solid Section, elset={name}, material={name}\n*Material, name={name}\n")
        if volume.elastic:
            constants = volume.elastic[label]
            file.write(f"*Elastic\n{constants.young:.9g}, {constants.poisson:.9g}\n")
        else:
            file.write("** TO FILL IN: Young's modulus and Poisson's ratio\n** *Elastic\n** E, nu\n")


def _write_step(file: TextIO, mesh: _Mesh) -> None:
    file.write("** Mean strain 0.001 along x, none otherwise.\n*Step\n*Static\n*Boundary\n")
    for axis in mesh.references:
        file.write(f"CORNER_X0Y0Z0, {axis + 1}, {axis + 1}\n")
        for dof in range(3):
            value = _STRAIN * mesh.length(axis) if axis == dof == 0 else 0.0
            file.write(f"{_reference(axis)}, {dof + 1}, {dof + 1}, {value:.9g}\n")
    for axis, side in _walls(mesh):
        value = _STRAIN * mesh.length(axis) if axis == 0 and side else 0.0
        file.write(f"{_wall(axis, side)}, {axis + 1}, {axis + 1}, {value:.9g}\n")
    file.write("** Mean stress: RF of a reference node (Abaqus) or total of a far face (CalculiX), over its area.\n")
    if mesh.references:
        file.write("*Node Print, nset=REFERENCE\nU, RF\n")
    file.writelines(f"*Node Print, nset=FACE_{axis.upper()}1, totals=yes\nRF\n" for axis in _AXES)
    file.write("*Node File\nU, RF\n*El File\nS, E\n*End Step\n")


def _present(volume: Volume) -> Iterator[tuple[int, str]]:
    """(label, name of its element set and material) of the phases that occur: an empty set is refused."""
    occurring = set(np.unique(volume.voxels).tolist())
    for label, phase in enumerate(volume.phases):
        if label in occurring:
            yield label, (f"PHASE_{label}_" + re.sub(r"\W", "_", phase, flags=re.ASCII).upper())[:_NAME]


def _subsets(axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for count in range(1, len(axes) + 1):
        yield from itertools.combinations(axes, count)


def _walls(mesh: _Mesh) -> Iterator[tuple[int, int]]:
    """(axis, side) of the faces that are not periodic."""
    yield from ((axis, side) for axis in range(3) if axis not in mesh.references for side in (0, 1))


def _wall(axis: int, side: int) -> str:
    return f"WALL_{_AXES[axis].upper()}{side}"


def _reference(axis: int) -> str:
    return f"REF_{_AXES[axis].upper()}"


def _write_set(file: TextIO, name: str, ids: Ids | list[int]) -> None:
    file.write(f"*Nset, nset={name}\n")
    for start in range(0, len(ids), _PER_LINE):
        file.write(", ".join(map(str, ids[start : start + _PER_LINE])) + "\n")


def _write_rows(file: TextIO, template: str, columns: Sequence[npt.NDArray[np.generic]]) -> None:
    """A row for each entry of the columns."""
    for start in range(0, len(columns[0]), _ROWS):
        rows = zip(*(column[start : start + _ROWS].tolist() for column in columns), strict=True)
        file.write("".join(map(template.__mod__, rows)))
