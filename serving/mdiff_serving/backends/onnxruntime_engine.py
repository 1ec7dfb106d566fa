"""The engine of the backend ``onnxruntime``: ``model.onnx`` on the CPU."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime

_ONNX_NAMES = {"float": "float32", "double": "float64"}


class Engine:
    """A graph, with the type and shape of its ``inputs`` and ``outputs`` by name; a free dimension is None."""

    # A core computes a call of its own: one call on all cores has them wait for each other after every operator.
    calls_at_once = len(os.sched_getaffinity(0))

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = _described(self._session.get_inputs())
        self.outputs = _described(self._session.get_outputs())

    def run(self, outputs: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs, in the order asked for."""
        answers: list[np.ndarray] = self._session.run(outputs, feeds)
        return answers


def _described(tensors: list[onnxruntime.NodeArg]) -> dict[str, tuple[str, list[int | None]]]:
    found = {}
    for tensor in tensors:
        name = tensor.type.removeprefix("tensor(").removesuffix(")")
        shape = [size if isinstance(size, int) else None for size in tensor.shape]
        found[tensor.name] = (_ONNX_NAMES.get(name, name), shape)
    return found
