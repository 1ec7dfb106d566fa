"""Triton's ``onnxruntime`` backend for a server that has only the Python backend, where it is ``onnxruntime/model.py``.

A model whose ``config.pbtxt`` says ``backend: "onnxruntime"`` is served with its ``<version>/model.onnx`` unchanged, on
the CPU. This file runs inside the server's own environment: numpy 1, onnxruntime, and nothing of mdiff.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton  # type: ignore[import-not-found]

_BATCH = 32  # larger runs leave the processor's caches
_ONNX_NAMES = {"float32": "float", "float64": "double"}


class TritonPythonModel:
    """One instance of a model; Triton calls the three methods."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load ``model.onnx`` of the version.

        Raises:
            TritonModelException: the file cannot be loaded, or config.pbtxt describes other tensors; the load fails.
        """
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        config = json.loads(args["model_config"])
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:
            raise triton.TritonModelException(f"{path} cannot be loaded, export the model again: {error}") from error
        batched = config["max_batch_size"] > 0
        self._inputs = _matching_names(path, config["input"], self._session.get_inputs(), batched)
        self._outputs = _matching_names(path, config["output"], self._session.get_outputs(), batched)
        missing = sorted({tensor.name for tensor in self._session.get_inputs()} - set(self._inputs))
        if missing:
            raise triton.TritonModelException(
                f"config.pbtxt lacks input {missing[0]} of {path}: export the model again"
            )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests of a batch together; an error answers every one of them."""
        try:
            return self._run(requests)
        except Exception as error:
            failure = triton.TritonError(f"{type(error).__name__}: {error}")
            return [triton.InferenceResponse(error=failure) for _ in requests]

    def finalize(self) -> None:
        """Free the session."""
        del self._session

    def _run(self, requests: list[Any]) -> list[Any]:
        per_request = [
            {name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
            for request in requests
        ]
        feeds = {name: np.concatenate([arrays[name] for arrays in per_request]) for name in self._inputs}
        ends = np.cumsum([len(arrays[self._inputs[0]]) for arrays in per_request])[:-1]
        runs = [
            self._session.run(self._outputs, {name: feed[i : i + _BATCH] for name, feed in feeds.items()})
            for i in range(0, len(feeds[self._inputs[0]]), _BATCH)
        ]
        split = [np.split(np.concatenate(output), ends) for output in zip(*runs, strict=True)]
        return [
            triton.InferenceResponse(
                [triton.Tensor(name, parts[i]) for name, parts in zip(self._outputs, split, strict=True)]
            )
            for i in range(len(requests))
        ]


def _matching_names(path: Path, described: list[dict[str, Any]], tensors: list[Any], batched: bool) -> list[str]:
    """Names of the tensors that config.pbtxt describes, all of them in the graph with that type and shape."""
    actual = {tensor.name: (tensor.type, list(tensor.shape)) for tensor in tensors}
    for entry in described:
        dtype = np.dtype(triton.triton_string_to_numpy(entry["data_type"])).name
        expected = (f"tensor({_ONNX_NAMES.get(dtype, dtype)})", [-1] * batched + [int(dim) for dim in entry["dims"]])
        found = actual.get(entry["name"])
        if found is None or found[0] != expected[0] or not _fits(found[1], expected[1]):
            raise triton.TritonModelException(
                f"config.pbtxt describes {entry['name']} as {expected[0]} {expected[1]}, "
                f"{path} {f'has {found[0]} {found[1]}' if found else 'has no such tensor'}: export the model again"
            )
    return [entry["name"] for entry in described]


def _fits(shape: list[Any], dims: list[int]) -> bool:
    """Whether two shapes agree where both are fixed; a free dimension is a name or None in ONNX, -1 in config.pbtxt."""
    return len(shape) == len(dims) and all(
        not isinstance(size, int) or dim == -1 or size == dim for size, dim in zip(shape, dims, strict=True)
    )
