"""Pages of the site that lie elsewhere in the repository, and links of all pages to what lies there."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
ELSEWHERE = {
    "README.md": "overview.md",
    "deploy/kubernetes/README.md": "deploy/kubernetes.md",
    "deploy/slurm/README.md": "deploy/slurm.md",
    "docker/README.md": "deploy/docker.md",
}
"""Pages from outside docs/, by their path in the repository, and where they stand in the site."""

NEEDS = {
    "deploy/kubernetes.md": "a Kubernetes cluster",
    "deploy/slurm.md": "a SLURM cluster",
    "deploy/docker.md": "a container engine, and where it says `--gpus` a GPU",
}

_SITE_TO_REPOSITORY = {site: path for path, site in ELSEWHERE.items()}
_ROLE = re.compile(r":(?:class|data|func|meth|mod):(?=<code>)")
_ITEM = re.compile(r"(?:-|\d\.) +(?=\S)")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s:#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside docs/."""
    for path, site in ELSEWHERE.items():
        files.append(File.generated(config, site, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that hold in the repository into ones that hold in the site, and say what their commands need.

    What is no page or picture of the site, such as a script, keeps its words and loses its link: the site is complete
    without the repository.
    """
    site = page.file.src_uri
    here = posixpath.dirname(_SITE_TO_REPOSITORY.get(site, f"docs/{site}"))

    def link(found: re.Match[str]) -> str:
        picture, words, target, anchor = found.groups()
        path = posixpath.normpath(posixpath.join(here, target))
        if not (ROOT / path).exists():
            return found[0]  # no link of the repository; mkdocs complains where it is one of nothing
        uri = ELSEWHERE.get(path) or ELSEWHERE.get(f"{path}/README.md") or path.removeprefix("docs/")
        if files.get_file_from_path(uri) is None:
            return words
        return f"{picture}[{words}]({posixpath.relpath(uri, posixpath.dirname(site) or '.')}{anchor or ''})"

    title, _, rest = _LINK.sub(link, "\n".join(_indented(markdown))).partition("\n")
    note = f'\n!!! note "The commands of this page need {NEEDS[site]}"\n' if site in NEEDS else ""
    return f"{title}\n{note}{rest}"


def _indented(markdown: str) -> Iterator[str]:
    """What belongs to an item of a list, four columns in; for GitHub it is enough to be below the item's text."""
    fenced, width = False, 0
    for line in markdown.splitlines():
        fenced ^= line.startswith("```")
        if item := _ITEM.match(line):
            width = len(item[0])
        elif line and not line.startswith(" " * width):
            width = 0
        inside = width and not fenced and line.startswith(" " * width)
        yield " " * (4 - width) + line if inside else line


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Take the roles of Sphinx from docstrings, which say nothing here."""
    return _ROLE.sub("", content)
