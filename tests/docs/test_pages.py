"""Every command and every piece of Python in the pages of docs/ runs, in order, as a reader would type it.

What cannot run here is marked by a line such as ``*Needs a GPU:*`` before its block.
"""

import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from mdiff_client.denoisers.embedded import EmbeddedDenoiser
from mdiff_client.sampling import named_plan
from mdiff_client.store import VolumeStore

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# What a page may need that is not here. A block that needs something else runs, or this list says why it does not.
NEEDS = {
    "a GPU",
    "a Kubernetes cluster",
    "a container engine",
    "an empty environment and a package index",
    "Abaqus, or CalculiX",
    "FANS",
}
# Run by tests of their own, with a network of the size they need.
ELSEWHERE = {DOCS / "library.md": ROOT / "tests/client/test_library_page.py"}
PAGES = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if page not in ELSEWHERE and re.search(r"^```(sh|python)$", page.read_text(encoding="utf-8"), re.MULTILINE)
]

# Hours of training and minutes of sampling are no test; two steps of a small network use every part of them.
SMALL = ["base_channels=8", "multipliers=[1]", "attention=[false]", "head_channels=8", "norm_groups=4"]
SHORTER = {
    "mdiff-train fit": " ".join(
        ["--sample-every 0 --set training.steps=2 --set training.batch=2", *(f"--set model.{key}" for key in SMALL)]
    ),
    "mdiff-client generate2d": "--steps 2",
    "mdiff-client generate3d": "--steps 2",
}
SMALLER = {'plan = "draft"': 'plan = "quick.toml"'}


def test_what_a_block_needs_is_something_that_is_not_here():
    needs = {need for page in DOCS.rglob("*.md") for need in re.findall(r"^\*Needs (.+):\*$", page.read_text(), re.M)}
    assert needs <= NEEDS


@pytest.mark.parametrize(("page", "test"), ELSEWHERE.items(), ids=lambda path: path.name)
def test_a_page_that_is_left_out_runs_elsewhere(page, test):
    assert f'"{page.name}"' in test.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_page_runs(page, tmp_path, blocks, bring):
    runnable = [(language, block) for language, block in blocks(page) if language in ("sh", "python", "toml")]
    bring(page, tmp_path)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    servers = []
    try:
        for number, (language, block) in enumerate(runnable):
            if language == "toml":
                for large, small in SMALLER.items():
                    block = block.replace(large, small)
                (tmp_path / named_before(page, block)).write_text(block)
            elif block.startswith("mdiff-serve"):
                servers.append(serving(block, tmp_path, environment))
            else:
                script = tmp_path / f"block-{number}.{language}"
                script.write_text("\n".join(map(shortened, block.splitlines())))
                command = {"sh": ["bash", "-e"], "python": [sys.executable]}[language]
                subprocess.run([*command, script], cwd=tmp_path, env=environment, check=True, timeout=300)
    finally:
        for server in servers:
            server.terminate()
            server.communicate(timeout=60)


def shortened(line):
    """A line of a block, with the options that make it short; what is installed is what the tests have installed."""
    if line.startswith("pip install "):
        (extras,) = re.findall(r"\[(.+)\]", line)
        known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert set(extras.split(",")) <= known.keys()
        return ""
    command, _, comment = line.partition("  #")
    return f"{command} {SHORTER.get(' '.join(command.split()[:2]), '')}" + (f"  #{comment}" if comment else "")


def named_before(page, block):
    """The file that a block of TOML is the content of: what the last paragraph before it names."""
    before = page.read_text(encoding="utf-8").partition(block.splitlines()[0])[0]
    return re.findall(r"`([\w-]+\.toml)`:\n\n```toml\n$", before)[0]


def serving(block, folder, environment):
    """The server of a block that is for a terminal of its own, once it is ready."""
    server = subprocess.Popen(shlex.split(block), cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout.readline().startswith("ready:")
    return server


@pytest.fixture
def bring(request, repository):
    """``bring(page, folder)``: what the reader of a page brings along, small."""

    def store(path, model, count=1):
        """Volumes of 16³ voxels, phase 1 a lattice of beams along z, y and x."""
        contract = replace(EmbeddedDenoiser(repository, model).contract, image_size=(16, 16), references={})
        made = VolumeStore.create(path, contract, named_plan("draft"), 0, count, grey=False)
        for index in range(count):
            beams = np.indices((16, 16, 16)) % 8 < 3 + index % 2
            made.write(index, (beams.sum(axis=0) >= 2).astype(np.uint8), seed=index)

    def labelled(*shape):
        return np.random.default_rng(0).integers(0, 3, shape).astype(np.uint8)

    def write(page, folder):
        (folder / "quick.toml").write_text('plan = "draft"\nsteps = 2\n')
        match str(page.relative_to(DOCS)):
            case "formats.md":
                store(folder / "rve.zarr", "spheres64")
                store(folder / "library.zarr", "spheres64", count=2)
            case "properties.md":
                store(folder / "nmc.zarr", "nmc64", count=3)
                store(folder / "rve.zarr", "spheres64")
            case "tutorials/anisotropic.md":
                tifffile.imwrite(folder / "cathode.tif", labelled(72, 72, 72))
                for plane in ("xy", "xz", "yz"):
                    Image.fromarray(labelled(96, 96)).save(folder / f"{plane}.png")
            case "tutorials/checkpoint.md":
                theirs = runpy.run_path(str(ROOT / "tests/training/test_imported.py"))
                torch.save(
                    theirs["reference"](theirs["Shape"](multipliers=(1, 1, 1, 1), attention=(8,))).state_dict(),
                    folder / "model.pt",
                )
            case "serving.md":
                request.getfixturevalue("installed_triton")

    return write
