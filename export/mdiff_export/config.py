"""``config.pbtxt``, Triton's description of a model."""

from __future__ import annotations

from typing import Any

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc.model_config_pb2 import ModelConfig

from mdiff_core import CONTRACT_KEY, ModelContract
from mdiff_export import Backend
from mdiff_export.wire import WireTensor, inputs, outputs, profile, shapes

_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "int64": "TYPE_INT64"}
# Enough for tens of clients with several requests in flight; beyond it Triton refuses at once, and a client backs off.
_MAX_QUEUE_SIZE = 128
# Of the server: building an engine takes minutes, loading a kept one a second.
_ENGINE_CACHE = "/tmp/mdiff-engines"


def triton_config(
    contract: ModelContract, max_batch: int, backend: Backend = "onnxruntime", *, float16: bool = False
) -> str:
    """The text of ``config.pbtxt`` for a model with this contract.

    Where there are GPUs, ``onnxruntime`` computes on them, else on the CPU; ``onnxruntime-tensorrt`` and ``tensorrt``
    need one, ``openvino`` computes on the CPU. All read ``model.onnx`` but ``tensorrt``, which reads ``model.plan``.
    ``float16``: whether that graph computes in half precision.

    No ``preferred_batch_size``: it delays what could run (triton-inference-server/server#8141, #4886).
    """
    config = ModelConfig(
        name=contract.name,
        max_batch_size=max_batch,
        input=[_tensor(tensor) for tensor in inputs(contract)],
        output=[_tensor(tensor) for tensor in outputs(contract)],
        # A version is exported beside those there are: the newest is served.
        version_policy={"latest": {"num_versions": 1}},
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
        **_engine(contract, max_batch, backend, float16),
    )
    text: str = text_format.MessageToString(config)
    return text


def _engine(contract: ModelContract, max_batch: int, backend: Backend, float16: bool) -> dict[str, Any]:
    """What differs from backend to backend."""
    # While one hands its answers over and takes the next batch, the other computes: on two CPU cores, with calls of 64
    # images from four clients, two answer 1.09 times and one 0.96 times the images of onnxruntime in process.
    instances = {"count": 2}
    if backend == "tensorrt":
        return {"backend": "tensorrt", "instance_group": [{**instances, "kind": "KIND_GPU"}]}
    if backend == "openvino":
        # Its own default is a model.xml.
        return {
            "backend": "openvino",
            "default_model_filename": "model.onnx",
            "instance_group": [{**instances, "kind": "KIND_CPU"}],
        }
    if backend == "onnxruntime-tensorrt":
        # Without a profile the provider builds an engine for every batch size it meets (onnxruntime#12120).
        ends = {f"trt_profile_{end}_shapes": shapes(contract, batch) for end, batch in profile(max_batch).items()}
        # onnxruntime knows an engine by the names in the graph alone, which other weights share.
        prefix = contract.provenance.weights_sha256 or contract.name
        kept = {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": _ENGINE_CACHE,
            "trt_engine_cache_prefix": prefix,
        }
        half = {"precision_mode": "FP16", "trt_layer_norm_fp32_fallback": "1"} if float16 else {}
        accelerator = {"name": "tensorrt", "parameters": {**ends, **kept, **half}}
        return {
            "backend": "onnxruntime",
            "instance_group": [{**instances, "kind": "KIND_GPU"}],
            "optimization": {"execution_accelerators": {"gpu_execution_accelerator": [accelerator]}},
        }
    return {"backend": "onnxruntime", "instance_group": [instances]}


def _tensor(tensor: WireTensor) -> dict[str, object]:
    return {"name": tensor.name, "data_type": _TYPES[tensor.dtype], "dims": tensor.dims}
