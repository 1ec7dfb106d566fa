"""Every command and every piece of Python in the pages of docs/ runs, in order, as a reader would type it.

What cannot run here is marked by a line such as ``*Needs a GPU:*`` before its block.
"""

import os
import re
import runpy
import shlex
import shutil
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
from mdiff_core import reference_descriptors

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

# Hours of training and minutes of sampling are no test; two steps of a small network use every part of them. Its export
# is compared with the trained one by the largest batch, which takes time by the pixel.
SMALL = [
    *("training.image_size=[16,16]", "training.steps=2", "training.batch=2"),
    *("model.base_channels=8", "model.multipliers=[1]", "model.attention=[false]"),
    *("model.head_channels=8", "model.norm_groups=4"),
]
SHORTER = {
    "mdiff-train spheres": "--width 96",
    "mdiff-train fit": " ".join(["--sample-every 0", *(f"--set {key}" for key in SMALL)]),
    "mdiff-train import": "--image-size 16",
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
    """The server of a block that is for a terminal of its own, once it is ready: when all its models have warmed up."""
    command = [*shlex.split(block), "--repository", "models"]
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout.readline().startswith("ready:")
    return server


@pytest.fixture
def bring(request, repository):
    """``bring(page, folder)``: what the reader of a page brings along, small."""

    def store(path, model, count=1):
        """Volumes of 16³ voxels of :func:`beams`, compared with larger ones."""
        contract = EmbeddedDenoiser(repository, model).contract
        names = [phase.name for phase in contract.phases]
        references = reference_descriptors(beams(48, 3), names, (16, 16))
        contract = replace(contract, image_size=(16, 16), references=references)
        made = VolumeStore.create(path, contract, named_plan("draft"), 0, count, grey=False)
        for index in range(count):
            made.write(index, beams(16, 3 + index % 2), seed=index, evaluations=14)

    def beams(edge, width):
        """Phase 1 a lattice of beams along z, y and x, in each cell of 8³ voxels."""
        return ((np.indices((edge, edge, edge)) % 8 < width).sum(axis=0) >= 2).astype(np.uint8)

    def labelled(*shape):
        return np.random.default_rng(0).integers(0, 3, shape).astype(np.uint8)

    def write(page, folder):
        (folder / "quick.toml").write_text('plan = "draft"\nsteps = 2\n')
        match str(page.relative_to(DOCS)):
            case "evaluation.md":
                store(folder / "rve.zarr", "spheres64", count=2)
                store(folder / "draft.zarr", "spheres64")
                np.save(folder / "real.npy", 255 * beams(48, 4))
                for name, width in (("block", 4), ("theirs", 3), ("other", 5)):
                    np.save(folder / f"{name}.npy", beams(40, width))
            case "formats.md":
                store(folder / "rve.zarr", "spheres64")
                store(folder / "library.zarr", "spheres64", count=2)
            case "properties.md":
                store(folder / "nmc.zarr", "nmc64", count=3)
                store(folder / "rve.zarr", "spheres64")
            case "tutorials/anisotropic.md":
                tifffile.imwrite(folder / "cathode.tif", labelled(24, 24, 24))
                for plane in ("xy", "xz", "yz"):
                    Image.fromarray(labelled(32, 32)).save(folder / f"{plane}.png")
            case "tutorials/checkpoint.md":
                theirs = runpy.run_path(str(ROOT / "tests/training/test_imported.py"))
                torch.save(
                    theirs["reference"](theirs["Shape"](multipliers=(1, 1), attention=())).state_dict(),
                    folder / "model.pt",
                )
            case "serving.md":
                request.getfixturevalue("installed_triton")
                shutil.copytree(repository / "spheres64", folder / "models" / "spheres64")

    return write
