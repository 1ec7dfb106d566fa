"""From a checkpoint to a model repository: ONNX, parity check, config.pbtxt, model card."""

from typing import Literal

Backend = Literal["onnxruntime", "onnxruntime-tensorrt", "tensorrt", "openvino"]
"""Triton's backends that a model can be configured for; the second is onnxruntime with TensorRT as its accelerator."""

Precision = Literal["float32", "float16"]

OLDEST_OPSET = 18
"""The oldest version of the ONNX operators that torch's exporter writes, and so the one that most runtimes read."""
