"""The reference of the command line, from the commands themselves, in place of ``<!-- commands -->``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

PLACE = "<!-- commands -->"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write the reference where the page has the place for it."""
    if PLACE not in markdown:
        return markdown
    return markdown.replace(PLACE, "\n".join(line for name, app in programs().items() for line in reference(name, app)))


def programs() -> dict[str, typer.Typer]:
    """The programs, by the names they are installed under."""
    from mdiff_client.cli import app as client
    from mdiff_export.cli import app as export
    from mdiff_serving.cli import app as serve
    from mdiff_training.cli import app as train

    return {"mdiff-client": client, "mdiff-train": train, "mdiff-export": export, "mdiff-serve": serve}


def reference(name: str, app: typer.Typer) -> Iterator[str]:
    """Markdown lines about a program and all its commands."""
    yield from _described(typer.main.get_command(app), name, None)


def _described(command: Any, name: str, parent: Any) -> Iterator[str]:  # noqa: ANN401 (typer's own click, or click)
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    depth = 2 if parent is None else 3
    yield f"{'#' * depth} {context.command_path}\n"
    yield from (_plain(re.sub(r"\s*\n\s*", " ", part)) + "\n" for part in (command.help or "").split("\n\n"))
    children = getattr(command, "commands", {})
    if command.params or not children:
        yield f"    {' '.join([context.command_path, *command.collect_usage_pieces(context)])}\n"
        yield "| argument or option | |\n|---|---|"
        records = (parameter.get_help_record(context) for parameter in command.params)
        yield from (f"| `{record[0]}` | {_plain(record[1])} |" for record in records if record)
        yield ""
    for child, one in children.items():
        yield from _described(one, child, context)


def _plain(text: str) -> str:
    """Words that mean nothing to Markdown."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text)
