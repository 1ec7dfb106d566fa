"""TOML files whose keys are the fields of a dataclass."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from mdiff_core import DataError, UsageError


def load(path: Path) -> dict[str, Any]:
    """The file's table.

    Raises:
        DataError: it cannot be read.
        UsageError: it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UsageError(f"{path}: not valid TOML ({error})") from error


def fields_of(path: str | Path, what: str, table: object, hints: Mapping[str, Any]) -> dict[str, Any]:
    """A table's values as the types that ``hints`` name; ``what`` it describes, for the message.

    What may be None is written as ``"none"``.

    Raises:
        UsageError: no table, a key that is none of ``hints``, or a value of another type.
    """
    if not isinstance(table, dict):
        raise UsageError(f"{path}: {what} = {table!r}: give a table of {', '.join(hints)}")
    unknown = sorted(set(table) - set(hints))
    if unknown:
        raise UsageError(f"{path}: {what} has no {', '.join(unknown)}: it has {', '.join(hints)}")
    return {name: field(path, name, value, hints[name]) for name, value in table.items()}


def field(path: str | Path, name: str, value: object, kind: object) -> Any:  # noqa: ANN401 - of the type ``kind``
    """One value as the type ``kind``.

    Raises:
        UsageError: it is of another.
    """
    try:
        return _read(value, kind)
    except TypeError as error:
        raise UsageError(f"{path}: {name} = {value!r}: give {_named(kind)}") from error


def _read(value: object, kind: object) -> object:
    """A TOML value as the type ``kind``; TypeError where it is none."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        if value == "none" and str not in arguments:
            return None
        return _read(value, next(of for of in arguments if of is not NoneType))
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list):
        of_each = arguments[:1] * len(value) if arguments[1:] == (Ellipsis,) else arguments
        if len(value) == len(of_each):
            return tuple(_read(item, of) for item, of in zip(value, of_each, strict=True))
    if origin is Mapping and isinstance(value, dict):
        return {name: _read(item, arguments[1]) for name, item in value.items()}
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
        inside = f"{_named(arguments[0])}, …" if arguments[1:] == (Ellipsis,) else ", ".join(map(_named, arguments))
        return f"[{inside}]"
    if origin is Mapping:
        return f"a table of {_named(arguments[1])}"
    names: dict[object, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names[kind]
