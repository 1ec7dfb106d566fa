"""Half precision for a graph, with single precision where half would spoil the answer."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx
from onnx import ModelProto, NodeProto, TensorProto
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

# Sums over many values carry the error of half precision (TensorRT#2691).
_NORMALIZATION = ["InstanceNormalization", "GroupNormalization", "LayerNormalization", "Softmax", "ReduceMean"]
# Half precision has no number between 2048 and 2050, nor an angle between 512 and 512.5; steps t go to thousands.
_OF_ANGLES = ["Sin", "Cos"]
_IMAGES, _TOLD = ("x", "eps", "v"), "fractions"


def to_float16(model: ModelProto, *, wire: bool) -> ModelProto:
    """The same graph with weights and arithmetic in float16; ``wire``: images in and out are float16 too.

    In float32 stay normalization and softmax, the angles of the step's embedding, and the last lines that make ε of a
    velocity, whose rounding would be σ times as large in x̂_0. Steps and labels stay int64, told fractions float32.
    """
    nodes = model.graph.node
    kept_types = [value.name for value in (*model.graph.input, *model.graph.output) if value.name in (*_IMAGES, _TOLD)]
    converted: ModelProto = convert_float_to_float16(
        model,
        keep_io_types=[name for name in kept_types if name == _TOLD] if wire else kept_types,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_NORMALIZATION, *_OF_ANGLES],
        node_block_list=_ancestors(nodes, _OF_ANGLES) + _descendants(nodes, _tables(model)),
    )
    OnnxModel.graph_topological_sort(converted.graph)
    _join_casts(converted)
    converted.graph.ClearField("value_info")
    return converted


def _tables(model: ModelProto) -> set[str]:
    """What is looked up by the step for every image, [T, 1, 1, 1]: the schedule, which makes ε of a velocity."""
    looked_up = {node.input[0] for node in model.graph.node if node.op_type.startswith("Gather")}
    return {tensor.name for tensor in model.graph.initializer if tensor.dims[1:] == [1, 1, 1]} & looked_up


def _ancestors(nodes: Sequence[NodeProto], operators: Collection[str]) -> list[str]:
    """Names of the nodes of which any of ``operators`` is computed."""
    wanted: set[str] = set()
    found = []
    for node in reversed(nodes):
        if node.op_type in operators or wanted & set(node.output):
            wanted |= set(node.input)
            found.append(node.name)
    return found


def _descendants(nodes: Sequence[NodeProto], sources: Collection[str]) -> list[str]:
    """Names of the nodes that any of ``sources`` goes into."""
    reached, found = set(sources), []
    for node in nodes:
        if reached & set(node.input):
            reached |= set(node.output)
            found.append(node.name)
    return found


def _join_casts(model: ModelProto) -> None:
    """Take out float32 → float16 → float32, which the conversion leaves between two nodes kept in float32."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    typed = (*graph.input, *graph.output, *graph.value_info)
    wide = {value.name for value in typed if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    narrowed = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if _casts_to(node, TensorProto.FLOAT16) and node.input[0] in wide
    }
    joined = {
        node.output[0]: narrowed[node.input[0]]
        for node in model.graph.node
        if _casts_to(node, TensorProto.FLOAT) and node.input[0] in narrowed
    }
    outputs = {value.name for value in model.graph.output}
    renamed = {source: name for name, source in joined.items() if name in outputs}
    names = {**renamed, **{name: renamed.get(source, source) for name, source in joined.items()}}
    rest = [node for node in model.graph.node if node.output[0] not in joined]
    for node in rest:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    used = outputs | {name for node in rest for name in node.input}
    model.graph.ClearField("node")
    model.graph.node.extend(node for node in rest if node.op_type != "Cast" or node.output[0] in used)


def _casts_to(node: NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and onnx.helper.get_node_attr_value(node, "to") == kind
