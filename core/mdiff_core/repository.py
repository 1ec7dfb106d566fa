"""The model repository on disk: the folder layout that Triton serves and the embedded engine reads."""

from __future__ import annotations

from pathlib import Path

from mdiff_core.errors import DataError, UsageError


def bundled_repository() -> Path:
    """The repository that comes with mdiff, in an installed package as in a checkout.

    Raises:
        DataError: the installation has lost it.
    """
    installed = Path(__file__).parents[1] / "mdiff_serving" / "model_repository"
    checkout = Path(__file__).parents[2] / "serving" / "model_repository"
    for place in (installed, checkout):
        if place.is_dir():
            return place
    raise DataError("the bundled model repository is missing: install mdiff again, or name a repository")


def model_names(repository: Path) -> list[str]:
    """Names of the models in a repository, sorted.

    Raises:
        DataError: no such folder, or no model in it.
    """
    if not repository.is_dir():
        raise DataError(f"{repository}: no such model repository")
    names = sorted(entry.parent.name for entry in repository.glob("*/config.pbtxt"))
    if not names:
        raise DataError(f"{repository}: holds no model (a folder with a config.pbtxt)")
    return names


def versions(model: Path) -> list[Path]:
    """Folders of a model's versions, the newest first; none where there is no such model."""
    return sorted((entry for entry in model.glob("*") if entry.name.isdigit()), key=lambda e: int(e.name), reverse=True)


def onnx_file(repository: Path, name: str) -> Path:
    """The ONNX file of the latest version of a model: ``<repository>/<name>/<version>/model.onnx``.

    Raises:
        UsageError: no such model.
        DataError: the repository or the file is missing.
    """
    names = model_names(repository)
    if name not in names:
        raise UsageError(f"{repository} has no model {name!r}: it has {', '.join(names)}")
    for version in versions(repository / name):
        if (version / "model.onnx").is_file():
            return version / "model.onnx"
    raise DataError(f"{repository / name}: has no version with a model.onnx")
