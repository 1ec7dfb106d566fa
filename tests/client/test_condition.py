"""What a user may ask for, and how the network is then asked."""

import dataclasses

import numpy as np
import pytest

from mdiff_client.sampling.condition import UNCONDITIONAL, Condition, predict
from mdiff_core import Phase, UsageError


@pytest.fixture
def contract(make_pixels):
    """Two phases, two classes and none, told a fraction from 0.2 to 0.6."""
    return make_pixels(fractions=((0.2, 0.6),)).contract


@pytest.fixture
def three_phases(contract):
    phases = (Phase("pore", 0), Phase("active", 128), Phase("binder", 255))
    return dataclasses.replace(contract, phases=phases, channels=3, fractions=((0.3, 0.7), (0.0, 0.2)))


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((5, 1, 8, 8), dtype=np.float32)


STEPS = np.array([0, 3, 50, 120, 199])


def test_a_class_is_asked_for_by_its_name(contract):
    assert Condition.asked(contract, "light", volume=False).label == 1
    assert Condition.asked(contract, volume=False) == UNCONDITIONAL


@pytest.mark.parametrize("asked", ["0.4", "sphere=0.4", "matrix=0.6"])
def test_a_fraction_is_that_of_the_second_phase_or_of_the_one_named(contract, asked):
    assert Condition.asked(contract, fractions=[asked], volume=False).fractions == pytest.approx((0.4,))


@pytest.mark.parametrize(
    "asked",
    [
        ["active=0.5", "binder=0.1"],
        ["binder=0.1", "pore=0.4"],
        ["pore=0.4", "active=0.5"],
        ["pore=0.4", "active=0.5", "binder=0.1"],
    ],
)
def test_of_many_phases_all_fractions_but_one_are_asked_for(three_phases, asked):
    assert Condition.asked(three_phases, fractions=asked, volume=False).fractions == pytest.approx((0.5, 0.1))


@pytest.mark.parametrize(
    ("change", "asked", "complaint"),
    [
        ({}, {"class_name": "grey"}, "no class 'grey': it has dark, light"),
        ({"classes": (), "null_class": None}, {"class_name": "dark"}, "has no classes"),
        ({"null_class": None}, {}, "needs a class: ask for dark, light"),
        ({}, {"fractions": ["0.7"]}, "from 0.2 to 0.6: 0.7 lies outside"),
        ({}, {"fractions": ["sphere=0.1"]}, "from 0.2 to 0.6: 0.1 lies outside"),
        ({}, {"fractions": ["0.4", "0.4"]}, "each once"),
        ({}, {"fractions": ["sphere=0.4", "matrix=0.5"]}, "add up to 1"),
        ({}, {"fractions": ["pore=0.4"]}, "no phase 'pore'"),
        ({}, {"fractions": ["half"]}, "not of the form"),
        ({}, {"fractions": ["nan"]}, "not of the form"),
        ({"fractions": ()}, {"fractions": ["0.4"]}, "not trained to be told phase fractions: mdiff-client info says"),
        ({"null_class": None}, {"class_name": "dark", "guidance": 2.0}, "leave guidance at 1"),
        ({}, {"guidance": 2.0}, "guidance needs something to guide to"),
        ({}, {"class_name": "dark", "guidance": -1.0}, "at least 0"),
        ({}, {"class_name": "dark", "guidance": float("nan")}, "at least 0"),
    ],
)
def test_what_the_model_cannot_give_is_refused(contract, change, asked, complaint):
    with pytest.raises(UsageError, match=complaint):
        Condition.asked(dataclasses.replace(contract, **change), **asked, volume=False)


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (["0.4"], "not of the form PHASE=0.4"),
        (["active=0.5"], "every phase of model pixels but one"),
        (["active=0.9", "binder=0.2"], "at least 0"),
        (["active=0.5", "pore=0.1"], "binder from 0 to 0.2: 0.4 lies outside"),
    ],
)
def test_fractions_of_many_phases_must_fit_together(three_phases, asked, complaint):
    with pytest.raises(UsageError, match=complaint):
        Condition.asked(three_phases, fractions=asked, volume=False)


def test_planes_have_their_classes_so_none_need_be_asked_for(contract):
    planes = dataclasses.replace(contract, null_class=None, planes={"xy": 0, "xz": 1, "yz": 1}, fractions=())
    assert Condition.asked(planes, volume=True) == UNCONDITIONAL
    with pytest.raises(UsageError, match="a class for each plane: a volume of it takes no other"):
        Condition.asked(planes, "light", volume=True)
    assert Condition.asked(planes, "light", volume=False).label == 1
    with pytest.raises(UsageError, match="needs a class: ask for dark, light"):
        Condition.asked(planes, volume=False)


def test_fractions_alone_can_be_guided(contract):
    unlabelled = dataclasses.replace(contract, classes=(), null_class=None)
    assert Condition.asked(unlabelled, fractions=["0.4"], guidance=2.0, volume=False).guided


def test_a_condition_tells_itself_in_one_line(contract):
    asked = Condition.asked(contract, "light", ["0.4"], 2.0, volume=False)
    assert asked.described(contract) == "class light, sphere 0.4, guidance 2"
    assert UNCONDITIONAL.described(contract) == ""


def test_without_guidance_the_network_is_asked_once(pixels, images):
    eps, _ = predict(pixels, Condition(label=1), images, STEPS)
    assert np.array_equal(eps, pixels.predict(images, STEPS, np.full(5, 1))[0])
    assert len(pixels.asked) == 2


def test_nothing_asked_for_is_the_null_class(pixels, images):
    predict(pixels, UNCONDITIONAL, images, STEPS)
    assert pixels.asked[0][0].tolist() == [2] * 5


def test_a_network_that_takes_no_condition_gets_none(gaussian):
    predict(gaussian, UNCONDITIONAL, np.zeros((2, 1, 32, 32), np.float32), np.array([0, 1]))
    assert gaussian.asked == [(None, None)]


def test_a_fraction_that_is_not_told_is_minus_one(make_pixels, images):
    denoiser = make_pixels(fractions=((0.2, 0.6),))
    predict(denoiser, UNCONDITIONAL, images, STEPS)
    predict(denoiser, Condition(fractions=(0.4,)), images, STEPS)
    told = [fractions for _, fractions in denoiser.asked]
    assert [of.dtype for of in told] == [np.float32] * 2
    assert np.array_equal(told, [np.full((5, 1), -1), np.full((5, 1), np.float32(0.4))])


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
def test_guidance_goes_on_from_the_unconditional_through_the_conditional(make_pixels, images, scale):
    """Ho & Salimans 2022, eq. 6: (1 + w) ε(c) - w ε(∅), with 1 + w = s; class and fraction are left out together."""
    denoiser = make_pixels(fractions=((0.2, 0.6),))
    eps, v = predict(denoiser, Condition(label=0, fractions=(0.4,), guidance=scale), images, STEPS)
    assert len(denoiser.asked) == 1
    conditional, _ = denoiser.predict(images, STEPS, np.full(5, 0), np.full((5, 1), 0.4))
    unconditional, _ = denoiser.predict(images, STEPS, np.full(5, 2), np.full((5, 1), -1.0))
    assert np.allclose(eps, scale * conditional + (1 - scale) * unconditional, atol=1e-5)
    assert eps.dtype == np.float32
    assert v is None


def test_under_guidance_the_variance_is_that_of_the_condition(make_pixels, images):
    _, v = predict(make_pixels(learned=True), Condition(label=1, guidance=3.0), images, STEPS)
    assert np.array_equal(v, np.full((5, 1, 8, 8), np.float32(0.7)))


def test_the_class_of_a_plane_comes_before_the_one_asked_for(pixels, images):
    predict(pixels, Condition(label=1, guidance=2.0), images, STEPS, label=0)
    assert pixels.asked[0][0].tolist() == [0] * 5 + [2] * 5


def test_a_network_without_a_null_class_needs_a_class(pixels, images):
    pixels.contract = dataclasses.replace(pixels.contract, null_class=None)
    with pytest.raises(UsageError, match="needs a class"):
        predict(pixels, UNCONDITIONAL, images, STEPS)
