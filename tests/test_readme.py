"""Every command and every piece of Python in the README runs, in the order in which it stands there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")

# An hour of training is not a test; two steps use every part of it.
SHORTENED = {"mdiff-train fit": ["--set", "training.steps=2"]}


def commands(block):
    """The mdiff commands of a shell block; the lines that make an environment end with the one they are for."""
    for line in block.splitlines():
        command = shlex.split(line.rpartition("&& ")[2].removeprefix(".venv/bin/"), comments=True)
        if command and command[0].startswith("mdiff-"):
            yield command + SHORTENED.get(" ".join(command[:2]), [])


def test_the_readme_runs(tmp_path, installed_triton, blocks):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    servers, ran = [], []
    try:
        for language, block in blocks(PAGES[0]):
            for command in [[sys.executable, "-c", block]] if language == "python" else commands(block):
                if command == ["mdiff-serve"]:
                    server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
                    servers.append(server)
                    assert server.stdout.readline().startswith("ready:")
                else:
                    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=600)
                ran.append(command[0])
    finally:
        for server in servers:
            server.terminate()
            server.communicate(timeout=60)
    assert {"mdiff-client", "mdiff-serve", "mdiff-train", "mdiff-export", sys.executable} == set(ran)
    assert (tmp_path / "rve.png").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_exit_codes_are_those_of_the_errors():
    from mdiff_core import errors

    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    raised = {
        kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and kind is not errors.MdiffError
    }
    assert documented == raised | {0, 130, 143}


def test_the_ci_script_runs_the_readmes_test_command():
    printed = subprocess.run(
        ["sh", "-c", 'sed -n "/^python3 -m venv.*\\.\\[test\\]/p" README.md'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed.strip().endswith(".venv/bin/pytest")
    assert printed.count("\n") == 1
    assert 'sed -n "/^python3 -m venv.*\\.\\[test\\]/p" README.md' in (ROOT / ".ci" / "run").read_text()
