"""The site, built strictly and without a network, is whole when it is opened from a folder."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import typer

ROOT = Path(__file__).parents[2]


class References(HTMLParser):
    """What a page loads, and where it leads."""

    def __init__(self):
        super().__init__()
        self.loads, self.leads = [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if source := attributes.get("src") or (tag == "link" and attributes.get("href")):
            self.loads.append(source)
        if tag == "a" and attributes.get("href"):
            self.leads.append(attributes["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    nowhere = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | nowhere | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def references(site):
    def read(page):
        parser = References()
        parser.feed(page.read_text(encoding="utf-8"))
        return parser

    return {page: read(page) for page in site.rglob("*.html")}


def test_every_page_of_docs_is_there(site):
    pages = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in (ROOT / "docs").rglob("*.md")}
    assert pages | {Path(f"deploy/{name}.html") for name in ("docker", "kubernetes", "slurm")} <= {
        page.relative_to(site) for page in site.rglob("*.html")
    }


def test_no_page_loads_anything_from_elsewhere(references):
    assert [load for page in references.values() for load in page.loads if urlsplit(load).netloc] == []


def test_every_link_leads_to_a_file(references, site):
    # 404.html has the links of a site at the root of a server.
    astray = [
        (page.name, link)
        for page, found in references.items()
        if page.name != "404.html"
        for link in (*found.loads, *found.leads)
        if not urlsplit(link).scheme and not (page.parent / unquote(urlsplit(link).path)).exists()
    ]
    assert astray == []


def test_links_into_the_repository_become_links_of_the_site(references, site):
    assert "deploy/kubernetes.html" in references[site / "library.html"].leads
    assert "overview.html#errors" in references[site / "library.html"].leads
    assert not any("benchmarks" in link for link in references[site / "results.html"].leads)


@pytest.mark.parametrize("folder", ["kubernetes", "slurm"])
def test_a_list_of_steps_with_commands_between_is_one_list(site, folder):
    """GitHub and mkdocs count the indentation of what is between differently."""
    written = (ROOT / "deploy" / folder / "README.md").read_text(encoding="utf-8")
    page = (site / "deploy" / f"{folder}.html").read_text(encoding="utf-8")
    assert page.count("<ol>") == len(re.findall(r"^1\. ", written, re.MULTILINE)) > 0


def test_the_search_works_without_a_server(site, references):
    assert (site / "search" / "search_index.js").is_file()
    assert "assets/iframe-worker.js" in references[site / "index.html"].loads


def test_formulas_need_no_script(site):
    written = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    page = (site / "method.html").read_text(encoding="utf-8")
    assert page.count('display="block"') == written.count("$$") // 2 > 0
    assert "\\(" not in page
    assert "\\[" not in page


def programs():
    from mdiff_client.cli import app as client
    from mdiff_export.cli import app as export
    from mdiff_serving.cli import app as serve
    from mdiff_training.cli import app as train

    return {"mdiff-client": client, "mdiff-train": train, "mdiff-export": export, "mdiff-serve": serve}


def commands(command, name):
    if children := getattr(command, "commands", {}):
        for child, one in children.items():
            yield from commands(one, f"{name} {child}")
    else:
        yield name, command


COMMANDS = [pair for name, app in programs().items() for pair in commands(typer.main.get_command(app), name)]


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_the_reference_has_every_option(site, name, command):
    page = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    (section,) = re.findall(rf'<h[23] id="{name.replace(" ", "-")}">.*?(?=<h[23] |$)', page, re.DOTALL)
    missing = [
        option
        for parameter in command.params
        if not parameter.hidden
        for option in (*parameter.opts, *parameter.secondary_opts)
        if not re.search(rf"<code>[^<]*(?<![\w-]){re.escape(option)}(?![\w-])", section)
    ]
    assert missing == []


def test_the_page_of_errors_has_their_exit_codes():
    from mdiff_core import errors

    page = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    documented = {name: int(code) for code, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", page, re.MULTILINE)}
    raised = {name: kind.exit_code for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert documented == {name: code for name, code in raised.items() if name != "MdiffError"}
