"""What all measures of an effective property have in common."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Protocol

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.uint8]
Values = dict[str, float | None]
_STDOUT = 1


class Measure(Protocol):
    """One effective property of a volume.

    Attributes:
        title: what it is, for people.
        asked: by name, what was asked for, as the constants of the phases.
        keys: names of the values that it gives.
        headline: those whose scatter and convergence are worth a picture.
    """

    @property
    def title(self) -> str: ...  # noqa: D102 - above

    @property
    def asked(self) -> Mapping[str, float]: ...  # noqa: D102

    @property
    def keys(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def headline(self) -> tuple[str, ...]: ...  # noqa: D102

    def __call__(self, labels: Labels, periodic: str) -> Values:
        """Values by key, of a volume [Z, Y, X] whose opposite faces match along the axes in ``periodic``.

        None is a value that is infinite, or that the solver did not find.
        """
        ...


@contextmanager
def quiet() -> Iterator[None]:
    """What solvers print would come between our own lines, or into our JSON; some print past Python."""
    sys.stdout.flush()
    kept = os.dup(_STDOUT)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - no file
        os.dup2(nowhere.fileno(), _STDOUT)
        try:
            with redirect_stdout(nowhere):
                yield
        finally:
            os.dup2(kept, _STDOUT)
            os.close(kept)
