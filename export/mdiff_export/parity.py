"""Parity: does onnxruntime compute from the file what torch computes from the network?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from mdiff_core import ContractError, ModelContract
from mdiff_export.graph import WireDenoiser
from mdiff_export.wire import outputs, random_batch
from mdiff_training.denoiser import Denoiser

TOLERANCE = 1e-4
FLOAT16_TOLERANCE = 3e-2
"""Half precision resolves 2⁻¹¹ of a value, and the values of a network are of the order of 10."""


@dataclass(frozen=True)
class Parity:
    """The largest absolute difference found, over ``batches`` of random images at ``steps``, computing in ``dtype``."""

    difference: float
    dtype: str
    batches: tuple[int, ...]
    steps: tuple[int, ...]


def check_parity(
    network: Denoiser, contract: ModelContract, path: Path, max_batch: int, *, float16: bool = False
) -> Parity:
    """Compare torch in float32 and onnxruntime on the CPU at batches 1, 2, 3 and ``max_batch``.

    Of a graph in half precision that is the weights and most casts: a CPU does much of its arithmetic in float32.

    The steps run from 0 to T − 1 and differ within a batch, as they do where a server joins requests.

    Raises:
        ContractError: onnxruntime refuses the graph, or an output differs by more than
            :data:`TOLERANCE`, or :data:`FLOAT16_TOLERANCE` for a graph in half precision.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no other base
        raise ContractError(f"onnxruntime refuses the graph ({error}): try another --opset") from error
    reference, tolerance = WireDenoiser(network), FLOAT16_TOLERANCE if float16 else TOLERANCE
    rng = np.random.default_rng(0)
    last = contract.schedule.timesteps - 1
    steps = np.unique(np.linspace(0, last, 5).astype(np.int64))
    batches = sorted({1, 2, 3, max_batch})
    names = [tensor.name for tensor in outputs(contract)]
    largest = 0.0
    for n in batches:
        for start in range(0, len(steps), n):
            batch = random_batch(contract, np.resize(np.roll(steps, -start), n), rng)
            with torch.inference_mode():
                expected = reference(**{name: _to_torch(value) for name, value in batch.items()})
            for name, wanted, got in zip(names, expected, session.run(names, batch), strict=True):
                difference = float(np.abs(wanted.numpy() - got).max())
                if not difference <= tolerance:  # NaN fails too
                    raise ContractError(
                        f"model {contract.name}: onnxruntime and torch differ by {difference:.2g} in {name!r} at "
                        f"batch {n}, more than {tolerance:g}: the graph is not the network"
                    )
                largest = max(largest, difference)
    return Parity(largest, "float16" if float16 else "float32", tuple(batches), tuple(steps.tolist()))


def _to_torch(value: npt.NDArray[Any]) -> torch.Tensor:
    tensor = torch.from_numpy(value)
    return tensor.float() if tensor.is_floating_point() else tensor
