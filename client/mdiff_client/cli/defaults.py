"""Defaults of the options, from a TOML file: ``url = "triton:8001"`` for every command, ``[generate3d]`` for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.core import TyperGroup, TyperOption

from mdiff_client.toml_files import load
from mdiff_core.errors import UsageError

USUAL = Path("~/.config/mdiff/client.toml")


def defaults(group: TyperGroup, path: Path | None) -> dict[str, Any]:
    """What a context takes as its default map: the file's values, by command and parameter.

    A key outside a table is for every command that has such an option; in the table of a command it is for that one.

    Args:
        group: the command line.
        path: the file; None: the usual one, where it is there.

    Raises:
        DataError: the file cannot be read.
        UsageError: it is not TOML, or names a command or an option that there is not.
    """
    path, named = path or USUAL.expanduser(), path is not None
    if not named and not path.is_file():
        return {}
    table = load(path)
    used: set[str] = set()
    found = _of_group(group, table, {}, used, path)
    unknown = sorted(set(table) - used)
    if unknown:
        raise UsageError(f"{path}: {unknown[0]} is neither a command nor an option of one")
    return found


def _of_group(
    group: TyperGroup, table: dict[str, Any], shared: dict[str, Any], used: set[str], path: Path
) -> dict[str, Any]:
    shared = {**shared, **{key: value for key, value in table.items() if not isinstance(value, dict)}}
    strange = sorted(key for key, value in table.items() if isinstance(value, dict) and key not in group.commands)
    if strange:
        raise UsageError(f"{path}: [{strange[0]}] is no command of mdiff-client")
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        own = table.get(name, {})
        if name in table:
            used.add(name)
        if isinstance(command, TyperGroup):
            found[name] = _of_group(command, own, shared, used, path)
            continue
        options = {
            option.removeprefix("--").replace("-", "_"): parameter.name
            for parameter in command.params
            if isinstance(parameter, TyperOption)
            for option in parameter.opts
        }
        unknown = sorted(key for key in own if key.replace("-", "_") not in options)
        if unknown:
            raise UsageError(f"{path}: [{name}] has {unknown[0]}, which is no option of mdiff-client {name}")
        given = {key.replace("-", "_"): value for key, value in {**shared, **own}.items()}
        used.update(key for key in shared if key.replace("-", "_") in options)
        found[name] = {options[key]: value for key, value in given.items() if key in options}
    return found
