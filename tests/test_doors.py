"""The doors between the rooms: which room may import what, by reading every import, also those inside functions."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Room: the packages its modules may import, beside the standard library and itself.
RULES = {
    "core": "numpy",
    "images": "PIL mdiff_core numpy tifffile",
    "training": "PIL mdiff_core mdiff_images numpy safetensors scipy torch tqdm typer",
    "export": "mdiff_core mdiff_training google numpy onnx onnxruntime onnxscript tensorrt tensorrt_rtx torch "
    "tritonclient typer",
    "serving": "mdiff_core typer",
    "client": "PIL h5py mdiff_core mdiff_images numpy onnxruntime pyarrow rich scipy tifffile tqdm tritonclient typer "
    "zarr matplotlib muFFT muSpectre skimage taufactor torch_fidelity vtkmodules xarray",
    # taufactor and torch_fidelity bring torch, so only functions import them: see below
}
# What answers inside Triton, in the server's own environment: it may import nothing of mdiff.
INSIDE_TRITON = ROOT / "serving/mdiff_serving/backends"
INSIDE_TRITON_RULE = "engine numpy onnxruntime openvino triton_python_backend_utils"
# Rooms that must run where torch is not installed.
WITHOUT_TORCH = ["core", "images", "serving", "client"]


def imports(source: str) -> Iterator[str]:
    """Top-level names of the packages a module imports absolutely, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "__import__",
            "import_module",
            "importlib.import_module",
        ):
            target = node.args[0]
            yield str(target.value).partition(".")[0] if isinstance(target, ast.Constant) else ast.unparse(target)


def modules() -> list[Path]:
    return sorted(path for room in RULES for path in (ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("module", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_through_its_doors(module: Path):
    room = module.relative_to(ROOT).parts[0]
    rule = INSIDE_TRITON_RULE if module.parent == INSIDE_TRITON else f"{RULES[room]} mdiff_{room}"
    foreign = set(imports(module.read_text(encoding="utf-8"))) - sys.stdlib_module_names - set(rule.split())
    assert not foreign, f"{room}/ may not import {', '.join(sorted(foreign))}"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import numpy.typing as npt, json", {"numpy", "json"}),
        ("from torch.nn import functional", {"torch"}),
        ("def f():\n    import torch", {"torch"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import zarr", {"typing", "zarr"}),
        ("try:\n    import rich\nexcept ImportError:\n    pass", {"rich"}),
        ("from . import sibling\nfrom .sibling import thing", set()),
        ("import importlib\nimportlib.import_module('torch.nn')", {"importlib", "torch"}),
        ("__import__('torch')", {"torch"}),
        ("# import torch\n'import torch'", set()),
    ],
)
def test_no_import_is_overlooked(source: str, found: set[str]):
    assert set(imports(source)) == found


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_a_room_without_torch_loads_whole_and_loads_no_torch(room: str):
    """Also through what it imports: every module of the room in a fresh interpreter."""
    package = ROOT / room / f"mdiff_{room}"
    names = [
        ".".join(path.relative_to(ROOT / room).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(package.rglob("*.py"))
        if path.parent != INSIDE_TRITON and path.name != "__main__.py"
    ]
    code = f"import importlib, sys\nfor name in {names}:\n    importlib.import_module(name)\n"
    code += "sys.exit('torch was loaded' if 'torch' in sys.modules else 0)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_distribution_is_the_rooms_on_disk_all_typed():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    rooms = sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/mdiff_*/__init__.py"))
    assert sorted(packages) == rooms == sorted(f"{room}/mdiff_{room}" for room in RULES)
    assert [room for room in rooms if not (ROOT / room / "py.typed").is_file()] == []
