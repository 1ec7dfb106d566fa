"""The part of a backend that Triton calls, whatever engine computes: ``engine.py`` beside this file.

A model whose ``config.pbtxt`` names the backend is served with its ``<version>/model.onnx`` unchanged, on the CPU.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton  # type: ignore[import-not-found]
from engine import Engine  # type: ignore[import-not-found]

_PIECE = 32  # images; larger ones leave the processor's caches


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
            self._engine = Engine(path)
        except Exception as error:
            raise triton.TritonModelException(f"{path} cannot be loaded, export the model again: {error}") from error
        self._calls = ThreadPoolExecutor(self._engine.calls_at_once)
        batched = config["max_batch_size"] > 0
        self._inputs = _matching_names(path, config["input"], self._engine.inputs, batched)
        self._outputs = _matching_names(path, config["output"], self._engine.outputs, batched)
        missing = sorted(set(self._engine.inputs) - set(self._inputs))
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
        """Free the engine."""
        self._calls.shutdown()
        del self._engine

    def _run(self, requests: list[Any]) -> list[Any]:
        per_request = [
            {name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
            for request in requests
        ]
        feeds = {name: np.concatenate([arrays[name] for arrays in per_request]) for name in self._inputs}
        *ends, images = np.cumsum([len(arrays[self._inputs[0]]) for arrays in per_request])
        size = min(_PIECE, -(-images // self._engine.calls_at_once))
        pieces = [{name: feed[i : i + size] for name, feed in feeds.items()} for i in range(0, images, size)]
        answers = list(self._calls.map(lambda piece: self._engine.run(self._outputs, piece), pieces))
        split = [np.split(np.concatenate(output), ends) for output in zip(*answers, strict=True)]
        return [
            triton.InferenceResponse(
                [triton.Tensor(name, parts[i]) for name, parts in zip(self._outputs, split, strict=True)]
            )
            for i in range(len(requests))
        ]


def _matching_names(
    path: Path, described: list[dict[str, Any]], actual: dict[str, tuple[str, list[int | None]]], batched: bool
) -> list[str]:
    """Names of the tensors that config.pbtxt describes, all of them in the graph with that type and shape."""
    for entry in described:
        expected = (
            np.dtype(triton.triton_string_to_numpy(entry["data_type"])).name,
            [-1] * batched + [int(dim) for dim in entry["dims"]],
        )
        found = actual.get(entry["name"])
        if found is None or found[0] != expected[0] or not _fits(found[1], expected[1]):
            raise triton.TritonModelException(
                f"config.pbtxt describes {entry['name']} as {expected[0]} {expected[1]}, "
                f"{path} {f'has {found[0]} {found[1]}' if found else 'has no such tensor'}: export the model again"
            )
    return [entry["name"] for entry in described]


def _fits(shape: list[int | None], dims: list[int]) -> bool:
    """Whether two shapes agree where both are fixed; a free dimension is None in the graph, -1 in config.pbtxt."""
    return len(shape) == len(dims) and all(
        size is None or dim == -1 or size == dim for size, dim in zip(shape, dims, strict=True)
    )
