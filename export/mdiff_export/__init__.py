"""From a checkpoint to a model repository: ONNX, parity check, config.pbtxt, model card."""

OLDEST_OPSET = 18
"""The oldest version of the ONNX operators that torch's exporter writes, and so the one that most runtimes read."""
