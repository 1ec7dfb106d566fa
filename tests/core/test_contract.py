"""The model contract: it survives the journey, and no contradiction gets in."""

import dataclasses
import json
from typing import Any

import pytest

from mdiff_core import (
    CONTRACT_VERSION,
    ContractError,
    Descriptors,
    ModelContract,
    NoiseSchedule,
    Phase,
    Provenance,
    ScheduleSpec,
    UsageError,
)

PLAIN: dict[str, Any] = {
    "name": "spheres64",
    "image_size": (64, 48),
    "channels": 1,
    "phases": (Phase("matrix", 0), Phase("sphere", 255)),
    "schedule": ScheduleSpec("linear", 1000),
    "prediction": "epsilon",
    "provenance": Provenance("synthetic", "Apache-2.0", "mdiff-train fit …", "abc123"),
}
CONDITIONAL: dict[str, Any] = PLAIN | {
    "channels": 3,
    "phases": (Phase("pore", 0), Phase("active", 128), Phase("binder", 255)),
    "schedule": ScheduleSpec("cosine", 4000),
    "prediction": "epsilon+variance",
    "references": {"active": Descriptors(0.5, 0.05, (0.5, 0.4, 0.3), (0.5, 0.35, 0.1))},
    "classes": ("across", "along"),
    "null_class": 2,
    "planes": {"xy": 0, "xz": 1, "yz": 1},
    "voxel_size": 0.4,
    "voxel_unit": "micrometer",
    "io_dtype": "float16",
}


@pytest.mark.parametrize("fields", [PLAIN, CONDITIONAL], ids=["plain", "conditional"])
def test_round_trip(fields: dict[str, Any]):
    contract = ModelContract(**fields)
    text = contract.to_json()
    assert "\n" not in text
    assert json.loads(text)["version"] == CONTRACT_VERSION
    assert ModelContract.from_json(text) == contract


def test_grey_level_images_have_no_phases_and_may_have_a_reference():
    grey = {"phases": (), "references": {"grey": Descriptors(0.5, 0.1, (0.5,), (0.5,))}}
    contract = ModelContract(**PLAIN | grey)
    assert ModelContract.from_json(contract.to_json()) == contract


def test_schedule_is_built_from_its_specification():
    assert ScheduleSpec("linear", 10, 1e-3, 1e-2).build() == NoiseSchedule.linear(10, 1e-3, 1e-2)
    assert ScheduleSpec("cosine", 10).build() == NoiseSchedule.cosine(10)


def test_a_phase_is_known_by_its_place():
    contract = ModelContract(**CONDITIONAL)
    assert [contract.phase_label(name) for name in ("pore", "active", "binder")] == [0, 1, 2]
    with pytest.raises(UsageError, match="spheres64 has no phase 'air': it has pore, active, binder"):
        contract.phase_label("air")
    with pytest.raises(UsageError, match="grey levels only"):
        ModelContract(**PLAIN | {"phases": ()}).phase_label("pore")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        *(({"name": name}, "model name") for name in ("", "../balls", "a/b", ".hidden", "two words", "-option")),
        ({"image_size": (64,)}, r"not \(H, W\)"),
        ({"image_size": (64, 0)}, r"not \(H, W\)"),
        ({"channels": 2}, "2 phases need 1 channels, not 2"),
        ({"phases": (Phase("a", 0), Phase("b", 1), Phase("c", 2))}, "3 phases need 3 channels, not 1"),
        ({"phases": (Phase("a", 0),)}, "one phase alone"),
        ({"phases": (Phase("a", 0), Phase("a", 1))}, "names must differ"),
        ({"phases": (), "channels": 0}, "channels, not 0"),
        ({"prediction": "x0"}, "prediction 'x0' is unknown"),
        ({"null_class": 1}, "null class 1 is not in 0-0"),
        ({"classes": ("a", "b"), "null_class": 3}, "null class 3 is not in 0-2"),
        ({"classes": ("a", "b"), "null_class": -1}, "null class -1"),
        ({"planes": {"xy": 0}}, "plane xy: label 0 is not one of the 0 classes"),
        ({"classes": ("a",), "planes": {"xy": 1}}, "plane xy: label 1 is not one of the 1 classes"),
        ({"classes": ("a",), "planes": {"xy": -1}}, "plane xy: label -1"),
        ({"classes": ("a",), "planes": {"zx": 0}}, "plane 'zx' is unknown: use xy, xz, yz"),
        ({"voxel_size": 0.0}, "not a positive length"),
        ({"voxel_size": float("nan")}, "not a positive length"),
        ({"voxel_size": float("inf")}, "not a positive length"),
        ({"io_dtype": "bfloat16"}, "neither float32 nor float16"),
        ({"references": {"air": Descriptors(0.5, 0.1, (0.5,), (0.5,))}}, r"unknown phases \['air'\]"),
    ],
)
def test_contradictory_fields_are_refused(fields: dict[str, Any], message: str):
    with pytest.raises(ContractError, match=message):
        ModelContract(**PLAIN | fields)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Phase("", 0), "a phase needs a name"),
        (lambda: Phase("pore", 256), "grey level 256 is not in 0-255"),
        (lambda: Phase("pore", -1), "grey level -1"),
        (lambda: ScheduleSpec("sigmoid", 10), "'sigmoid' is unknown: use linear or cosine"),
        (lambda: ScheduleSpec("linear", 0), "at least one step"),
        (lambda: ScheduleSpec("linear", 10, 0.0, 0.1), "0 < first <= last < 1"),
        (lambda: ScheduleSpec("linear", 10, 0.2, 0.1), "0 < first <= last < 1"),
        (lambda: ScheduleSpec("linear", 10, 0.1, 1.0), "0 < first <= last < 1"),
    ],
)
def test_contradictory_parts_are_refused(build, message: str):
    with pytest.raises(ContractError, match=message):
        build()


def _with(**fields: Any) -> str:
    return json.dumps(json.loads(ModelContract(**CONDITIONAL).to_json()) | fields)


def _without(field: str) -> str:
    return json.dumps({k: v for k, v in json.loads(ModelContract(**CONDITIONAL).to_json()).items() if k != field})


@pytest.mark.parametrize("version", [CONTRACT_VERSION + 1, str(CONTRACT_VERSION), None])
def test_an_unknown_version_names_both_versions(version: Any):
    with pytest.raises(ContractError, match=f"version {version!r} is unknown .* reads version {CONTRACT_VERSION}"):
        ModelContract.from_json(_with(version=version))


def test_a_contract_without_version_is_refused():
    with pytest.raises(ContractError, match="version None"):
        ModelContract.from_json(_without("version"))


@pytest.mark.parametrize("text", ["", "{", "contract", "\x00"])
def test_text_that_is_not_json_is_refused(text: str):
    with pytest.raises(ContractError, match="not valid JSON"):
        ModelContract.from_json(text)


@pytest.mark.parametrize("text", ["[]", "1", "null", '"text"'])
def test_json_that_is_no_object_is_refused(text: str):
    with pytest.raises(ContractError, match="not a JSON object"):
        ModelContract.from_json(text)


@pytest.mark.parametrize(
    "field", sorted({f.name for f in dataclasses.fields(ModelContract)} - {"name", "voxel_unit", "null_class"})
)
def test_a_field_that_is_null_is_refused(field: str):
    with pytest.raises(ContractError):
        ModelContract.from_json(_with(**{field: None}))


@pytest.mark.parametrize(
    "field",
    [f.name for f in dataclasses.fields(ModelContract) if f.default is f.default_factory is dataclasses.MISSING],
)
def test_a_missing_field_is_refused(field: str):
    with pytest.raises(ContractError, match="malformed"):
        ModelContract.from_json(_without(field))


@pytest.mark.parametrize(
    "fields",
    [
        {"colour": "red"},
        {"image_size": [64]},
        {"phases": [{"name": "pore"}]},
        {"phases": [{"name": "pore", "grey": "dark"}]},
        {"schedule": {"kind": "linear", "timesteps": "many"}},
        {"planes": ["xy"]},
        {"planes": {"xy": "across"}},
        {"references": {"active": {"s2": [1, 0]}}},
        {"provenance": {"data": "x"}},
    ],
)
def test_malformed_fields_are_refused(fields: dict[str, Any]):
    with pytest.raises(ContractError, match="malformed"):
        ModelContract.from_json(_with(**fields))
