"""TensorRT engines: built on the GPU that will run them, with the TensorRT that will run them."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from pathlib import Path
from typing import Any

from mdiff_core import DataError, ModelContract, PermanentError, UsageError
from mdiff_core.outputs import check_writable
from mdiff_export.wire import inputs, profile


def build_engine(
    graph: Path,
    contract: ModelContract,
    plan: Path,
    max_batch: int,
    *,
    version_compatible: bool = False,
    timing_cache: Path | None = None,
) -> None:
    """Write the engine of an ONNX graph, with one optimization profile from a batch of 1 to ``max_batch``.

    The network is strongly typed: the engine computes in the types that the graph says, float16 with normalization in
    float32 where it was exported so.

    Args:
        graph: ``model.onnx``.
        contract: its contract.
        plan: ``model.plan``, written whole or not at all.
        max_batch: largest batch.
        version_compatible: the engine also runs under other TensorRT versions of the same major one, somewhat slower.
        timing_cache: file that keeps what was measured of kernels, read where it exists and written again.

    Raises:
        UsageError: TensorRT is not installed.
        DataError: it cannot read the graph, or a file cannot be written.
        PermanentError: it cannot build the engine here.
    """
    trt = tensorrt()
    log = collecting_logger(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        raise DataError(f"{graph}: TensorRT {trt.__version__} cannot read it ({parser.get_error(0).desc()})")
    config = builder.create_builder_config()
    # On by default, it computes float32 with 10 bits of mantissa.
    config.clear_flag(trt.BuilderFlag.TF32)
    if version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    ends = builder.create_optimization_profile()
    for tensor in inputs(contract):
        ends.set_shape(tensor.name, *((batch, *tensor.dims) for batch in profile(max_batch).values()))
    config.add_optimization_profile(ends)
    cache = _timing_cache(config, timing_cache) if timing_cache else None
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise PermanentError(
            f"TensorRT {trt.__version__} cannot build {contract.name} here ({log.last or 'no reason given'}): an "
            "engine is built on the GPU that will run it, with a driver that fits"
        )
    _write_whole(plan, engine)
    if cache and timing_cache:
        _write_whole(timing_cache, cache.serialize())


def tensorrt_version() -> str:
    """Name and version of the TensorRT that is installed.

    Raises:
        UsageError: none is.
    """
    trt = tensorrt()
    return f"{trt.__name__} {trt.__version__}"


def tensorrt() -> Any:
    """The module of TensorRT, or of TensorRT for RTX.

    Raises:
        UsageError: neither is installed.
    """
    with contextlib.suppress(ImportError):
        return importlib.import_module("tensorrt")
    try:
        # It has the same interface, comes from the package index, and builds for RTX GPUs, also where there is none.
        return importlib.import_module("tensorrt_rtx")
    except ImportError as error:
        raise UsageError("TensorRT is not installed: run this in the serving image, or pip install tensorrt") from error


def collecting_logger(trt: Any) -> Any:
    """A logger that says nothing, for TensorRT; its ``last`` is the last error, which TensorRT raises nowhere."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.last = message

    return Log()


def _timing_cache(config: Any, path: Path) -> Any:
    check_writable(path)  # before minutes of work
    try:
        kept = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of tensorrt_rtx, for which the cache does nothing
        cache = config.create_timing_cache(kept)
        config.set_timing_cache(cache, ignore_mismatch=True)
    return cache


def _write_whole(path: Path, content: Any) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        part.unlink(missing_ok=True)
