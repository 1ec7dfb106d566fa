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
# ε from the velocity: at high noise σ its rounding is σ times as large in x̂_0.
_SCHEDULE = {"signal", "spread"}


def to_float16(model: ModelProto, *, wire: bool) -> ModelProto:
    """The same graph with weights and arithmetic in float16; ``wire``: images in and out are float16 too.

    In float32 stay normalization and softmax, the angles of the step's embedding, and the last lines that make ε of a
    velocity. Steps and labels stay int64, told fractions float32.
    """
    kept = _ancestors(model.graph.node, _OF_ANGLES) + _descendants(model.graph.node, _SCHEDULE)
    fractions = [value.name for value in model.graph.input if value.name == "fractions"]
    images = [value.name for value in (*model.graph.input, *model.graph.output) if value.name in ("x", "eps", "v")]
    converted: ModelProto = convert_float_to_float16(
        model,
        keep_io_types=fractions if wire else [*fractions, *images],
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_NORMALIZATION, *_OF_ANGLES],
        node_block_list=kept,
    )
    _join_casts(converted)
    OnnxModel.graph_topological_sort(converted.graph)
    converted.graph.ClearField("value_info")
    return converted


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
    narrowed = {node.output[0]: node.input[0] for node in model.graph.node if _casts_to(node, TensorProto.FLOAT16)}
    given = {value.name for value in model.graph.input}
    widened = {
        node.output[0]: narrowed[node.input[0]]
        for node in model.graph.node
        if _casts_to(node, TensorProto.FLOAT) and node.input[0] in narrowed and narrowed[node.input[0]] not in given
    }
    for node in model.graph.node:
        node.input[:] = [widened.get(name, name) for name in node.input]
    used = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    rest = [node for node in model.graph.node if node.op_type != "Cast" or used & set(node.output)]
    model.graph.ClearField("node")
    model.graph.node.extend(rest)


def _casts_to(node: NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and onnx.helper.get_node_attr_value(node, "to") == kind
