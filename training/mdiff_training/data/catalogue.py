"""Classes of images from the catalogue of the Ultrahigh Carbon Steel Micrographs (UHCS, Hecht et al. 2017).

It is an SQLite file whose table ``micrograph`` has a row for each image: in ``path`` its file name, and in
``primary_microconstituent`` its class, which many have not, or one that is no microstructure, such as ``indent``. The
schema is ``uhcsdb/models.py`` of bdecost/uhcsdb.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from mdiff_core import DataError
from mdiff_training.data.folders import images_in


def catalogued_images(folder: Path, catalogue: Path, only: Sequence[str] = ()) -> dict[str, list[Path]]:
    """Images of each class in a folder, by class, ``only`` of some classes where any are named.

    Raises:
        DataError: a catalogue that cannot be read; an image of a class to take that is not in the folder; or, where
            all classes are taken, one in the folder that has no class.
    """
    class_of = _classes(catalogue)
    present = {image.name: image for image in images_in(folder)}
    unlabelled = [image for name, image in present.items() if not class_of.get(name)]
    if unlabelled and not only:
        raise DataError(
            f"{unlabelled[0]}: {catalogue.name} gives it no class: to leave such images out, name the --classes to take"
        )
    found: dict[str, list[Path]] = {}
    for name, class_ in class_of.items():
        if class_ and (class_ in only or not only):
            if name not in present:
                raise DataError(f"{folder / name}: no such file, but {catalogue.name} lists it as {class_}")
            found.setdefault(class_, []).append(present[name])
    return found


def _classes(catalogue: Path) -> dict[str, str | None]:
    """Class of each image by file name, in the order of the names."""
    try:
        with closing(sqlite3.connect(f"{catalogue.resolve().as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute(
                "SELECT path, primary_microconstituent FROM micrograph WHERE path IS NOT NULL ORDER BY path"
            ).fetchall()
    except sqlite3.Error as error:
        raise DataError(f"{catalogue}: cannot be read as a catalogue of micrographs ({error})") from error
    class_of: dict[str, str | None] = {}
    for path, class_ in rows:
        if class_of.setdefault(Path(path).name, class_) != class_:
            raise DataError(f"{catalogue}: lists {Path(path).name} both as {class_of[Path(path).name]} and as {class_}")
    return class_of
