"""Phases by name: which values of a file belong to which, and the labels that come of it."""

import re

import numpy as np
import pytest

from mdiff_core import DataError, UsageError
from mdiff_images import Phases, group_phases, parse_phases

VALUES = np.array([[0, 1, 2], [2, 5, 0]], dtype=np.uint8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pore=0,solid=1", [("pore", (0,)), ("solid", (1,))]),
        ("rest=0+2,active=1", [("rest", (0, 2)), ("active", (1,))]),
        ("c=7,a=3+1+2,b=-1+0", [("c", (7,)), ("a", (3, 1, 2)), ("b", (-1, 0))]),
        (" active material = 1 , rest=0+2 ", [("active material", (1,)), ("rest", (0, 2))]),
    ],
)
def test_phases_keep_the_order_in_which_they_are_named(text: str, expected: list[tuple[str, tuple[int, ...]]]):
    assert list(parse_phases(text).items()) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *(
            (text, "is not NAME=VALUE or NAME=VALUE+VALUE")
            for text in ("", "a", "=0,b=1", "a=,b=1", "a=0,,b=1", "a=0,")
        ),
        *((f"a=0,b={value}", f"'b={value}' is not") for value in ("x", "1.5", "1+", "+1", "1++2", "1 2", "1=2", "--1")),
        ("a=0,a=1", "'a=1' is not NAME=VALUE or NAME=VALUE+VALUE with a name of its own"),
        ("a=0", "name two to 255 phases"),
        ("a=0,b=0", "each value once"),
        ("a=0+0,b=1", "each value once"),
        (",".join(f"p{i}={i}" for i in range(256)), "name two to 255 phases"),
    ],
)
def test_phases_of_another_form_are_usage_errors(text: str, message: str):
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        parse_phases(text)
    assert str(caught.value).startswith(f"phases {text!r}: ")


@pytest.mark.parametrize(
    ("phases", "expected"),
    [
        ({"a": (0,), "b": (1,), "c": (2,), "d": (5,)}, [[0, 1, 2], [2, 3, 0]]),
        ({"rest": (0, 2), "active": (1, 5)}, [[0, 1, 0], [0, 1, 0]]),
        ({"binder": (5,), "pore": (2, 1), "active": (0,)}, [[2, 1, 1], [1, 0, 2]]),
        ({"rest": (0, 1, 2, 9), "active": (5, 7)}, [[0, 0, 0], [0, 1, 0]]),
    ],
    ids=["one value each", "two phases", "an order of its own", "values that do not occur"],
)
def test_labels_count_the_phases_in_their_order(phases: Phases, expected: list[list[int]]):
    labels = group_phases(VALUES, phases)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, expected)


def test_a_volume_keeps_its_shape():
    values = np.random.default_rng(0).choice([0, 3, 200], (4, 5, 6)).astype(np.uint8)
    labels = group_phases(values, {"b": (200,), "a": (3,), "c": (0,)})
    np.testing.assert_array_equal(labels, np.select([values == 200, values == 3], [0, 1], 2))


@pytest.mark.parametrize(
    ("array", "phases"),
    [
        (VALUES.astype(np.float32), {"rest": (0, 1, 2), "active": (5,)}),
        (VALUES.astype(np.int32) - 5, {"rest": (-5, -4, -3), "active": (0,)}),
        (VALUES.astype(np.uint16) * 10_000, {"rest": (0, 10_000, 20_000), "active": (50_000,)}),
        (VALUES == 5, {"rest": (0,), "active": (1,)}),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_labels_may_be_stored_as_any_kind_of_number(array: np.ndarray, phases: Phases):
    np.testing.assert_array_equal(group_phases(array, phases), VALUES == 5)


def test_as_many_phases_as_a_label_can_count():
    phases = parse_phases(",".join(f"p{i}={1000 + i}" for i in range(255)))
    np.testing.assert_array_equal(group_phases(np.arange(1000, 1255), phases), np.arange(255))


def test_a_phase_that_is_absent_is_named_with_the_values_there_are():
    with pytest.raises(DataError, match=r"^rock\.tif: nothing of phase 'gold'; its values are 0, 1, 2, 5$"):
        group_phases(VALUES, {"rock": (0, 1, 2, 5), "gold": (3, 300)}, "rock.tif")


@pytest.mark.parametrize(("value", "shown"), [(7, "7"), (-1, "-1"), (0.5, "0.5"), (np.nan, "nan")])
def test_a_value_of_no_phase_is_named_with_the_values_there_are(value: float, shown: str):
    array = np.array([[0, 1], [1, value]])
    with pytest.raises(DataError, match=rf"^rock\.tif: value {shown} belongs to no phase; its values are [-\w., ]+$"):
        group_phases(array, {"a": (0,), "b": (1,)}, "rock.tif")


def test_many_values_are_not_all_listed():
    with pytest.raises(DataError, match=r"value 2 belongs to no phase; its values are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 …$"):
        group_phases(np.arange(200).reshape(10, 20), {"a": (0,), "b": (1,)})
