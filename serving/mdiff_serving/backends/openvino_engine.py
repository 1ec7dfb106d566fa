"""The engine of the backend ``openvino``: ``model.onnx`` on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino


class Engine:
    """A graph, with the type and shape of its ``inputs`` and ``outputs`` by name; a free dimension is None."""

    calls_at_once = 1  # which takes all cores

    def __init__(self, path: Path) -> None:
        # In float32 also where the processor has bfloat16, which OpenVINO would take of its own accord.
        options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        model = openvino.Core().compile_model(str(path), "CPU", options)
        self._request = model.create_infer_request()
        self.inputs, self.outputs = _described(model.inputs), _described(model.outputs)

    def run(self, outputs: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs, in the order asked for."""
        self._request.infer(feeds)
        return [self._request.get_tensor(name).data.copy() for name in outputs]


def _described(tensors: list[Any]) -> dict[str, tuple[str, list[int | None]]]:
    return {
        tensor.any_name: (
            np.dtype(tensor.element_type.to_dtype()).name,
            [size.get_length() if size.is_static else None for size in tensor.partial_shape],
        )
        for tensor in tensors
    }
