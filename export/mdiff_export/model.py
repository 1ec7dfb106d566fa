"""From a checkpoint to a new version of a model in a repository, whole or not at all."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from mdiff_core import DataError, UsageError
from mdiff_export import OLDEST_OPSET, Backend, Precision
from mdiff_export.card import Metrics, model_card
from mdiff_export.config import triton_config
from mdiff_export.engine import build_engine
from mdiff_export.engine_parity import check_engine
from mdiff_export.graph import check_contract, check_parity, export_graph
from mdiff_export.parity import Parity
from mdiff_export.versions import new_version
from mdiff_training.checkpoint import Checkpoint
from mdiff_training.denoiser import Denoiser


@dataclass(frozen=True)
class ExportedModel:
    """A model written: its folder, the file of its graph, and the parity measured on it.

    ``engine_parity`` is that of the TensorRT engine; None: there is none, or no GPU to run it.
    """

    folder: Path
    graph: Path
    parity: Parity
    engine_parity: Parity | None


def export_model(
    checkpoint: Checkpoint,
    repository: Path,
    *,
    backend: Backend = "onnxruntime",
    precision: Precision = "float32",
    wire: Precision = "float32",
    max_batch: int = 64,
    opset: int = OLDEST_OPSET,
    metrics: Metrics | None = None,
) -> ExportedModel:
    """Write ``<repository>/<name>/`` with ``<version>/model.onnx``, ``config.pbtxt`` and ``README.md``.

    A model that is there already gets another version (:func:`~mdiff_export.versions.new_version`).

    Args:
        checkpoint: its averaged weights are exported.
        repository: a new or existing model repository.
        backend: of Triton; for ``tensorrt`` an engine is built as well.
        precision: that the network computes in.
        wire: type of images between client and server.
        max_batch: largest batch the server may form.
        opset: version of the ONNX operators.
        metrics: for the model card.

    Raises:
        UsageError: float16 on the wire of a network in float32, an ``opset`` that torch cannot write, or no TensorRT.
        DataError: the weights do not fit the network, or the repository cannot be written.
        ContractError: network and contract disagree, or the graph and the network do, or the engine and the graph.
        PermanentError: the engine cannot be built here.
    """
    if wire == "float16" and precision == "float32":
        raise UsageError("images of float16 go to a network that computes in float16: ask for --precision float16")
    provenance = dataclasses.replace(checkpoint.contract.provenance, weights_sha256=checkpoint.weights_sha256())
    contract = dataclasses.replace(checkpoint.contract, provenance=provenance, io_dtype=wire)
    network, float16 = _network(checkpoint), precision == "float16"
    check_contract(network, contract)
    with new_version(repository, contract.name) as draft:
        graph = draft.files / "model.onnx"
        export_graph(network, contract, graph, opset, float16=float16)
        parity = check_parity(network, contract, graph, max_batch, float16=float16)
        engine_parity = None
        if backend == "tensorrt":
            plan = draft.files / "model.plan"
            build_engine(graph, contract, plan, max_batch)
            engine_parity = check_engine(plan, graph, contract, max_batch, float16=float16)
        config = triton_config(contract, max_batch, backend, float16=float16)
        (draft.folder / "config.pbtxt").write_text(config, encoding="utf-8")
        card = model_card(
            contract,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            step=checkpoint.step,
            losses=checkpoint.losses,
            parity=parity,
            metrics=metrics,
        )
        (draft.folder / "README.md").write_text(card, encoding="utf-8")
    folder = repository.resolve() / contract.name
    return ExportedModel(folder, folder / draft.files.name / graph.name, parity, engine_parity)


def _network(checkpoint: Checkpoint) -> Denoiser:
    try:
        return checkpoint.denoiser()
    except RuntimeError as error:
        raise DataError("the checkpoint's weights do not fit its network: it is damaged") from error
