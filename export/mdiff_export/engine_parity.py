"""Parity of an engine: does TensorRT on the GPU compute what onnxruntime computes on the CPU?"""

from __future__ import annotations

from pathlib import Path

from mdiff_core import ModelContract
from mdiff_export.gpu import gpu_is_present, on_gpu
from mdiff_export.parity import Parity, compare, on_cpu


def check_engine(plan: Path, graph: Path, contract: ModelContract, max_batch: int, *, float16: bool) -> Parity | None:
    """Compare an engine and its graph at batches 1, 2, 3 and ``max_batch``, where a GPU is present.

    Args:
        plan: the engine.
        graph: what it was built of, in float32 where there is such a graph.
        contract: theirs.
        max_batch: largest batch of the engine.
        float16: the engine computes in half precision.

    Returns:
        The parity; None: there is no GPU, and the engine is not known to be right.

    Raises:
        ContractError: an output differs by more than :data:`~mdiff_export.parity.TOLERANCE`, or ``FLOAT16_TOLERANCE``.
        PermanentError: the engine does not run.
    """
    if not gpu_is_present():
        return None
    return compare(
        on_cpu(graph, contract),
        on_gpu(plan, contract),
        contract,
        {1, min(2, max_batch), min(3, max_batch), max_batch},
        float16=float16,
        names="TensorRT and onnxruntime",
        verdict="the engine is not the graph, build it in another precision",
    )
