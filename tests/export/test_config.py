"""``config.pbtxt`` of each backend, parsed as Triton parses it."""

import dataclasses
from typing import get_args

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from mdiff_core import ModelContract
from mdiff_export import Backend
from mdiff_export.config import triton_config
from mdiff_training.checkpoint import Checkpoint


def config_of(contract: ModelContract, backend: Backend, **options: bool) -> ModelConfig:
    return text_format.Parse(triton_config(contract, 96, backend, **options), ModelConfig())


def accelerator_of(contract: ModelContract, **options: bool) -> dict[str, str]:
    config = config_of(contract, "onnxruntime-tensorrt", **options)
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    return dict(accelerator.parameters)


@pytest.mark.parametrize("backend", get_args(Backend))
def test_every_backend_batches_warms_up_and_serves_the_newest_version(conditional: Checkpoint, backend: Backend):
    config = config_of(conditional.contract, backend)
    assert config.max_batch_size == 96
    assert config.dynamic_batching.default_queue_policy.max_queue_size > 0
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 96]
    assert config.version_policy.latest.num_versions == 1
    assert [tensor.name for tensor in config.input] == ["x", "t", "label", "fractions"]


@pytest.mark.parametrize(
    ("backend", "name", "file", "kind"),
    [
        ("onnxruntime", "onnxruntime", "", "KIND_AUTO"),
        ("onnxruntime-tensorrt", "onnxruntime", "", "KIND_GPU"),
        ("tensorrt", "tensorrt", "", "KIND_GPU"),
        ("openvino", "openvino", "model.onnx", "KIND_CPU"),
    ],
)
def test_who_computes_where_and_from_which_file(plain: Checkpoint, backend: Backend, name: str, file: str, kind: str):
    config = config_of(plain.contract, backend)
    (instances,) = config.instance_group
    assert (config.backend, config.default_model_filename, instances.Kind.Name(instances.kind)) == (name, file, kind)


def test_onnxruntimes_tensorrt_builds_one_engine_for_all_batches(conditional: Checkpoint):
    accelerator = accelerator_of(conditional.contract)
    assert accelerator["trt_profile_min_shapes"] == "x:1x3x16x24,t:1x1,label:1x1,fractions:1x2"
    assert accelerator["trt_profile_opt_shapes"] == "x:64x3x16x24,t:64x1,label:64x1,fractions:64x2"
    assert accelerator["trt_profile_max_shapes"] == "x:96x3x16x24,t:96x1,label:96x1,fractions:96x2"


def test_onnxruntimes_tensorrt_computes_in_half_precision_where_the_graph_does(plain: Checkpoint):
    assert "precision_mode" not in accelerator_of(plain.contract)
    half = accelerator_of(plain.contract, float16=True)
    assert (half["precision_mode"], half["trt_layer_norm_fp32_fallback"]) == ("FP16", "1")


def test_engines_of_other_weights_are_kept_apart(plain: Checkpoint):
    """onnxruntime tells engines apart by the names in the graph, which every model of a preset shares."""
    provenance = plain.contract.provenance
    prefixes = {
        accelerator_of(
            dataclasses.replace(plain.contract, provenance=dataclasses.replace(provenance, weights_sha256=sha))
        )["trt_engine_cache_prefix"]
        for sha in ("a" * 64, "b" * 64)
    }
    assert len(prefixes) == 2
