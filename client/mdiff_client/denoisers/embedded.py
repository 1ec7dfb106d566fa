"""The embedded engine: onnxruntime in this process, reading the same model repository that Triton serves."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime

from mdiff_client.denoisers import Fractions, Images, Steps, network_inputs, network_outputs
from mdiff_core import CONTRACT_KEY, ContractError, DataError, ModelContract, PermanentError
from mdiff_core.repository import onnx_file

_FATAL_ONLY = 4
_PIECE = 32  # images; larger ones leave the processor's caches: 192 at once took 10 % longer


class EmbeddedDenoiser:
    """A model of a repository on this machine.

    Args:
        repository: the model repository.
        model: the model's name in it.

    Raises:
        UsageError: no such model.
        DataError: the repository is missing, or its ONNX file is damaged.
        ContractError: the ONNX file carries no contract, or one that cannot be used.
    """

    calls_at_once = 1  # which takes all cores, or the GPU

    def __init__(self, repository: Path, model: str) -> None:
        path = onnx_file(repository, model)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL_ONLY
        # A core computes images of its own: all of them on the same ones wait for each other after every operator.
        options.intra_op_num_threads = 1
        # Not TensorRT's, which would build an engine for every new batch size.
        available = onnxruntime.get_available_providers()
        providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise DataError(f"{path}: not a readable ONNX model; export it again ({_first_line(error)})") from error
        on_gpu = "CUDAExecutionProvider" in self._session.get_providers()
        self._cores, self._piece = (1, sys.maxsize) if on_gpu else (_cores(), _PIECE)
        self._calls = ThreadPoolExecutor(self._cores, thread_name_prefix="mdiff-embedded")
        metadata = self._session.get_modelmeta().custom_metadata_map
        if CONTRACT_KEY not in metadata:
            raise ContractError(f"{path}: carries no model contract; export it with mdiff-export repository")
        self.contract = ModelContract.from_json(metadata[CONTRACT_KEY])

    def predict(
        self, x: Images, t: Steps, label: Steps | None = None, fractions: Fractions | None = None
    ) -> tuple[Images, Images | None]:
        """See :class:`mdiff_client.denoisers.Denoiser`."""
        inputs, outputs = network_inputs(self.contract, x, t, label, fractions), network_outputs(self.contract)
        size = min(self._piece, -(-len(x) // self._cores))
        pieces = [{name: value[i : i + size] for name, value in inputs.items()} for i in range(0, len(x), size)]
        try:
            answers = list(self._calls.map(lambda piece: self._session.run(outputs, piece), pieces))
        except Exception as error:
            raise PermanentError(f"model {self.contract.name} refused the call: {_first_line(error)}") from error
        eps, *v = (np.concatenate(parts).astype(np.float32, copy=False) for parts in zip(*answers, strict=True))
        return eps, v[0] if v else None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
