"""Every block of code in docs/library.md runs, in order, with a small untrained network of the name it has there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mdiff_client import open_library

PAGE = Path(__file__).parents[2] / "docs" / "library.md"

# A library of a hundredth the size, whose network has learned nothing.
SMALLER = {
    'size = "64x64x64"': 'size = "16x16x16"',
    'seeds = "0-99"': 'seeds = "0"',
    "s2 = 20": "s2 = 1000",
    "lineal_path = 30": "lineal_path = 1000",
}


@pytest.fixture
def bucket(monkeypatch, s3):
    """Address of an S3 server that has the bucket ``rves``."""
    s3, variables = s3
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    s3.create_bucket(Bucket="rves")
    return variables["AWS_ENDPOINT_URL"]


def test_the_page_runs(tmp_path, blocks, untrained_repository, bucket):
    repository = untrained_repository("spheres64-fractions")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONWARNINGS": "error"}
    ran = []
    for language, block in blocks(PAGE):
        if language == "toml":
            for large, small in SMALLER.items():
                assert large in block
                block = block.replace(large, small)
            (tmp_path / "library.toml").write_text(block)
            continue
        block = block.replace("https://s3.example.com", bucket)
        block = re.sub(r"(library (?:plan|create|run)) ", rf"\1 --repository {repository} ", block)
        script = tmp_path / f"block.{language}"
        script.write_text(block)
        command = {"sh": ["bash", "-e"], "python": [sys.executable]}[language]
        subprocess.run([*command, script], cwd=tmp_path, env=environment, check=True, timeout=300)
        ran.append(language)
    assert ran == ["sh", "python", "sh", "python", "python", "python"]
    assert len(open_library(tmp_path / "library.zarr")) == 6
    here, there = (open_library(where).records() for where in (tmp_path / "library.zarr", "s3://rves/library.zarr"))
    assert [one["sha256"] for one in here] == [one["sha256"] for one in there]
