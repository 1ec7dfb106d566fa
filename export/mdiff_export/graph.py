"""The ONNX graph of a denoiser."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from mdiff_core import CONTRACT_KEY, ContractError, ModelContract, UsageError
from mdiff_export import OLDEST_OPSET
from mdiff_export.parity import Parity, compare, on_cpu
from mdiff_export.precision import to_float16
from mdiff_export.wire import Batch, inputs, outputs, random_batch
from mdiff_training.denoiser import Denoiser


class WireDenoiser(nn.Module):
    """A network that takes its steps and labels as [N, 1], and gives ``eps`` and, where it is learned, ``v``."""

    def __init__(self, network: Denoiser) -> None:
        super().__init__()
        self.network = network
        self.eval()

    def forward(
        self, x: Tensor, t: Tensor, label: Tensor | None = None, fractions: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """``x`` [N, C, H, W], ``t`` and ``label`` [N, 1] int64, ``fractions`` [N, P], to images like ``x``."""
        eps, v = self.network(x, t.squeeze(1), None if label is None else label.squeeze(1), fractions)
        return (eps,) if v is None else (eps, v)


def check_contract(network: Denoiser, contract: ModelContract) -> None:
    """Refuse a network that is not the one its contract describes.

    Raises:
        ContractError: channels, image size, prediction, labels or fractions disagree.
    """
    config = network.config
    prediction = "epsilon+variance" if config.learned_variance else "epsilon"
    height, width = contract.image_size
    for fits, message in (
        (config.channels == contract.channels, f"{config.channels} channels, not {contract.channels}"),
        (
            height % config.stride == 0 and width % config.stride == 0,
            f"images in multiples of {config.stride} pixels, not {height}×{width}",
        ),
        (prediction == contract.prediction, f"the prediction {prediction!r}, not {contract.prediction!r}"),
        (config.labels == contract.labels, f"{config.labels} labels, not {contract.labels}"),
        (
            config.fractions == len(contract.fractions),
            f"{config.fractions} fractions as its condition, not {len(contract.fractions)}",
        ),
    ):
        if not fits:
            raise ContractError(f"model {contract.name}: the network has {message} as its contract says")


def export_graph(
    network: Denoiser, contract: ModelContract, path: Path, opset: int = OLDEST_OPSET, *, float16: bool = False
) -> None:
    """Write the network as one ONNX file with a dynamic batch axis and the contract under ``CONTRACT_KEY``.

    With ``float16`` it computes in half precision, see :func:`~mdiff_export.precision.to_float16`.

    Raises:
        UsageError: torch cannot write this ``opset``.
    """
    # A batch of one would be taken for a constant (pytorch#157621).
    example = random_batch(
        dataclasses.replace(contract, io_dtype="float32"),
        np.array([0, contract.schedule.timesteps - 1]),
        np.random.default_rng(0),
    )
    with _quiet():
        program = torch.onnx.export(
            WireDenoiser(network),
            kwargs={name: torch.from_numpy(value) for name, value in example.items()},
            input_names=[tensor.name for tensor in inputs(contract)],
            output_names=[tensor.name for tensor in outputs(contract)],
            dynamic_shapes={name: {0: "batch"} for name in example},
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # None only where torch writes the file itself
    model = program.model_proto
    written = [entry.version for entry in model.opset_import if entry.domain == ""]
    if written != [opset]:
        raise UsageError(f"torch {torch.__version__} cannot write ONNX opset {opset}: try {OLDEST_OPSET}")
    _strip(model)
    if float16:
        model = to_float16(model, wire=contract.io_dtype == "float16")
    onnx.helper.set_model_props(model, {CONTRACT_KEY: contract.to_json()})
    onnx.save_model(model, path)


def check_parity(
    network: Denoiser, contract: ModelContract, path: Path, max_batch: int, *, float16: bool = False
) -> Parity:
    """Compare torch in float32 and onnxruntime on the CPU at batches 1, 2, 3 and ``max_batch``.

    Raises:
        ContractError: onnxruntime refuses the graph, or an output differs by more than
            :data:`~mdiff_export.parity.TOLERANCE`, or ``FLOAT16_TOLERANCE`` for a graph in half precision.
    """
    reference = WireDenoiser(network)

    def in_torch(batch: Batch) -> Sequence[npt.NDArray[Any]]:
        with torch.inference_mode():
            return [answer.numpy() for answer in reference(**{name: _to_torch(value) for name, value in batch.items()})]

    return compare(
        in_torch,
        on_cpu(path, contract),
        contract,
        {1, 2, 3, max_batch},
        float16=float16,
        names="onnxruntime and torch",
        verdict="the graph is not the network",
    )


def _to_torch(value: npt.NDArray[Any]) -> Tensor:
    tensor = torch.from_numpy(value)
    return tensor.float() if tensor.is_floating_point() else tensor


def _strip(model: onnx.ModelProto) -> None:
    """Take off what only a debugger of the exporter reads, above all source paths of the machine it ran on."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back torch's remarks on its own deprecations and on packages it can do without."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
