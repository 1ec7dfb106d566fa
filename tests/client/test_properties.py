"""Effective properties beside closed forms and TauFactor's own published cases (its tests/test_taufactor.py)."""

import logging
from importlib.util import find_spec

import numpy as np
import pytest

from mdiff_client.formats.elastic import Elastic
from mdiff_client.properties import Conductivity, Diffusivity, Stiffness, elasticity, transport
from mdiff_core import UsageError

WALLS, PERIODIC = "", "zyx"
OF_ONE = Diffusivity("one", 1)


def diffusivities(labels, periodic=PERIODIC):
    values = OF_ONE(labels.astype(np.uint8), periodic)
    return [values[f"effective_diffusivity_one_{axis}"] for axis in "zyx"]


def factors(labels, periodic=PERIODIC):
    values = OF_ONE(labels.astype(np.uint8), periodic)
    return [values[f"tortuosity_factor_one_{axis}"] for axis in "zyx"]


def layers(shape, axis, thick):
    """Label 1 for ``thick`` voxels along an axis, label 0 beyond."""
    return (np.indices(shape)[axis] < thick).astype(np.uint8)


@pytest.mark.parametrize("periodic", [WALLS, PERIODIC])
def test_a_uniform_block_diffuses_like_its_bulk(periodic):
    assert diffusivities(np.ones((20, 20, 20)), periodic) == pytest.approx([1, 1, 1], abs=1e-5)
    assert factors(np.ones((20, 20, 20)), periodic) == pytest.approx([1, 1, 1], abs=1e-5)


@pytest.mark.parametrize("periodic", [WALLS, PERIODIC])
def test_a_strip_of_a_quarter_of_the_volume_has_tortuosity_factor_1_along_it_and_no_path_across(periodic):
    strip = np.zeros((20, 16, 12))
    strip[:, :8, :6] = 1
    assert diffusivities(strip, periodic) == pytest.approx([0.25, 0, 0], abs=1e-5)
    along, *across = factors(strip, periodic)
    assert along == pytest.approx(1, abs=1e-5)
    assert across == [None, None]


def test_a_slanted_strip_is_the_resistor_network_that_it_is():
    """TauFactor's 2 × 2 strip: a bond between the slices, in each one two paths of two bonds, 7/24 at either end."""
    strip = np.zeros((20, 21, 21))
    for i in range(20):
        strip[i, i : i + 2, i : i + 2] = 1
    resistance = 19 + 18 + 2 * 7 / 24
    assert factors(strip, WALLS)[0] == pytest.approx(4 * resistance / 20, rel=1e-3)


@pytest.mark.parametrize("periodic", [WALLS, PERIODIC])
def test_an_absent_phase_and_a_dead_end_do_not_diffuse(periodic):
    dead_end = np.zeros((10, 20, 20))
    dead_end[:8, 10, 10] = 1
    for labels in (np.zeros((8, 8, 8)), dead_end):
        assert diffusivities(labels, periodic) == [0, 0, 0]
        assert factors(labels, periodic) == [None, None, None]


def test_a_path_that_leaves_through_one_side_comes_back_through_the_opposite_one_where_the_volume_is_periodic():
    slanted = np.zeros((16, 8, 8))
    for i in range(16):
        slanted[i, [(4 + i // 2) % 8, (5 + i // 2) % 8], 3:5] = 1
    assert diffusivities(slanted, WALLS)[0] == 0
    assert diffusivities(slanted, PERIODIC)[0] > 0.01
    assert diffusivities(slanted, "zy")[0] == 0, "x is a wall, and the solver knows both or none"


@pytest.mark.parametrize(("edge", "percent"), [(16, 4.5), (32, 3.0)])
def test_diffusion_around_a_simple_cubic_array_of_spheres_nears_the_expansion(edge, percent):
    """Sangani and Acrivos, Proc. R. Soc. Lond. A 386, 263 (1983), to the order f^(10/3); stairs are in the way."""
    around = ((np.indices((edge, edge, edge)) + 0.5) / edge - 0.5) ** 2
    labels = around.sum(axis=0) >= 0.4**2
    f = 1 - labels.mean()
    expansion = 1 - 3 * f / (2 + f - 1.305 * 0.75 * f ** (10 / 3))
    assert diffusivities(labels) == pytest.approx([expansion] * 3, rel=percent / 100)


def test_what_does_not_converge_is_no_value_and_said(monkeypatch, caplog, capsys):
    monkeypatch.setattr(transport, "_ITERATIONS", 100)
    with caplog.at_level(logging.WARNING):
        found = factors(layers((64, 4, 4), 1, 2) | (np.indices((64, 4, 4))[0] % 2 == 0), WALLS)
    assert found[0] is None
    assert "did not converge along z" in caplog.text
    assert capsys.readouterr().out == ""


def test_layers_conduct_in_parallel_along_them_and_in_series_across():
    measure = Conductivity(("a", "b"), (1.0, 10.0))
    found = measure(layers((16, 12, 8), 0, 8), WALLS)
    exact = [1 / np.mean([1, 1 / 10]), 5.5, 5.5]
    assert list(found.values()) == pytest.approx(exact, rel=2e-3)


def test_a_phase_of_conductivity_0_insulates():
    measure = Conductivity(("a", "b"), (0.0, 2.0))
    found = measure(layers((8, 8, 8), 1, 4), WALLS)
    assert list(found.values()) == pytest.approx([1, 0, 1], abs=1e-4)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("matrix=1,glass=2", "no phase 'glass'"),
        ("matrix=1,matrix=2", "given twice"),
        ("matrix=one", "say PHASE=VALUE"),
        ("matrix=-1,sphere=1", "must be 0 or more"),
        ("matrix=0,sphere=0", "above 0"),
    ],
)
def test_conductivities_that_make_no_sense_are_refused(text, complaint, gaussian):
    with pytest.raises(UsageError, match=complaint):
        Conductivity.parse(text, gaussian.contract)


def test_a_phase_that_is_not_named_insulates(gaussian):
    assert Conductivity.parse("sphere=10", gaussian.contract).values == (0.0, 10.0)


with_muspectre = pytest.mark.skipif(
    find_spec("muSpectre") is None, reason="muSpectre has no wheel for this system or this Python"
)
STIFF = Stiffness(("a", "b"), (Elastic(1.0, 0.3), Elastic(10.0, 0.2)))


@with_muspectre
@pytest.mark.parametrize(("axis", "name", "others"), [(0, "z", "yx"), (1, "y", "zx"), (2, "x", "zy")])
def test_the_stiffness_of_layers_is_the_closed_form(axis, name, others):
    """Backus, J. Geophys. Res. 67, 4427 (1962); layers of even and odd number, along each axis."""
    shape = np.roll([6, 4, 3], axis)
    found = STIFF(layers(shape, axis, 3), PERIODIC)
    young, poisson = np.array([1.0, 10.0]), np.array([0.3, 0.2])
    shear = young / 2 / (1 + poisson)
    lame = young * poisson / (1 + poisson) / (1 - 2 * poisson)
    across = 1 / np.mean(1 / (lame + 2 * shear))
    coupled = np.mean(lame / (lame + 2 * shear)) * across
    along = np.mean(4 * shear * (lame + shear) / (lame + 2 * shear)) + coupled**2 / across
    one, other = others
    assert found[f"stiffness_{name * 4}"] == pytest.approx(across, rel=1e-4)
    assert found[f"stiffness_{one * 4}"] == pytest.approx(along, rel=1e-4)
    sheared = {
        frozenset(key[-4:]): value for key, value in found.items() if key[-4:-2] == key[-2:] and key[-4] != key[-3]
    }
    assert sheared[frozenset((name, one))] == pytest.approx(1 / np.mean(1 / shear), rel=1e-4)
    assert sheared[frozenset((one, other))] == pytest.approx(np.mean(shear), rel=1e-4)
    [couples] = [
        found[key] for key in (f"stiffness_{name * 2}{one * 2}", f"stiffness_{one * 2}{name * 2}") if key in found
    ]
    assert couples == pytest.approx(coupled, rel=1e-4)


@with_muspectre
def test_a_homogeneous_volume_has_the_moduli_of_its_phase():
    found = STIFF(np.ones((5, 4, 3), np.uint8), PERIODIC)
    assert found["bulk_modulus"] == pytest.approx(Elastic(10.0, 0.2).bulk, rel=1e-6)
    assert found["shear_modulus"] == pytest.approx(Elastic(10.0, 0.2).shear, rel=1e-6)
    assert len([key for key in found if key.startswith("stiffness_")]) == 21


@with_muspectre
def test_solvers_print_nothing_on_the_terminal(capfd):
    STIFF(np.ones((4, 4, 4), np.uint8), PERIODIC)  # muSpectre warns of loads that are balanced at once
    diffusivities(np.zeros((4, 4, 4)))
    assert capfd.readouterr() == ("", "")


@with_muspectre
def test_a_stiffness_that_is_not_found_is_no_value_and_said(monkeypatch, caplog):
    monkeypatch.setattr(elasticity, "_ITERATIONS", 1)
    labels = np.random.default_rng(0).integers(0, 2, (8, 8, 8)).astype(np.uint8)
    with caplog.at_level(logging.WARNING):
        found = STIFF(labels, PERIODIC)
    assert set(found.values()) == {None}
    assert "muSpectre" in caplog.text
