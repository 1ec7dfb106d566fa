"""Formulas as MathML, which browsers draw by themselves: no script, no fonts, nothing to fetch."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

# As pymdownx.arithmatex leaves them in its generic form.
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace the formulas of a page."""
    return _FORMULA.sub(lambda found: _mathml(html.unescape(found[2]), block=found[1] == "div"), content)


def _mathml(latex: str, *, block: bool) -> str:
    written: str = convert(latex, display="block" if block else "inline")
    return written
