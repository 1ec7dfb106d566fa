"""The Abaqus deck, read by meshio: its equations checked, and solved by a solver of the test's own and by CalculiX."""

import dataclasses
import itertools
import re
import shutil
import subprocess

import meshio
import numpy as np
import pytest

from mdiff_client.formats import Elastic
from mdiff_client.formats.abaqus import write_abaqus

SOFT, STIFF = Elastic(3.5, 0.35), Elastic(70.0, 0.2)


@dataclasses.dataclass
class Deck:
    """A deck: the mesh as meshio reads it, the rest by keyword."""

    mesh: meshio.Mesh
    text: str

    @property
    def nodes(self):
        """Coordinates without the reference nodes."""
        return self.mesh.points[: len(self.mesh.points) - len(self.mesh.point_sets.get("REFERENCE", []))]

    @property
    def elements(self):
        """Nodes of each element [N, 8] and its phase, by the element sets."""
        nodes = np.concatenate([block.data for block in self.mesh.cells])
        phase = np.concatenate(
            [
                np.full(len(block.data), int(name.split("_")[1]))
                for position, block in enumerate(self.mesh.cells)
                for name, members in self.mesh.cell_sets.items()
                if members[position] is not None and len(members[position])
            ]
        )
        return nodes, phase

    @property
    def equations(self):
        """Terms (node, degree of freedom, coefficient) of each equation, counted from 0."""
        found = re.search(r"\*Equation\n(.*?)\n\*", self.text, re.S)
        numbers = iter(found[1].replace("\n", ", ").split(", ") if found else [])
        return [
            [(int(next(numbers)) - 1, int(next(numbers)) - 1, float(next(numbers))) for _ in range(int(count))]
            for count in numbers
        ]

    @property
    def boundary(self):
        """(node, degree of freedom): displacement."""
        lines = re.search(r"\*Boundary\n(.*?)\n\*", self.text, re.S)[1].splitlines()
        prescribed = {}
        for name, first, last, *value in (line.split(", ") for line in lines):
            assert first == last
            for node in self.mesh.point_sets[name]:
                assert (node, int(first) - 1) not in prescribed
                prescribed[node, int(first) - 1] = float(*value or "0")
        return prescribed

    @property
    def constants(self):
        """(E, nu) of each phase."""
        found = re.findall(r"\*Material, name=PHASE_(\d+)_\w+\n\*Elastic\n(\S+), (\S+)\n", self.text)
        return {int(phase): (float(young), float(poisson)) for phase, young, poisson in found}


@pytest.fixture
def deck(tmp_path):
    def write(volume):
        write_abaqus(tmp_path / "rve.inp", volume)
        return Deck(meshio.read(tmp_path / "rve.inp"), (tmp_path / "rve.inp").read_text())

    return write


@pytest.fixture(params=["xyz", "xy", "z", ""])
def periodic(request):
    return request.param


@pytest.fixture
def laminate(make_volume):
    """``laminate(axis, periodic, shape)``: half soft, half stiff, layered along an axis of [z, y, x]."""

    def make(axis, periodic, shape):
        voxels = np.zeros(shape, np.uint8)
        voxels[tuple(slice(shape[axis] // 2, None) if place == axis else slice(None) for place in range(3))] = 1
        return make_volume(voxels, periodic=periodic, elastic=(SOFT, STIFF, SOFT))

    return make


def test_every_voxel_is_an_element_in_its_phase_s_set(deck, volume):
    written = deck(volume)
    nodes, phase = written.elements
    place = np.rint(written.nodes[nodes].mean(axis=1) / 0.4 - 0.5).astype(int)
    labels = np.full(volume.voxels.shape, 9)
    labels[place[:, 2], place[:, 1], place[:, 0]] = phase
    assert np.array_equal(labels, volume.voxels)
    assert set(written.mesh.cell_sets) == {"PHASE_0_PORE", "PHASE_1_ACTIVE_MATERIAL", "PHASE_2_BINDER"}


def test_elements_are_cubes_of_positive_volume(deck, volume):
    """Nodes in the order that C3D8 wants: counter-clockwise below, then above."""
    written = deck(volume)
    corner = written.nodes[written.elements[0]]
    edges = corner[:, [1, 3, 4]] - corner[:, :1]
    assert np.allclose(edges, 0.4 * np.eye(3))
    assert np.allclose(corner[:, 6] - corner[:, 0], 0.4)


def test_a_phase_that_does_not_occur_has_no_set(deck, make_volume):
    written = deck(make_volume(np.ones((2, 2, 2), np.uint8)))
    assert set(written.mesh.cell_sets) == {"PHASE_1_ACTIVE_MATERIAL"}
    assert written.text.count("*Material") == 1


def test_faces_edges_and_corners_have_sets(deck, volume):
    written = deck(volume)
    size = np.array([7, 6, 5]) * 0.4
    for sides in itertools.product((None, 0, 1), repeat=3):
        given = {axis: side for axis, side in enumerate(sides) if side is not None}
        if given:
            name = "".join(f"{'XYZ'[axis]}{side}" for axis, side in given.items())
            members = written.mesh.point_sets[f"{('FACE', 'EDGE', 'CORNER')[len(given) - 1]}_{name}"]
            at = [np.isclose(written.nodes[:, axis], side * size[axis]) for axis, side in given.items()]
            assert np.array_equal(np.sort(members), np.flatnonzero(np.all(at, axis=0))), name


def test_each_opposite_pair_is_tied_once(deck, make_volume, periodic):
    """By its first term and second, for each degree of freedom: to the node that lies back along the periodic axes."""
    written = deck(make_volume(periodic=periodic))
    size = np.array([7, 6, 5]) * 0.4
    along = np.array([axis in periodic for axis in "xyz"])
    far = np.isclose(written.nodes, size) & along
    tied = [(terms[0][0], terms[0][1]) for terms in written.equations]
    assert sorted(tied) == [(node, dof) for node in np.flatnonzero(far.any(axis=1)) for dof in range(3)]
    for (node, dof, one), (image, other, minus), *_ in written.equations:
        assert (one, minus, dof) == (1, -1, other)
        assert np.allclose(written.nodes[image], np.where(far[node], 0, written.nodes[node]))


def test_no_dependent_freedom_is_used_again(deck, make_volume, periodic):
    written = deck(make_volume(periodic=periodic))
    dependent = [terms[0][:2] for terms in written.equations]
    others = {term[:2] for terms in written.equations for term in terms[1:]}
    assert len(set(dependent)) == len(dependent)
    assert not set(dependent) & (others | set(written.boundary))


def test_a_mean_strain_satisfies_every_equation(deck, make_volume, periodic):
    """u = E x, where a reference node moves as its face against the opposite one: E L_a e_a."""
    written = deck(make_volume(periodic=periodic))
    strain = np.random.default_rng(0).normal(size=(3, 3))
    moved = {node: strain @ point for node, point in enumerate(written.nodes)}
    for axis, length in zip("xyz", np.array([7, 6, 5]) * 0.4, strict=True):
        if axis in periodic:
            (reference,) = written.mesh.point_sets[f"REF_{axis.upper()}"]
            moved[reference] = strain @ (length * np.eye(3)["xyz".index(axis)])
    residuals = [sum(factor * moved[node][dof] for node, dof, factor in terms) for terms in written.equations]
    assert np.allclose(residuals, 0, atol=1e-12)


def test_a_line_of_an_equation_has_four_terms_at_most(deck, volume):
    lines = re.search(r"\*Equation\n(.*?)\n\*", deck(volume).text, re.S)[1].splitlines()
    assert max(line.count(",") + 1 for line in lines) == 12
    assert {line for line in lines if "," not in line} == {"3", "4", "5"}  # faces, edges, the corner


def test_constants_that_are_not_given_are_left_to_be_filled_in(deck, make_volume):
    text = deck(make_volume(elastic=())).text
    assert text.count("** TO FILL IN: Young's modulus and Poisson's ratio") == 3
    assert "\n*Elastic" not in text


def test_the_deck_s_mean_stress_is_the_laminate_s(deck, laminate, periodic):
    """By a reference node's RF over its face's area, as Abaqus tells it; by the total of a face that stays plane."""
    for axis in range(3):
        assert solve(deck(laminate(axis, periodic, (2, 4, 4)))) == pytest.approx(laminate_stress(axis), rel=1e-9)


def test_a_periodic_volume_may_be_cut_anywhere(deck, make_volume):
    """The ties of faces, edges and corners make one endless body: rolled, it has the same stress."""
    voxels = np.random.default_rng(2).integers(0, 3, (3, 4, 5)).astype(np.uint8)
    stresses = [solve(deck(make_volume(np.roll(voxels, shift, axis=(0, 1, 2))))) for shift in ((0, 0, 0), (1, 2, 3))]
    assert stresses[0] == pytest.approx(stresses[1], rel=1e-9)


@pytest.mark.skipif(shutil.which("ccx") is None, reason="CalculiX (ccx, Debian's calculix-ccx) is not installed")
def test_calculix_runs_the_deck(deck, laminate, tmp_path, periodic):
    for axis in range(3):
        deck(laminate(axis, periodic, (6, 6, 6)))
        subprocess.run(["ccx", "rve"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
        totals = re.findall(
            r"total force.*set FACE_(\w)1 .*\n\n +(\S+) +(\S+) +(\S+)", (tmp_path / "rve.dat").read_text()
        )
        stress = [float(force["XYZ".index(face)]) / (6 * 0.4) ** 2 for face, *force in totals]
        assert stress == pytest.approx(laminate_stress(axis), rel=1e-6)  # seven digits are printed


def laminate_stress(axis):
    """Mean σ_xx, σ_yy, σ_zz of the laminate at a strain of 0.001 along x; layered along an axis of [z, y, x].

    Stress is even across the layers, strain along them: means of M = λ + 2μ and λ in the usual combinations
    (G. W. Milton, The Theory of Composites, chapter 9).
    """
    lame = np.array([phase.bulk - 2 / 3 * phase.shear for phase in (SOFT, STIFF)])
    modulus = lame + 2 * np.array([phase.shear for phase in (SOFT, STIFF)])
    across = 1 / np.mean(1 / modulus)
    coupling = np.mean(lame / modulus) * across
    shared = np.mean(lame / modulus) ** 2 * across
    if axis == 2:
        return 1e-3 * np.array([across, coupling, coupling])
    along, beside = (np.mean(first - lame**2 / modulus) + shared for first in (modulus, lame))
    return 1e-3 * np.array([along, coupling, beside] if axis == 1 else [along, beside, coupling])


def solve(deck):
    """Mean σ_xx, σ_yy, σ_zz by trilinear elements and Lagrange multipliers of equations and boundary conditions."""
    nodes, phase = deck.elements
    edge = 0.4
    unknowns = 3 * len(deck.mesh.points)
    stiffness = np.zeros((unknowns, unknowns))
    for members, label in zip(nodes, phase, strict=True):
        freedoms = (3 * members[:, None] + np.arange(3)).ravel()
        stiffness[np.ix_(freedoms, freedoms)] += hexahedron(*deck.constants[label], edge)
    rows = [{3 * node + dof: factor for node, dof, factor in terms} for terms in deck.equations]
    boundary = deck.boundary
    rows += [{3 * node + dof: 1.0} for node, dof in boundary]
    constraints = np.zeros((len(rows), unknowns))
    for number, row in enumerate(rows):
        constraints[number, list(row)] = list(row.values())
    right = np.concatenate([np.zeros(unknowns + len(rows) - len(boundary)), list(boundary.values())])
    system = np.block([[stiffness, constraints.T], [constraints, np.zeros((len(rows), len(rows)))]])
    assert np.linalg.matrix_rank(constraints) == len(rows)  # none says again what others say
    reactions = -np.linalg.solve(system, right)[-len(boundary) :]
    forces, size = dict(zip(boundary, reactions, strict=True)), deck.nodes.max(axis=0)
    stress = []
    for axis, name in enumerate("XYZ"):
        loaded = deck.mesh.point_sets[f"REF_{name}" if f"REF_{name}" in deck.mesh.point_sets else f"WALL_{name}1"]
        stress.append(sum(forces[node, axis] for node in loaded) * size[axis] / size.prod())
    return stress


def hexahedron(young, poisson, edge):
    """Stiffness [24, 24] of a cube with C3D8's order of nodes, integrated at 2 x 2 x 2 points."""
    lame, shear = young * poisson / ((1 + poisson) * (1 - 2 * poisson)), young / (2 * (1 + poisson))
    material = np.diag([2 * shear] * 3 + [shear] * 3)
    material[:3, :3] += lame
    signs = np.array(
        [[-1, -1, -1], [1, -1, -1], [1, 1, -1], [-1, 1, -1], [-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]]
    )
    total = np.zeros((24, 24))
    for point in itertools.product((-1, 1), repeat=3):
        terms = 1 + signs * np.array(point) / np.sqrt(3)
        slopes = [signs[:, a] * np.prod(np.delete(terms, a, axis=1), axis=1) / 8 * 2 / edge for a in range(3)]
        strain = np.zeros((6, 8, 3))
        for row, (one, other) in enumerate([(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]):
            strain[row, :, one] = slopes[other]
            strain[row, :, other] = slopes[one]
        strain = strain.reshape(6, 24)
        total += strain.T @ material @ strain * (edge / 2) ** 3
    return total
