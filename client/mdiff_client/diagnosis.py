"""What sampling needs, and whether it is there."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from mdiff_client.denoisers.place import Place
from mdiff_core import MdiffError
from mdiff_core.extras import install

_PACKAGES = ("numpy", "onnxruntime", "tritonclient", "zarr", "scipy")
_EXTRAS = ("s3", "parquet", "xarray", "formats", "properties", "elasticity", "evaluation", "fid")
_GIB = 2**30
_ROOM = 1  # GiB; below that a library of some thousand volumes does not fit


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: was looked at.
        verdict: ``ok``; ``note`` where sampling goes without; ``wrong`` where it does not.
        found: what is there.
        hint: what to do about it; empty where there is nothing.
    """

    what: str
    verdict: Literal["ok", "note", "wrong"]
    found: str
    hint: str = ""


def diagnose(place: Place) -> list[Finding]:
    """Everything that sampling from ``place`` needs, in the order in which it is needed."""
    return [*_packages(), *_extras(), *_models(place), *_engine(place), *_disk()]


def _packages() -> Iterator[Finding]:
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    yield Finding("mdiff", "ok", f"{version('mdiff')}, Python {platform.python_version()}, {versions}")
    both = [name for name in ("onnxruntime", "onnxruntime-gpu") if _installed(name)]
    if len(both) == 2:
        yield Finding(
            "onnxruntime",
            "note",
            "onnxruntime and onnxruntime-gpu are both installed, and overwrite each other's files",
            "pip uninstall onnxruntime, then install onnxruntime-gpu again",
        )


def _extras() -> Iterator[Finding]:
    """The extras of the client that are not installed."""
    missing = [extra for extra in _EXTRAS if not all(map(_installed, _packages_of(extra)))]
    if missing:
        names = ",".join(missing)
        yield Finding("extras", "note", f"not installed: {names}", install(names))


def _packages_of(extra: str) -> Iterator[str]:
    for requirement in requires("mdiff") or ():
        name, _, marker = requirement.partition(";")
        if re.search(rf"extra == .{extra}\W", marker):
            yield re.split(r"[^\w.-]", name)[0]


def _models(place: Place) -> Iterator[Finding]:
    where = place.connection.url if place.connection else "this machine"
    try:
        names = [contract.name for contract in place.contracts()]
    except MdiffError as error:
        yield Finding("models", "wrong", str(error))
        return
    if names:
        yield Finding("models", "ok", f"{', '.join(names)} on {where}")
    else:
        yield Finding("models", "wrong", f"none of mdiff's on {where}", "export one: mdiff-export repository")


def _engine(place: Place) -> Iterator[Finding]:
    """What computes here, where it is here that it does."""
    if place.connection:
        return
    import onnxruntime

    offered = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpus = sorted(Path("/proc/driver/nvidia/gpus").glob("*"))
    if gpus and "CUDA" not in offered:
        yield Finding(
            "engine",
            "note",
            f"{', '.join(offered)} on {cores} cores, although {len(gpus)} NVIDIA GPUs are here",
            "README, Installing: the extra gpu",
        )
    else:
        yield Finding(
            "engine", "ok", f"onnxruntime offers {', '.join(offered)}; {cores} cores, {len(gpus)} NVIDIA GPUs"
        )


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(".").free / _GIB
    yield Finding("disk", "ok" if free > _ROOM else "note", f"{free:.1f} GiB free in this folder")


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
