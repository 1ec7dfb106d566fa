"""Parity: do two ways of computing a model give the same answers?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from mdiff_core import ContractError, ModelContract
from mdiff_export.wire import Batch, outputs, random_batch

TOLERANCE = 1e-4
FLOAT16_TOLERANCE = 3e-2
"""Half precision resolves 2⁻¹¹ of a value, and the values of a network are of the order of 10."""

Answers = Callable[[Batch], Sequence[npt.NDArray[Any]]]
"""What a model answers to a batch: its outputs in the order of :func:`~mdiff_export.wire.outputs`."""


@dataclass(frozen=True)
class Parity:
    """The largest absolute difference found, over ``batches`` of random images at ``steps``, computing in ``dtype``."""

    difference: float
    dtype: str
    batches: tuple[int, ...]
    steps: tuple[int, ...]


def compare(
    expected: Answers,
    got: Answers,
    contract: ModelContract,
    batches: Collection[int],
    *,
    float16: bool,
    names: str,
    verdict: str,
) -> Parity:
    """Compare answers to random images.

    The steps run from 0 to T − 1 and differ within a batch, as they do where a server joins requests.

    Args:
        expected: those of the reference.
        got: those to be judged.
        contract: says what is asked and answered.
        batches: how many images are asked about at once.
        float16: the judged ones are computed in half precision.
        names: what the two are called, and ``verdict``: what it means that they differ.

    Raises:
        ContractError: an output differs by more than :data:`TOLERANCE`, or :data:`FLOAT16_TOLERANCE`.
    """
    tolerance = FLOAT16_TOLERANCE if float16 else TOLERANCE
    rng = np.random.default_rng(0)
    last = contract.schedule.timesteps - 1
    steps = np.unique(np.linspace(0, last, 5).astype(np.int64))
    largest = 0.0
    for n in sorted(batches):
        for start in range(0, len(steps), n):
            batch = random_batch(contract, np.resize(np.roll(steps, -start), n), rng)
            for tensor, one, other in zip(outputs(contract), expected(batch), got(batch), strict=True):
                difference = float(np.abs(one.astype(np.float32) - other.astype(np.float32)).max())
                if not difference <= tolerance:  # NaN fails too
                    raise ContractError(
                        f"model {contract.name}: {names} differ by {difference:.2g} in {tensor.name!r} at "
                        f"batch {n}, more than {tolerance:g}: {verdict}"
                    )
                largest = max(largest, difference)
    return Parity(largest, "float16" if float16 else "float32", tuple(sorted(batches)), tuple(steps.tolist()))


def on_cpu(graph: Path, contract: ModelContract) -> Answers:
    """What onnxruntime answers on the CPU.

    Of a graph in half precision that is the weights and most casts: a CPU does much of its arithmetic in float32.

    Raises:
        ContractError: onnxruntime refuses the graph.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no other base
        raise ContractError(f"onnxruntime refuses the graph ({error}): try another --opset") from error
    names = [tensor.name for tensor in outputs(contract)]
    return lambda batch: session.run(names, batch)
