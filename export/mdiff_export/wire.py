"""The tensors a denoiser takes and gives, as Triton puts them on the wire: every one with a leading batch axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mdiff_core import ModelContract
from mdiff_core.contract import NOT_TOLD

Batch = dict[str, npt.NDArray[np.float16] | npt.NDArray[np.float32] | npt.NDArray[np.int64]]


@dataclass(frozen=True)
class WireTensor:
    """A tensor of a model; ``dims`` without the batch axis."""

    name: str
    dtype: Literal["float32", "float16", "int64"]
    dims: tuple[int, ...]


def inputs(contract: ModelContract) -> tuple[WireTensor, ...]:
    """``x`` [C, H, W], ``t`` [1] and, where the network takes them, ``label`` [1] and ``fractions`` [phases - 1]."""
    image = WireTensor("x", contract.io_dtype, (contract.channels, *contract.image_size))
    label = (WireTensor("label", "int64", (1,)),) if contract.labels else ()
    fractions = (WireTensor("fractions", "float32", (len(contract.fractions),)),) if contract.fractions else ()
    return (image, WireTensor("t", "int64", (1,)), *label, *fractions)


def outputs(contract: ModelContract) -> tuple[WireTensor, ...]:
    """``eps`` [C, H, W] and, where the variance is learned, ``v`` [C, H, W]."""
    names = ("eps", "v") if contract.prediction == "epsilon+variance" else ("eps",)
    return tuple(WireTensor(name, contract.io_dtype, (contract.channels, *contract.image_size)) for name in names)


def shapes(contract: ModelContract, batch: int) -> str:
    """Shapes of the inputs at a batch, as TensorRT's tools write them: ``x:64x1x64x64,t:64x1``."""
    return ",".join(f"{tensor.name}:{'x'.join(map(str, (batch, *tensor.dims)))}" for tensor in inputs(contract))


def profile(max_batch: int) -> dict[str, int]:
    """Batches of a TensorRT profile: the least, the one to be fastest at, the largest."""
    # A volume of the bundled models is asked for in calls of 64 slices.
    return {"min": 1, "opt": min(64, max_batch), "max": max_batch}


def random_batch(contract: ModelContract, steps: npt.NDArray[np.int64], rng: np.random.Generator) -> Batch:
    """Inputs for ``len(steps)`` samples: x ~ N(0, 1), t the given ``steps``, any label, any fractions or none."""
    n = len(steps)
    batch: Batch = {
        "x": rng.standard_normal((n, contract.channels, *contract.image_size), dtype=np.float32).astype(
            contract.io_dtype, copy=False
        ),
        "t": steps.reshape(n, 1),
    }
    if contract.labels:
        batch["label"] = rng.integers(0, contract.labels, (n, 1))
    if contract.fractions:
        told = rng.random((n, len(contract.fractions)), dtype=np.float32)
        batch["fractions"] = np.where(np.arange(n)[:, None] % 2, told, np.float32(NOT_TOLD))
    return batch
