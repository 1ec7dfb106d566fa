"""Sampling plans as a user gives them: by name, from a TOML file, and the options that change one."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from mdiff_client.sampling import SamplingPlan, changed, named_plan
from mdiff_client.sampling.plan import DEFAULT
from mdiff_client.toml_files import fields_of, load
from mdiff_core import DataError, UsageError
from mdiff_images import parse_shape


def read_plan(name_or_file: str, **changes: object) -> SamplingPlan:
    """The plan of that name, or of a file ``NAME.toml``, changed as :func:`mdiff_client.sampling.changed` does.

    A file holds fields of :class:`mdiff_client.sampling.SamplingPlan`, over those of the plan that its key ``plan``
    names, or else of the default one. What may be None in a plan is written as ``"none"``.

    Raises:
        UsageError: no such plan or field, or a value of the wrong type or out of range.
        DataError: the file cannot be read.
    """
    if not name_or_file.endswith(".toml"):
        return named_plan(name_or_file, **changes)
    path = Path(name_or_file)
    fields = load(path)
    if fields.get("periodic") == "none":
        fields["periodic"] = ""
    values = fields_of(path, "a plan", fields, {"plan": str, **get_type_hints(SamplingPlan)})
    base = named_plan(values.pop("plan", DEFAULT))
    absent = {name: None for name, value in values.items() if value is None}
    made = dataclasses.replace(changed(base, **values), **absent)  # type: ignore[arg-type]
    return changed(made, **changes)


def stored_plan(fields: Mapping[str, Any]) -> SamplingPlan:
    """The sampling plan that a store's metadata tells.

    Raises:
        DataError: it is not of a form that this version knows.
    """
    lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    try:
        return SamplingPlan(**{**fields, **lists})
    except TypeError as error:
        raise DataError("the store's sampling plan is of another version of mdiff") from error


def parse_size(text: str) -> tuple[int, int, int]:
    """``64x128x96``: voxels along z, y and x; ``96``: along each.

    Raises:
        UsageError: not of that form.
    """
    shape = parse_shape(text)
    if len(shape) == 1:
        shape *= 3
    if len(shape) != 3:
        raise UsageError(f"size {text!r}: give the voxels along z, y and x, as 64x128x96")
    return shape[0], shape[1], shape[2]


def parse_periodic(text: str) -> str:
    """Axes, or ``none``."""
    return "" if text == "none" else text


def parse_ratio(text: str) -> tuple[int, int, int]:
    """``2:1:1``: how often the planes xy, xz and yz are asked.

    Raises:
        UsageError: not of that form.
    """
    match = re.fullmatch(r"(\d+):(\d+):(\d+)", text)
    if match is None:
        raise UsageError(f"plane ratio {text!r}: give those of xy, xz and yz, as 2:1:1")
    return int(match[1]), int(match[2]), int(match[3])
