"""What a build may see of the checkout: .dockerignore lets in what the images are made of, and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths

ROOT = Path(__file__).parents[2]
PATTERNS = [
    line
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


def context(folder):
    """The files of a folder that a build would see."""
    return sorted(path for path in exclude_paths(folder, PATTERNS) if (Path(folder) / path).is_file())


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("pyproject.toml", True),
        ("client/mdiff_client/cli/app.py", True),
        ("serving/model_repository/new/1/model.onnx", True),
        ("docker/requirements.py", True),
        ("docker/volumes/rve.zarr/zarr.json", False),
        ("client/mdiff_client/__pycache__/cli.cpython-311.pyc", False),
        ("client/notes.txt", False),
        ("tests/client/test_cli.py", False),
        ("runs/model.safetensors", False),
        (".git/config", False),
        (".venv/bin/python", False),
        (".env", False),
        ("key.pem", False),
    ],
)
def test_a_build_sees(tmp_path, path, seen):
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    assert context(tmp_path) == ([path] if seen else [])


def test_the_wheel_made_of_it_is_whole(tmp_path):
    for path in context(ROOT):
        (tmp_path / "context" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, tmp_path / "context" / path)
    assert contents(tmp_path / "context", tmp_path / "made") == contents(ROOT, tmp_path / "whole")


def contents(source, out):
    """Names of the files in the wheel of a checkout."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return sorted(archive.namelist())
