"""Sampling plans as a user gives them: by name, from a TOML file, and the options that change one."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, get_args, get_origin, get_type_hints

from mdiff_client.sampling import SamplingPlan, changed, named_plan
from mdiff_client.sampling.plan import DEFAULT
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
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UsageError(f"{path}: not valid TOML ({error})") from error
    hints = get_type_hints(SamplingPlan)
    base = named_plan(str(_field(path, "plan", fields.pop("plan", DEFAULT), str)))
    unknown = sorted(set(fields) - set(hints))
    if unknown:
        raise UsageError(f"{path}: a plan has no {', '.join(unknown)}: it has plan, {', '.join(hints)}")
    if fields.get("periodic") == "none":
        fields["periodic"] = ""
    values = {name: _field(path, name, value, hints[name]) for name, value in fields.items()}
    absent = {name: None for name, value in values.items() if value is None}
    made = dataclasses.replace(changed(base, **values), **absent)  # type: ignore[arg-type]
    return changed(made, **changes)


def parse_size(text: str) -> tuple[int, int, int]:
    """``64x128x96``: voxels along z, y and x.

    Raises:
        UsageError: not of that form.
    """
    shape = parse_shape(text)
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


def _field(path: Path, name: str, value: object, kind: object) -> object:
    try:
        return _read(value, kind)
    except TypeError as error:
        raise UsageError(f"{path}: {name} = {value!r}: give {_named(kind)}") from error


def _read(value: object, kind: object) -> object:
    """A TOML value as the type ``kind``; TypeError where it is none."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        if value == "none":
            return None
        return _read(value, next(of for of in arguments if of is not NoneType))
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list) and len(value) == len(arguments):
        return tuple(_read(item, of) for item, of in zip(value, arguments, strict=True))
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is kind:
        return value
    raise TypeError


def _named(kind: object) -> str:
    """A type in a user's words."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return f'{_named(next(of for of in arguments if of is not NoneType))}, or "none"'
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        return f"[{', '.join(map(_named, arguments))}]"
    names: dict[object, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names[kind]
