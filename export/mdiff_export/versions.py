"""Versions of a model in a repository: added whole, beside those that a server may be running."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mdiff_core import DataError
from mdiff_core.repository import versions

_CONFIG = "config.pbtxt"


@dataclass(frozen=True)
class Draft:
    """A version in the making: ``folder`` takes ``config.pbtxt`` and ``README.md``, ``files`` what it holds itself."""

    folder: Path
    files: Path


@contextmanager
def new_version(repository: Path, name: str) -> Iterator[Draft]:
    """The next version of a model, which appears in the repository when the context ends well, and else leaves nothing.

    It grows beside the repository, where no server looks, and is renamed into it. Of a model that is there already only
    ``config.pbtxt`` and ``README.md`` are replaced: a server that runs it goes on with what it has loaded. The older
    ``config.pbtxt`` is kept in the folder of its version: to go back, put it in place and remove the newer version.

    Raises:
        DataError: the repository cannot be written, or another export has added the same version meanwhile.
    """
    repository = repository.resolve()
    if repository.exists() and not repository.is_dir():
        raise DataError(f"{repository} is a file, not a model repository: name a folder")
    target = repository / name
    try:
        with tempfile.TemporaryDirectory(prefix=f".{repository.name}-", dir=repository.parent) as scratch:
            folder = Path(scratch) / name
            draft = Draft(folder, folder / str(_latest(target) + 1))
            draft.files.mkdir(parents=True)
            yield draft
            repository.mkdir(exist_ok=True)
            if target.exists():
                _add(draft, target)
            else:
                folder.rename(target)
    except OSError as error:
        raise DataError(f"cannot write into the repository {repository} ({error})") from error


def _latest(model: Path) -> int:
    """Number of the newest version; 0: there is none."""
    return next((int(folder.name) for folder in versions(model)), 0)


def _add(draft: Draft, target: Path) -> None:
    added, config = target / draft.files.name, target / _CONFIG
    before = target / str(_latest(target)) / _CONFIG
    draft.files.rename(added)
    try:
        if config.is_file() and before.parent.is_dir():
            shutil.copyfile(config, before)
        # The configuration last: with it the version begins to be served.
        for file in sorted(draft.folder.iterdir(), key=lambda path: path.name == _CONFIG):
            file.replace(target / file.name)
    except BaseException:
        shutil.rmtree(added)
        raise
