"""Figures of volumes beside real pieces, and what they are judged to say."""

import dataclasses

import numpy as np
import pytest

from mdiff_client.evaluation import ALL_AXES, compare_volumes
from mdiff_client.report_page import make_report
from mdiff_client.report_page.figures import Figure, Quantity, figures, group_means, measured
from mdiff_client.report_page.verdict import NEAR, TOLERANCE, Level, allowed, judge, level
from mdiff_client.store import VolumeStore
from mdiff_core import DataError, UsageError, reference_descriptors

NAMES = ["matrix", "ball"]


@pytest.fixture
def references(material):
    return {ALL_AXES: reference_descriptors(material, NAMES, (16, 16))}


@pytest.fixture
def real_crops(material):
    """``real_crops(count)``: cubes of 32 voxels of the material."""
    corners = np.random.default_rng(1).integers(0, 33, (100, 3))
    return lambda count: [material[tuple(slice(c, c + 32) for c in corner)] for corner in corners[:count]]


def rough(labels):
    """The same with a tenth of the voxels that lie at a boundary swapped."""
    boundary = np.zeros(labels.shape, bool)
    for axis in range(3):
        for shift in (-1, 1):
            boundary |= np.roll(labels, shift, axis) != labels
    swapped = boundary & (np.random.default_rng(0).random(labels.shape) < 0.1)
    return np.where(swapped, 1 - labels, labels).astype(np.uint8)


def figure(value, reference=1.0, real=(0.9, 1.1), quantity=Quantity.SURFACE):
    return Figure(quantity, "ball", ALL_AXES, value, (value, value), reference, real)


def one_of(found, quantity):
    (one,) = (one for one in found if one.quantity is quantity and one.phase == "ball")
    return one


def test_the_figures_are_those_of_evaluate(real_crops, references):
    volumes = real_crops(5)
    of = compare_volumes(volumes, references, NAMES)[ALL_AXES]["ball"]
    found = figures(measured(volumes, references, NAMES), None, references)
    fraction, surface = one_of(found, Quantity.FRACTION), one_of(found, Quantity.SURFACE)
    s2, lineal_path = one_of(found, Quantity.S2), one_of(found, Quantity.LINEAL_PATH)
    assert (fraction.value, fraction.reference) == pytest.approx((of.fraction, of.fraction_reference))
    assert (surface.value, surface.reference) == pytest.approx((of.specific_surface, of.specific_surface_reference))
    assert (s2.value, *s2.interval) == pytest.approx((of.s2_error_percent, *of.s2_error_interval_percent))
    assert (lineal_path.value, *lineal_path.interval) == pytest.approx(
        (of.lineal_path_error_percent, *of.lineal_path_error_interval_percent)
    )


def test_no_volume_is_read_more_than_once_for_the_figures(make_store, real_crops, monkeypatch):
    store, read = make_store(real_crops(4)), []
    labels = VolumeStore.labels
    monkeypatch.setattr(VolumeStore, "labels", lambda self, index: read.append(index) or labels(self, index))
    make_report(store)
    assert read == [0, 1, 2, 3, 0]  # the last one is to be shown


def test_real_pieces_are_taken_in_groups_as_large_as_there_are_volumes(real_crops, references):
    pieces = measured(real_crops(20), references, NAMES)
    widths = []
    for count in (2, 18):
        found = figures(measured(real_crops(count), references, NAMES), pieces, references)
        low, high = one_of(found, Quantity.FRACTION).real
        widths.append(high - low)
    # The mean of n scatters √n times less.
    assert widths[0] / widths[1] == pytest.approx(3, rel=0.2)


def test_groups_are_means_of_their_samples():
    means = group_means(np.arange(4.0)[:, None], 2)
    assert set(means[:, 0]) == {0, 0.5, 1, 1.5, 2, 2.5, 3}


def test_along_each_axis_there_is_no_fraction_again(real_crops, references, material):
    along = {"z": reference_descriptors(material, NAMES, (16, 16), [0])}
    found = figures(measured(real_crops(2), {**references, **along}, NAMES), None, {**references, **along})
    assert {one.quantity for one in found if one.axes == "z"} == set(Quantity) - {Quantity.FRACTION}
    assert {one.quantity for one in found if one.axes == "x"} == {Quantity.PERCOLATION}


def test_percolation_leaves_room_for_what_real_pieces_did_not_show(references):
    slab = np.zeros((32, 32, 32), np.uint8)
    slab[:, :16] = 1  # along z and x from face to face
    apart = np.zeros_like(slab)
    apart[4:8] = 1  # not along z
    real = measured([slab] * 10, references, NAMES)
    found = figures(measured([slab, slab, slab, apart], references, NAMES), real, references)
    along = {one.axes: one for one in found if one.quantity is Quantity.PERCOLATION and one.phase == "ball"}
    assert along["z"].value == 0.75
    assert along["z"].real == pytest.approx((1 - 3 / 10, 1))
    assert along["y"].real == pytest.approx((0, 3 / 10))
    assert along["x"].value == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, Level.WITHIN),
        (0.9, Level.WITHIN),
        (1.11, Level.CLOSE),
        (1 - 0.1 * NEAR, Level.CLOSE),
        (1.21, Level.OUTSIDE),
        (0.79, Level.OUTSIDE),
    ],
)
def test_a_figure_is_judged_by_where_real_pieces_lie(value, expected):
    assert level(figure(value)) is expected


@pytest.mark.parametrize(("value", "expected"), [(0.0, Level.WITHIN), (8, Level.WITHIN), (9, Level.CLOSE), (17, 2)])
def test_an_error_may_be_lower_than_that_of_real_pieces(value, expected):
    assert level(figure(value, 0.0, (4.0, 8.0), Quantity.S2)) == expected


def test_without_real_pieces_a_convention_judges():
    assert allowed(figure(1, 2.0, None)) == pytest.approx((2 - 0.02 * TOLERANCE, 2 + 0.02 * TOLERANCE))
    assert allowed(figure(1, 0.0, None, Quantity.LINEAL_PATH)) == (0, TOLERANCE)
    assert level(figure(1, None, None, Quantity.PERCOLATION)) is Level.UNJUDGED


def test_good_correlations_do_not_make_up_for_the_surface():
    good = [figure(0.5, 0.0, (1.0, 5.0), quantity) for quantity in (Quantity.S2, Quantity.LINEAL_PATH)]
    assert judge([*good, figure(1.0)], 2).level is Level.WITHIN
    assert judge([*good, figure(1.3)], 2).level is Level.OUTSIDE


def test_real_pieces_that_differ_too_much_prove_nothing():
    verdict = judge([figure(5.0, 0.0, (1.0, 40.0), Quantity.S2), figure(1.0)], 2)
    assert verdict.level is Level.CLOSE
    assert "up to 40 %" in verdict.notes[0]


def test_one_volume_has_no_scatter():
    assert any("One volume" in note for note in judge([figure(1.0)], 1).notes)


def test_real_volumes_pass(make_store, make_real, real_crops):
    assert make_report(make_store(real_crops(10)), make_real()).verdict.level is Level.WITHIN


def test_rough_volumes_are_found_out_by_their_surface(make_store, make_real, real_crops):
    volumes = [rough(labels) for labels in real_crops(6)]
    report = make_report(make_store(volumes), make_real())
    found = report.comparisons[0].figures
    assert level(one_of(found, Quantity.S2)) is Level.WITHIN
    assert level(one_of(found, Quantity.SURFACE)) is Level.OUTSIDE
    assert report.verdict.level is Level.OUTSIDE
    (finding,) = (one for one in report.verdict.findings if one.quantity is Quantity.SURFACE)
    assert "real pieces have" in finding.text


def test_without_real_material_the_curves_of_the_contract_judge(make_store, material):
    report = make_report(make_store([material]))
    assert report.comparisons[0].real is None
    assert report.verdict.title == "Near the training data"


def test_the_shown_volumes_are_spread_over_the_conditions(make_store, real_crops):
    store = make_store(real_crops(4))
    two = [{"guidance": 1.0}, {"guidance": 2.0}]
    report = make_report(dataclasses.replace(store, made={**store.made, "conditions": two}), show=2)
    assert [one.indices for one in report.comparisons] == [(0, 1), (2, 3)]
    assert list(report.shown) == [0, 2]


def test_an_image_is_real_material_too(make_store, make_real, real_crops, material):
    report = make_report(make_store(real_crops(2)), make_real(material[10]))
    assert report.real_shown.shape == (1, 32, 32)
    assert {one.real for one in report.comparisons[0].figures if one.quantity is Quantity.PERCOLATION} == {None}


def test_a_store_without_volumes_is_refused(make_store, material):
    store = make_store([material])
    store.remove_document("records", 0)
    with pytest.raises(DataError, match="no complete volume"):
        make_report(store)


def test_without_any_reference_there_is_nothing_to_judge_by(make_store, material):
    with pytest.raises(DataError, match="--reference"):
        make_report(make_store([material], references={}))


def test_grey_levels_are_refused(make_store, material):
    with pytest.raises(UsageError, match="grey levels"):
        make_report(make_store([material], phases=(), references={}))
