"""Files that a command is about to write."""

from __future__ import annotations

from pathlib import Path

from mdiff_core.errors import DataError, UsageError


def check_new(path: Path, instead: str = "choose another name, or remove it first") -> None:
    """Refuse an output path that is taken, before any work goes into it; the message ends with what to do ``instead``.

    Raises:
        UsageError: something is there already.
        DataError: the folder may not be looked into.
    """
    try:
        taken = path.exists()
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
    if taken:
        raise UsageError(f"{path} exists: {instead}")


def check_writable(path: Path) -> None:
    """Refuse an output file that could not be written, before any work goes into it.

    Raises:
        DataError: nothing can be written beside it.
    """
    probe = path.with_name(f"{path.name}.partial")
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
