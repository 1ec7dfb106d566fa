"""From a checkpoint to a model repository: ONNX, parity check, config.pbtxt, model card."""
