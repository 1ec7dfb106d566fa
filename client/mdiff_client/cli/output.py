"""How the commands tell what they found, and what those of sampling tell: costs, events, how near the samples are."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping
from itertools import groupby
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from mdiff_client.denoisers.timed import Latency
    from mdiff_client.evaluation import Evaluation
    from mdiff_client.sampling import Condition
    from mdiff_core import ModelContract

GOOD, FAIR, BAD = "green", "yellow", "red"
_logger = logging.getLogger(__name__)


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


def started(out: str | Path, model: str, **counts: int) -> float:
    """Log that a run begins; the value is when."""
    _logger.info("run started", extra={"figures": {"out": str(out), "model": model, **counts}})
    return time.perf_counter()


def finished(began: float, latency: Latency | None) -> float:
    """Log that the run that began then is done; the value is how many seconds it took."""
    from mdiff_client.report import latency_json

    seconds = time.perf_counter() - began
    _logger.info("run finished", extra={"figures": {"seconds": seconds, **latency_json(latency)}})
    return seconds


def print_costs(costs: Mapping[str, int | str], json: bool, latency: Latency | None = None) -> None:
    """What a run costs, or has cost."""
    from mdiff_client.report import costs_text, latency_json, latency_text

    if json:
        typer.echo(dumps({**costs, **latency_json(latency)}))
    else:
        tell("\n".join([costs_text(costs), *([latency_text(latency)] if latency else [])]))


def report(
    contract: ModelContract,
    condition: Condition,
    evaluation: Evaluation,
    json: bool,
    latency: Latency | None = None,
) -> None:
    """How near volumes of one condition are to their material."""
    from mdiff_client.report import evaluation_json, evaluation_text

    asked_for = condition.described(contract)
    if json:
        typer.echo(evaluation_json(evaluation, condition, asked_for, latency))
    else:
        tell(evaluation_text(evaluation, asked_for, latency))
