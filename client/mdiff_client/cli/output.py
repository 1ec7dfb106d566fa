"""What the commands of sampling tell: costs, events, how near the samples are."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mdiff_client.cli.terminal import tell

if TYPE_CHECKING:
    from mdiff_client.denoisers.timed import Latency
    from mdiff_client.evaluation import Evaluation
    from mdiff_client.sampling import Condition
    from mdiff_core import ModelContract

_logger = logging.getLogger(__name__)


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
