"""The model card says what is known, and takes metrics only whole."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from mdiff_core import DataError
from mdiff_export.card import model_card, read_metrics
from mdiff_export.parity import Parity
from mdiff_training.checkpoint import Checkpoint

PARITY = Parity(2.5e-06, "float32", (1, 2, 3, 64), (0, 999))
METRICS: dict[str, Any] = {
    "model": "balls16",
    "plan": "three planes, 20 steps",
    "volumes": 25,
    "evaluations": 60,
    "phases": {
        "ball": {
            "samples": 25,
            "fraction": 0.2954,
            "fraction_reference": 0.3021,
            "specific_surface": 0.0567,
            "specific_surface_reference": 0.0534,
            "s2_error_percent": 4.12,
            "s2_error_interval_percent": [3.0, 5.0],
            "lineal_path_error_percent": 8.84,
        }
    },
    "floor": {},
    "along": {},
    "asked_for": "nothing in particular",
}


def card_of(checkpoint: Checkpoint, **more: Any) -> str:
    return model_card(
        checkpoint.contract, parameters=12345, step=checkpoint.step, losses=checkpoint.losses, parity=PARITY, **more
    )


def written(metrics: Any, folder: Path) -> Path:
    path = folder / "metrics.json"
    path.write_text(metrics if isinstance(metrics, str) else json.dumps(metrics))
    return path


def test_the_card_tells_provenance_network_parity_and_training_data(plain: Checkpoint):
    card = card_of(plain)
    for fact in (
        "# balls16\n",
        "(matrix and ball), 16×16 pixels. For a noisy image `x` and a step `t` the network gives the noise `eps`;",
        "Data and attribution: drawn by hand",
        "Licence: CC0-1.0",
        "Git revision of mdiff: abc123",
        "mdiff-train fit balls.npy balls.safetensors",
        "12,345 parameters, 1,200 training steps",
        "linear, 1000 steps, β from 0.0001 to 0.02",
        "at most 2.5e-06 (float32, batches of 1, 2, 3, 64, t of 0, 999)",
        "| phase | label | grey level | fraction | specific surface |\n",
        "| matrix | 0 | 0 |  |  |",
        "| ball | 1 | 255 | 0.3021 | 0.0534 |",
    ):
        assert fact in card
    for absent in ("Generated volumes", "label`", "fractions", "anisotropic", "along"):
        assert absent not in card


def test_the_card_names_conditions_variance_and_pixel_size(conditional: Checkpoint):
    card = card_of(conditional)
    for fact in (
        "(pore, active and binder), 16×24 pixels at 0.4 micrometer a pixel",
        "For a noisy image `x`, a step `t`, a `label` (across, along; 2 for none) and "
        "phase `fractions` (active, binder; -1 for not told) the network gives",
        "anisotropic: the label of a slice is that of its plane (xy: across, xz: along, yz: along).",
        "the noise `eps` and the variance interpolation `v`",
        "Noise schedule: cosine, 400 steps\n",
    ):
        assert fact in card


def test_the_card_tells_the_range_of_fractions_told_and_the_surface_along_each_axis(conditional: Checkpoint):
    card = card_of(conditional)
    for line in (
        "| phase | label | grey level | fraction | specific surface | along z | along x | fractions told |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| pore | 0 | 0 |  |  |  |  |  |",
        "| active | 1 | 128 | 0.4500 | 0.0500 | 0.0800 | 0.0350 | 0.3-0.6 |",
        "| binder | 2 | 255 | 0.1000 | 0.0400 |  |  | 0-0.25 |",
    ):
        assert f"\n{line}\n" in card


@pytest.mark.parametrize(
    ("changes", "takes"),
    [
        ({"classes": ("a", "b")}, "`x`, a step `t` and a `label` (a, b) the"),
        ({"fractions": ((0.2, 0.6),)}, "`x`, a step `t` and phase `fractions` (ball; -1 for not told) the"),
    ],
    ids=["classes", "fractions"],
)
def test_the_card_names_one_condition_alone(plain: Checkpoint, changes: dict[str, Any], takes: str):
    contract = dataclasses.replace(plain.contract, **changes)
    assert takes in card_of(dataclasses.replace(plain, contract=contract))


def test_planes_that_are_the_classes_are_named_once(plain: Checkpoint):
    planes = {"xy": 0, "xz": 1, "yz": 2}
    contract = dataclasses.replace(plain.contract, classes=tuple(planes), planes=planes)
    assert "is that of its plane (xy, xz, yz)." in card_of(dataclasses.replace(plain, contract=contract))


def test_grey_levels_have_a_row_without_a_label(plain: Checkpoint):
    contract = dataclasses.replace(plain.contract, phases=(), references={})
    card = card_of(dataclasses.replace(plain, contract=contract))
    assert "through a material (grey levels)" in card
    assert "| grey |  |  |  |  |" in card


def test_the_hash_of_the_weights_is_the_contract_s(plain: Checkpoint):
    provenance = dataclasses.replace(plain.contract.provenance, weights_sha256="c0ffee")
    contract = dataclasses.replace(plain.contract, provenance=provenance)
    assert "sha256 of the weights: `c0ffee`" in card_of(dataclasses.replace(plain, contract=contract))


def test_the_loss_is_the_mean_of_the_last_thousand_steps(plain: Checkpoint):
    assert plain.losses[-10:] == (0.02, 0.04) * 5
    assert "Training loss: 0.0300, mean of the last 1000 steps" in card_of(plain)
    assert "Training loss: not recorded" in card_of(dataclasses.replace(plain, losses=()))


def test_metrics_become_a_table(plain: Checkpoint, tmp_path: Path):
    card = card_of(plain, metrics=read_metrics(written(METRICS, tmp_path), plain.contract))
    assert "25 volumes of 60 evaluations each, plan `three planes, 20 steps`" in card
    assert "| ball | 0.295 | 0.302 | 0.0567 | 0.0534 | 4.1 | 8.8 |" in card


def test_metrics_of_several_phases_are_a_row_each(conditional: Checkpoint, tmp_path: Path):
    entries = {
        name: METRICS["phases"]["ball"] | {"fraction": fraction, "s2_error_percent": error}
        for name, fraction, error in (("active", 0.47, 1.04), ("binder", 0.1234, 12.3), ("pore", 0.4, 0.0))
    }
    along = {"z": {"active": entries["active"] | {"s2_error_percent": 7.7}}}
    metrics = METRICS | {"model": "layers16", "phases": entries, "along": along, "asked_for": "active 0.47"}
    card = card_of(conditional, metrics=read_metrics(written(metrics, tmp_path), conditional.contract))
    table = card[card.index("## Generated volumes") :].strip().splitlines()[-4:]
    assert [row.split(" | ")[:2] for row in table] == [
        ["| active", "0.470"],
        ["| binder", "0.123"],
        ["| pore", "0.400"],
        ["| active along z", "0.470"],
    ]
    assert [row.split(" | ")[5] for row in table] == ["1.0", "12.3", "0.0", "7.7"]
    assert "asked for active 0.47, against" in card


def changed(path: str, value: Any) -> dict[str, Any]:
    """The metrics with the field at a dotted path set, or taken out where the value is None."""
    metrics = copy.deepcopy(METRICS)
    *parents, last = path.split(".")
    entry = metrics
    for parent in parents:
        entry = entry[parent]
    if value is None:
        del entry[last]
    else:
        entry[last] = value
    return metrics


@pytest.mark.parametrize(
    ("metrics", "complaint"),
    [
        ("{", "cannot be read as JSON"),
        ([METRICS], "it has no model"),
        (changed("model", None), "it has no model"),
        (changed("model", "spheres64"), "metrics of model 'spheres64'"),
        (changed("plan", "two\nlines"), "plan is not a line of text"),
        (changed("volumes", 2.5), "volumes is not a positive integer"),
        (changed("evaluations", True), "evaluations is not a positive integer"),
        (changed("phases", {}), "phases is not an object with entries"),
        (changed("phases.ball", 3), "it has no fraction"),
        (changed("phases.ball.s2_error_percent", None), "it has no s2_error_percent"),
        (changed("phases.ball.s2_error_percent", "4.1"), "s2_error_percent is not a finite number"),
        (changed("phases.ball.specific_surface", float("nan")), "specific_surface is not a finite number"),
        (changed("phases.ball.fraction", -0.1), "fraction is not a finite number of at least 0"),
        (changed("phases.binder", METRICS["phases"]["ball"]), "metrics of binder, no phase of model balls16"),
    ],
)
def test_malformed_metrics_are_refused(metrics: Any, complaint: str, plain: Checkpoint, tmp_path: Path):
    with pytest.raises(DataError, match=complaint):
        read_metrics(written(metrics, tmp_path), plain.contract)


def test_absent_metrics_are_refused(plain: Checkpoint, tmp_path: Path):
    with pytest.raises(DataError, match="cannot be read"):
        read_metrics(tmp_path / "absent.json", plain.contract)
