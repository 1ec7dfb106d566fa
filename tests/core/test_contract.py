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
    "fractions": ((0.3, 0.55), (0.0, 0.25)),
    "references_along": {
        "z": {"active": Descriptors(0.5, 0.1, (0.5, 0.3), (0.5, 0.1))},
        "x": {"active": Descriptors(0.5, 0.0, (0.5, 0.5), (0.5, 0.5)), "pore": Descriptors(0.3, 0.2, (0.3,), (0.3,))},
    },
    "references_told": (
        {"active": Descriptors(0.3, 0.1, (0.3, 0.2), (0.3, 0.1))},
        {"active": Descriptors(0.5, 0.1, (0.5, 0.4), (0.5, 0.3))},
    ),
    "voxel_size": 0.4,
    "voxel_unit": "micrometer",
    "io_dtype": "float16",
}

NEW = ("fractions", "references_along", "references_told")


@pytest.mark.parametrize("fields", [PLAIN, CONDITIONAL], ids=["plain", "conditional"])
def test_round_trip(fields: dict[str, Any]):
    contract = ModelContract(**fields)
    text = contract.to_json()
    assert "\n" not in text
    assert json.loads(text)["version"] == CONTRACT_VERSION
    assert ModelContract.from_json(text) == contract


def test_a_contract_from_before_fractions_and_axes_still_reads():
    old = {k: v for k, v in json.loads(ModelContract(**CONDITIONAL).to_json()).items() if k not in NEW}
    assert old["version"] == CONTRACT_VERSION
    expected = ModelContract(**{k: v for k, v in CONDITIONAL.items() if k not in NEW})
    assert ModelContract.from_json(json.dumps(old)) == expected
    assert (expected.fractions, expected.references_along, expected.references_told) == ((), {}, ())


def two_phases(fraction: float, value: float) -> dict[str, Descriptors]:
    return {
        name: Descriptors(of, value, (of, value), (of, value / 2))
        for name, of in (("matrix", 1 - fraction), ("sphere", fraction))
    }


@pytest.mark.parametrize(
    ("asked", "value"), [(0.2, 0.1), (0.35, 0.25), (0.4, 0.3), (0.5, 0.35), (0.1, 0.1), (0.7, 0.4)]
)
def test_references_of_two_phases_are_interpolated_between_those_told(asked: float, value: float):
    """From .1 at fraction .2 through .3 at .4 to .4 at .6, and the outermost beyond."""
    told = (two_phases(0.2, 0.1), two_phases(0.4, 0.3), two_phases(0.6, 0.4))
    contract = ModelContract(**PLAIN, fractions=((0.1, 0.7),), references=told[1], references_told=told)
    for name, of in contract.references_at([asked]).items():
        assert of.fraction == pytest.approx(asked if name == "sphere" else 1 - asked)
        assert (of.specific_surface, of.s2[1], of.lineal_path[1]) == pytest.approx((value, value, value / 2))
    assert contract.references_at([]) == told[1]


def test_references_of_more_phases_are_those_of_the_nearest_material():
    def material(pore: float, active: float, binder: float) -> dict[str, Descriptors]:
        of = {"pore": pore, "active": active, "binder": binder}
        return {name: Descriptors(fraction, 0.1, (fraction, active), (fraction, 0.0)) for name, fraction in of.items()}

    told = (material(0.6, 0.3, 0.1), material(0.4, 0.4, 0.2))
    contract = ModelContract(**CONDITIONAL | {"references": told[0], "references_told": told})
    asked = contract.references_at([0.42, 0.15])
    assert {name: of.s2[1] for name, of in asked.items()} == dict.fromkeys(("pore", "active", "binder"), 0.4)
    assert [of.fraction for of in asked.values()] == pytest.approx([0.43, 0.42, 0.15])


def test_without_references_of_its_own_a_fraction_has_those_of_the_model():
    contract = ModelContract(**PLAIN, fractions=((0.1, 0.7),), references=two_phases(0.4, 0.3))
    asked = contract.references_at([0.2])["sphere"]
    assert (asked.fraction, asked.s2[1]) == pytest.approx((0.2, 0.3))


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


CLASSES: dict[str, Any] = {"classes": ("a", "b")}
TOLD: dict[str, Any] = {"fractions": ((0.2, 0.6),)}


@pytest.mark.parametrize(
    ("fields", "labels", "guidable"),
    [
        ({}, 0, False),
        (CLASSES, 2, False),
        (CLASSES | {"null_class": 2}, 3, True),
        (TOLD, 0, True),
        (CLASSES | TOLD, 2, False),
        (CLASSES | TOLD | {"null_class": 2}, 3, True),
    ],
    ids=["plain", "classes", "null class", "fractions", "fractions of classes", "fractions and null class"],
)
def test_labels_and_guidance_follow_from_the_conditions(fields: dict[str, Any], labels: int, guidable: bool):
    """Guidance needs a prediction without the condition: a null class, or fractions not told where no class is."""
    contract = ModelContract(**PLAIN | fields)
    assert (contract.labels, contract.guidable) == (labels, guidable)


def test_a_volume_is_a_cube_of_square_images():
    assert ModelContract(**PLAIN | {"image_size": (48, 48)}).cube == (48, 48, 48)
    with pytest.raises(UsageError, match="spheres64 has images of 64×48: a volume needs square ones"):
        _ = ModelContract(**PLAIN).cube


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
        ({"null_class": 0}, "null class 0 is not the label that follows those of the 0 classes"),
        *(
            (CLASSES | {"null_class": null}, f"null class {null} is not the label that follows those of the 2 classes")
            for null in (-1, 0, 1, 3)
        ),
        ({"classes": ("a", "b", "a")}, "class names must differ"),
        ({"planes": {"xy": 0}}, "plane xy: label 0 is not one of the 0 classes"),
        ({"classes": ("a",), "planes": {"xy": 1}}, "plane xy: label 1 is not one of the 1 classes"),
        ({"classes": ("a",), "planes": {"xy": -1}}, "plane xy: label -1"),
        (CLASSES | {"null_class": 2, "planes": {"yz": 2}}, "plane yz: label 2 is not one of the 2 classes"),
        ({"classes": ("a",), "planes": {"zx": 0}}, "plane 'zx' is unknown: use xy, xz, yz"),
        ({"fractions": ((0.1, 0.2), (0.3, 0.4))}, "2 ranges of fractions for 2 phases: each but the first needs one"),
        ({"phases": (), "fractions": ((0.1, 0.2),)}, "1 ranges of fractions for 0 phases"),
        *(
            ({"fractions": ((low, high),)}, f"range of fractions {low}-{high} does not lie within 0-1")
            for low, high in ((-0.1, 0.5), (0.5, 1.1), (0.6, 0.5), (0.5, float("nan")))
        ),
        ({"voxel_size": 0.0}, "not a positive length"),
        ({"voxel_size": float("nan")}, "not a positive length"),
        ({"voxel_size": float("inf")}, "not a positive length"),
        ({"io_dtype": "bfloat16"}, "neither float32 nor float16"),
        ({"references": {"air": Descriptors(0.5, 0.1, (0.5,), (0.5,))}}, r"unknown phases \['air'\]"),
        (
            {"references_along": {"z": {"air": Descriptors(0.5, 0.1, (0.5,), (0.5,))}}},
            r"unknown phases \['air'\]",
        ),
        ({"references_along": {"xy": {}}}, r"along unknown axes \['xy'\]: use z, y, x"),
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
        {"fractions": 2},
        {"fractions": [0.1, 0.2]},
        {"fractions": [[0.1], [0.2]]},
        {"fractions": [["low", "high"], [0, 1]]},
        {"references_told": ["active"]},
        {"references_along": ["z"]},
        {"references_along": {"z": ["active"]}},
        {"references_along": {"z": {"active": {"s2": [1, 0]}}}},
    ],
)
def test_malformed_fields_are_refused(fields: dict[str, Any]):
    with pytest.raises(ContractError, match="malformed"):
        ModelContract.from_json(_with(**fields))
