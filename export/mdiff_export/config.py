"""``config.pbtxt``, Triton's description of a model."""

from __future__ import annotations

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc.model_config_pb2 import ModelConfig

from mdiff_core import CONTRACT_KEY, ModelContract
from mdiff_export.wire import WireTensor, inputs, outputs

_TYPES = {"float32": "TYPE_FP32", "int64": "TYPE_INT64"}
# Enough for tens of clients with several requests in flight; beyond it Triton refuses at once, and a client backs off.
_MAX_QUEUE_SIZE = 128


def triton_config(contract: ModelContract, max_batch: int) -> str:
    """The text of ``config.pbtxt`` for a contract's ``model.onnx``.

    No ``preferred_batch_size``: it delays what could run (triton-inference-server/server#8141, #4886).
    """
    config = ModelConfig(
        name=contract.name,
        backend="onnxruntime",
        max_batch_size=max_batch,
        input=[_tensor(tensor) for tensor in inputs(contract)],
        output=[_tensor(tensor) for tensor in outputs(contract)],
        # With one, calls that found it busy were at times delayed by 0.3 to 0.5 s; with two none was (Triton 2.51).
        instance_group=[{"count": 2}],
        dynamic_batching={"default_queue_policy": {"max_queue_size": _MAX_QUEUE_SIZE}},
        model_warmup=[
            {
                "name": f"batch {batch}",
                "batch_size": batch,
                "inputs": {
                    tensor.name: {"data_type": _TYPES[tensor.dtype], "dims": tensor.dims, "zero_data": True}
                    for tensor in inputs(contract)
                },
            }
            for batch in sorted({1, max_batch})
        ],
        parameters={CONTRACT_KEY: {"string_value": contract.to_json()}},
    )
    text: str = text_format.MessageToString(config)
    return text


def _tensor(tensor: WireTensor) -> dict[str, object]:
    return {"name": tensor.name, "data_type": _TYPES[tensor.dtype], "dims": tensor.dims}
