"""What the command line does with log records: lines for people, or a JSON object a line.

A record's message is the event; its figures come as ``extra={"figures": {…}}``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import typer

from mdiff_core import MdiffError

_logger = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """``{"time": …, "level": …, "event": …}`` and the figures; the time as ISO 8601, UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        figures = getattr(record, "figures", {})
        return json.dumps(
            {"time": time, "level": record.levelname.lower(), "event": record.getMessage(), **figures}, default=str
        )


def warn_on_stderr() -> None:
    """Warnings go to stderr, a line each."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, force=True)


@contextmanager
def events_on_stderr(*, json: bool) -> Iterator[None]:
    """With ``json``, what a run tells on its way goes to stderr as JSON lines, also what ends it: an error, Ctrl-C."""
    if not json:
        try:
            yield
        except KeyboardInterrupt as error:  # of which typer would say nothing
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from error
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("mdiff_client").setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    except MdiffError as error:
        _logger.error("run failed", extra={"figures": {"error": str(error), "exit_code": error.exit_code}})
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        _logger.error("run interrupted")
        raise typer.Exit(130) from error
