"""Which model denoises which plane."""

import dataclasses
from contextlib import contextmanager

import pytest

from mdiff_client.denoisers import Denoiser
from mdiff_client.plane_models import open_models
from mdiff_core import Phase, UsageError


@pytest.fixture
def place(make_pixels):
    """A place of some models, which notes those that are ``open`` and all that ever were ``opened``."""

    class Models:
        def __init__(self):
            self.open, self.opened = [], []
            pixels = make_pixels().contract
            self.contracts = {
                "pixels": pixels,
                "turned": dataclasses.replace(pixels, classes=("light", "dark")),
                "aniso": dataclasses.replace(pixels, null_class=None, planes={"xy": 0, "xz": 1, "yz": 1}),
                "plain": dataclasses.replace(pixels, classes=(), null_class=None),
                "large": make_pixels(n=16).contract,
                "learned": make_pixels(learned=True).contract,
                "grey": dataclasses.replace(pixels, phases=()),
                "rock": dataclasses.replace(pixels, phases=(Phase("rock", 0), Phase("pore", 255))),
            }

        @contextmanager
        def denoiser(self, model):
            denoiser: Denoiser = make_pixels()
            denoiser.contract = dataclasses.replace(self.contracts[model], name=model)
            self.open.append(model)
            self.opened.append(model)
            try:
                yield denoiser
            finally:
                self.open.remove(model)

    return Models()


def served(planes):
    return [(plane.denoiser.contract.name, plane.label) for plane in planes]


def test_one_model_serves_all_planes(place):
    with open_models(place, "plain", []) as models:
        assert served(models.planes) == [("plain", None)] * 3
        assert models.contract.name == "plain"


def test_planes_have_models_and_classes_and_the_rest_is_the_main_models(place):
    with open_models(place, "aniso", ["xz=pixels:light", "yz=plain"]) as models:
        assert served(models.planes) == [("aniso", 0), ("pixels", 1), ("plain", None)]
        assert models.contract.name == "aniso"


def test_without_a_main_model_the_first_named_one_is_it(place):
    with open_models(place, None, ["yz=plain", "xy=pixels"]) as models:
        assert served(models.planes) == [("pixels", None), ("plain", None), ("plain", None)]
        assert models.contract.name == "plain"


def test_a_plane_without_a_class_of_its_own_takes_the_models_for_it(place):
    with open_models(place, "pixels", ["xz=aniso"]) as models:
        assert models.planes[1].label == 1


def test_a_model_is_opened_once_and_all_are_closed(place):
    with open_models(place, "pixels", ["xy=pixels:dark", "xz=plain", "yz=plain"]) as models:
        assert place.open == place.opened == ["pixels", "plain"]
        assert len({id(plane.denoiser) for plane in models.planes}) == 2
    assert place.open == []
    with pytest.raises(UsageError), open_models(place, "pixels", ["xy=large"]):
        pass
    assert place.open == []


def test_a_class_that_is_asked_for_is_that_of_every_plane_without_one(place):
    with open_models(place, "pixels", ["xy=turned", "xz=turned:light"]) as models:
        planes, condition = models.asked("dark", [], 1.0)
    assert served(planes) == [("turned", 1), ("turned", 0), ("pixels", 0)]
    assert condition.label == 0
    with open_models(place, "pixels", ["xy=aniso", "xz=turned:light"]) as models:
        assert served(models.asked("light", [], 1.0)[0]) == [("aniso", 0), ("turned", 0), ("pixels", 1)]


def test_a_model_whose_planes_all_have_a_class_needs_no_other_and_takes_none(place):
    named = [f"{plane}=aniso:dark" for plane in ("xy", "xz", "yz")]
    for planes in ([], named):
        with open_models(place, "aniso", planes) as models:
            assert models.asked(None, [], 1.0)[1].label is None
            with pytest.raises(UsageError, match="takes no other"):
                models.asked("dark", [], 1.0)


def test_every_model_must_give_what_is_asked_for(place):
    with open_models(place, "pixels", ["xy=plain"]) as models, pytest.raises(UsageError, match="plain has no classes"):
        models.asked("dark", [], 1.0)


@pytest.mark.parametrize(
    ("planes", "complaint"),
    [
        (["xy=large"], "pixels and large cannot make one volume: they differ in image size"),
        (["xy=learned"], "differ in prediction, epsilon and epsilon.variance"),
        (["xy=rock"], r"differ in phases, \['matrix', 'sphere'\] and \['rock', 'pore'\]"),
        (["xy=grey"], "differ in phases"),
        (["zz=plain"], "'zz=plain': name each of xy, xz, yz once"),
        (["xy"], "as xy=MODEL or xy=MODEL:CLASS"),
        (["xy=plain", "xy=pixels"], "'xy=pixels': name each"),
        (["xy=pixels:grey"], "has no class 'grey'; its classes: dark, light"),
        (["xy=plain:grey"], "has no class 'grey'; its classes: none"),
    ],
)
def test_what_makes_no_volume_is_refused(place, planes, complaint):
    with pytest.raises(UsageError, match=complaint), open_models(place, "pixels", planes):
        pass
