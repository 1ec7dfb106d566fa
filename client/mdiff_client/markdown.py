"""Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns are aligned; the first row is the head."""
    ruled = [rows[0], ["-" * len(column) for column in rows[0]], *rows[1:]]
    widths = [max(len(cell) for cell in column) for column in zip(*ruled, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in ruled]
    return "\n".join(f"| {line} |" for line in lines)
