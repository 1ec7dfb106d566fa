"""Nothing is unpickled anywhere: a file that runs code when it is read is read by no room."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ["core", "images", "training", "export", "serving", "client"]

PICKLERS = {"pickle", "_pickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
HARMLESS = {"pickle.UnpicklingError"}  # to catch it is not to unpickle
# Function: the argument that decides whether it unpickles, and the value with which it does not.
READERS = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "np.lib.format.read_array": ("allow_pickle", False),
}
# numpy does not unpickle unless it is told to; torch did for years.
SAFE_BY_DEFAULT = {"np.load", "numpy.load", "np.lib.format.read_array"}


def unpickling(source: str) -> Iterator[str]:
    """Uses of a module's picklers, and calls of readers that may unpickle."""
    tree = ast.parse(source)
    bound = {}  # name in the module: what it is
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                bound[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    harmless = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _name(node, bound) in HARMLESS
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and id(node) not in harmless:
            yield from (name for name in [_name(node, bound)] if name.split(".")[0] in PICKLERS - HARMLESS)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLERS:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and (name := _name(node.func, bound)) in READERS:
            argument, safe = READERS[name]
            values = [keyword.value for keyword in node.keywords if keyword.arg == argument]
            said = [value.value for value in values if isinstance(value, ast.Constant)]
            if said != [safe] and not (name in SAFE_BY_DEFAULT and not values):
                yield name


def _name(node: ast.AST, bound: dict[str, str]) -> str:
    """A dotted name as the module means it."""
    first, *rest = ast.unparse(node).split(".") if isinstance(node, ast.Name | ast.Attribute) else [""]
    return ".".join([bound.get(first, first), *rest])


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_unpickles_nothing(room: str):
    found = {
        str(path.relative_to(ROOT)): uses
        for path in sorted((ROOT / room).rglob("*.py"))
        if (uses := list(unpickling(path.read_text(encoding="utf-8"))))
    }
    assert not found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle\npickle.load(f)", ["pickle"]),
        ("import pickle as safe\nsafe.loads(b)", ["pickle"]),
        ("from pickle import loads", ["pickle.loads"]),
        ("def f():\n    import dill\n    return dill.load", ["dill"]),
        ("import joblib\nload = joblib.load", ["joblib"]),
        ("import pickle\ntry:\n    g()\nexcept pickle.UnpicklingError:\n    h()", []),
        ("import torch\ntorch.load(f)", ["torch.load"]),
        ("import torch\ntorch.load(f, weights_only=False)", ["torch.load"]),
        ("import torch\ntorch.load(f, weights_only=flag)", ["torch.load"]),
        ("from torch import load\nload(f)", ["torch.load"]),
        ("import torch\ntorch.load(f, weights_only=True)", []),
        ("import numpy as np\nnp.load(f, allow_pickle=True)", ["numpy.load"]),
        ("import numpy as np\nnp.load(f)", []),
        ("# import pickle\n'pickle.load'", []),
    ],
)
def test_no_unpickling_is_overlooked(source: str, found: list[str]):
    assert list(unpickling(source)) == found
