"""Text for people, at a terminal with drawn tables and colours."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

GOOD, FAIR, BAD = "green", "yellow", "red"


def tell(text: str, colours: Mapping[str, str] | None = None) -> None:
    """Print text for people; where one is reading, its Markdown tables are drawn and fit the width.

    Away from a terminal, at a dumb one, and with ``NO_COLOR``, the text is printed as it is.

    Args:
        text: lines.
        colours: of what matches a regular expression; ``^`` and ``$`` are the ends of a line.
    """
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    if plain or not sys.stdout.isatty():
        typer.echo(text)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for drawn, lines in groupby(text.splitlines(), lambda line: line.startswith("| ")):
        if drawn:
            console.print(_table(lines))
            continue
        words = Text("\n".join(lines))
        for pattern, colour in (colours or {}).items():
            words.highlight_regex(re.compile(pattern, re.MULTILINE), colour)
        console.print(words, soft_wrap=True)


def _table(lines: Iterable[str]) -> Table:
    """A Markdown table, drawn."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    head, _, *rows = ([Text(cell.strip()) for cell in line.split("|")[1:-1]] for line in lines)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, header_style="bold")
    for cell in head:
        table.add_column(cell, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
