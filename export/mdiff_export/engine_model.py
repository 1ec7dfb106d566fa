"""From a model in one repository to its TensorRT engine in another, where it is built once for each GPU."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto

from mdiff_core import CONTRACT_KEY, ContractError, DataError, ModelContract, UsageError
from mdiff_core.repository import onnx_file, versions
from mdiff_export.config import triton_config
from mdiff_export.engine import build_engine, tensorrt_version
from mdiff_export.engine_parity import check_engine
from mdiff_export.parity import Parity
from mdiff_export.precision import to_float16
from mdiff_export.versions import new_version

_STAMP = "engine.json"


@dataclass(frozen=True)
class EngineOptions:
    """How an engine is built: see :func:`~mdiff_export.engine.build_engine`; ``float16``: of any graph."""

    max_batch: int = 256
    float16: bool = True
    version_compatible: bool = False


@dataclass(frozen=True)
class ExportedEngine:
    """A version written, and the parity of its engine; None: there is no GPU to run it."""

    folder: Path
    parity: Parity | None


def export_engine(
    source: Path, name: str, target: Path, options: EngineOptions, timing_cache: Path | None = None
) -> ExportedEngine | None:
    """Serve a model of ``source`` from ``target`` with an engine built here; the source stays as it is.

    Beside the engine lie the graph it was built of and a stamp of what it was built of, with and on.

    Args:
        source: a model repository.
        name: the model's name.
        target: another one, which also serves as a cache.
        options: how the engine is built.
        timing_cache: see :func:`~mdiff_export.engine.build_engine`.

    Returns:
        The new version; None: the newest one in ``target`` is of the same stamp.

    Raises:
        UsageError: no such model, one in float16 where float32 is asked for, or TensorRT is not installed.
        DataError: the graph cannot be read, or the target not written.
        ContractError: the graph carries no contract, or the engine does not compute what the source's graph does.
        PermanentError: the engine cannot be built here.
    """
    original = onnx_file(source, name)
    written = _read(original)
    stamp = {
        "graph_sha256": hashlib.sha256(written).hexdigest(),
        "tensorrt": tensorrt_version(),
        "gpu": _gpu(),
        **dataclasses.asdict(options),
    }
    if _stamp(target, name) == stamp:
        return None
    model = _parsed(written, original)
    contract, float16, card = _contract(model, original), _is_float16(model), original.parents[1] / "README.md"
    if float16 and not options.float16:
        raise UsageError(f"{original} computes in float16, and so does its engine: export it in float32 first")
    about = _read(card) if card.is_file() else b""
    with new_version(target, name) as draft:
        graph = draft.files / "model.onnx"
        if options.float16 and not float16:
            model = to_float16(model, wire=False)
            onnx.helper.set_model_props(model, {CONTRACT_KEY: contract.to_json()})
            onnx.save_model(model, graph)
        else:
            graph.write_bytes(written)
        plan = draft.files / "model.plan"
        build_engine(
            graph,
            contract,
            plan,
            options.max_batch,
            version_compatible=options.version_compatible,
            timing_cache=timing_cache,
        )
        parity = check_engine(plan, original, contract, options.max_batch, float16=options.float16)
        (draft.files / _STAMP).write_text(json.dumps(stamp, indent=1), encoding="utf-8")
        config = triton_config(contract, options.max_batch, "tensorrt")
        (draft.folder / "config.pbtxt").write_text(config, encoding="utf-8")
        (draft.folder / card.name).write_bytes(about)
    return ExportedEngine(target / name / draft.files.name, parity)


def _stamp(target: Path, name: str) -> object:
    """Of the newest version of a model, None where there is none."""
    stamps = (folder / _STAMP for folder in versions(target / name))
    try:
        newest = next((path for path in stamps if path.exists()), None)
        return json.loads(newest.read_text(encoding="utf-8")) if newest else None
    except (OSError, ValueError):
        return None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _parsed(written: bytes, path: Path) -> ModelProto:
    try:
        return onnx.load_model_from_string(written)
    except Exception as error:  # protobuf's, which onnx does not name
        raise DataError(f"{path}: not a readable ONNX model; export it again") from error


def _contract(model: ModelProto, path: Path) -> ModelContract:
    told = {entry.key: entry.value for entry in model.metadata_props}
    if CONTRACT_KEY not in told:
        raise ContractError(f"{path}: carries no model contract; export it with mdiff-export repository")
    return ModelContract.from_json(told[CONTRACT_KEY])


def _is_float16(model: ModelProto) -> bool:
    return any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer)


def _gpu() -> str:
    """Name of the GPU; an engine built on one kind does not run on another."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "none"
