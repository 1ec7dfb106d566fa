"""From a checkpoint to a model in a repository, whole or not at all."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mdiff_core import DataError, ModelContract, UsageError
from mdiff_export import OLDEST_OPSET
from mdiff_export.card import Metrics, model_card
from mdiff_export.config import triton_config
from mdiff_export.graph import check_contract, export_graph
from mdiff_export.parity import Parity, check_parity
from mdiff_training.checkpoint import Checkpoint
from mdiff_training.denoiser import Denoiser


@dataclass(frozen=True)
class ExportedModel:
    """A model written: its folder, and the parity measured on it."""

    folder: Path
    parity: Parity


def export_model(
    checkpoint: Checkpoint,
    repository: Path,
    *,
    max_batch: int = 64,
    opset: int = OLDEST_OPSET,
    metrics: Metrics | None = None,
    force: bool = False,
) -> ExportedModel:
    """Write ``<repository>/<name>/`` with ``1/model.onnx``, ``config.pbtxt`` and ``README.md``.

    The model grows in a folder beside the repository, where no server looks, and is renamed into it when all checks
    have passed; whatever fails before leaves the repository as it was.

    Args:
        checkpoint: its averaged weights are exported.
        repository: a new or existing model repository.
        max_batch: largest batch the server may form.
        opset: version of the ONNX operators.
        metrics: for the model card.
        force: replace a model of the same name.

    Raises:
        UsageError: the model exists and ``force`` is false, or torch cannot write ``opset``.
        DataError: the weights do not fit the network, or the repository cannot be written.
        ContractError: network and contract disagree, or the graph and the network do.
    """
    provenance = dataclasses.replace(checkpoint.contract.provenance, weights_sha256=checkpoint.weights_sha256())
    contract = dataclasses.replace(checkpoint.contract, provenance=provenance)
    network = _network(checkpoint)
    check_contract(network, contract)
    repository = repository.resolve()
    if repository.exists() and not repository.is_dir():
        raise DataError(f"{repository} is a file, not a model repository: name a folder")
    target = repository / contract.name
    if target.exists() and not force:
        raise UsageError(f"{target} exists: replace it with --force, or choose another repository")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{repository.name}-", dir=repository.parent) as scratch:
            folder = Path(scratch) / contract.name
            (folder / "1").mkdir(parents=True)
            parity = _fill(folder, network, contract, checkpoint, max_batch, opset, metrics)
            repository.mkdir(exist_ok=True)
            if force and target.exists():
                _replace(target, folder, Path(scratch) / "replaced")
            else:
                folder.rename(target)
    except OSError as error:
        raise DataError(f"cannot write into the repository {repository} ({error})") from error
    return ExportedModel(target, parity)


def _network(checkpoint: Checkpoint) -> Denoiser:
    try:
        return checkpoint.denoiser()
    except RuntimeError as error:
        raise DataError("the checkpoint's weights do not fit its network: it is damaged") from error


def _fill(
    folder: Path,
    network: Denoiser,
    contract: ModelContract,
    checkpoint: Checkpoint,
    max_batch: int,
    opset: int,
    metrics: Metrics | None,
) -> Parity:
    graph = folder / "1" / "model.onnx"
    export_graph(network, contract, graph, opset)
    parity = check_parity(network, contract, graph, max_batch)
    (folder / "config.pbtxt").write_text(triton_config(contract, max_batch), encoding="utf-8")
    card = model_card(
        contract,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        step=checkpoint.step,
        losses=checkpoint.losses,
        parity=parity,
        metrics=metrics,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    return parity


def _replace(target: Path, folder: Path, aside: Path) -> None:
    """Rename ``target`` to ``aside`` and ``folder`` to ``target``; if the second fails, take the first back."""
    target.rename(aside)
    try:
        folder.rename(target)
    except OSError:
        aside.rename(target)
        raise
