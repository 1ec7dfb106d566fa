"""The log of a training run: a CSV file, and TensorBoard where it is asked for."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mdiff_core import DataError, UsageError

COLUMNS = ("step", "loss", "images_per_s", "learning_rate", "gradient_norm", "seconds")
"""Of every row: steps done; mean of the loss since the last whole window; images trained on each second since the last
row; learning rate; mean norm of the gradient before clipping; seconds of training, earlier runs included."""


class Journal:
    """Rows are appended as training goes on, each with the step it was written after.

    A run that is resumed at ``step`` drops the rows past it, which a run that was cut off had written, and goes on.

    Attributes:
        seconds: of the last row, 0 at the beginning.

    Raises:
        DataError: ``path`` is not such a log, or one of the two cannot be written.
        UsageError: TensorBoard is asked for and not installed.
    """

    def __init__(self, path: Path | None, tensorboard: Path | None, more: Sequence[str] = (), *, step: int = 0) -> None:
        self._path = path
        self._columns = [*COLUMNS, *more]
        self._board = _tensorboard(tensorboard, step) if tensorboard else None
        rows = _rows(path, step) if path and step and path.exists() else []
        self.seconds = float(rows[-1]["seconds"]) if rows else 0.0
        if path:
            # A log that is cut back is there whole at every moment.
            begun = path.with_name(f"{path.name}.partial")
            self._write(begun, "w", rows)
            begun.replace(path)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append a row; a column that has no value stays empty.

        Raises:
            DataError: it cannot be written.
        """
        self.seconds = values["seconds"]
        if self._path:
            self._write(self._path, "a", [{"step": step, **{name: f"{value:.6g}" for name, value in values.items()}}])
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()

    def close(self) -> None:
        """Leave TensorBoard."""
        if self._board:
            self._board.close()

    def _write(self, path: Path, mode: str, rows: Sequence[Mapping[str, object]]) -> None:
        try:
            with path.open(mode, newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, self._columns, restval="", extrasaction="ignore", lineterminator="\n")
                if mode == "w":
                    writer.writeheader()
                writer.writerows(rows)
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error


def _rows(path: Path, step: int) -> list[dict[str, str]]:
    """The rows up to ``step``."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
            [float(row["seconds"]) for row in rows]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a log of mdiff-train, or damaged: choose another with --log") from error
    return rows


def _tensorboard(folder: Path, step: int) -> Any:  # noqa: ANN401 (a type of a package that may be missing)
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError("--tensorboard needs the package tensorboard: install it, or leave the option out") from error
    try:
        return SummaryWriter(str(folder), purge_step=step + 1)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error})") from error
