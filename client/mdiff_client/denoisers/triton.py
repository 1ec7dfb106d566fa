"""A model behind an NVIDIA Triton server, over gRPC."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

import numpy as np
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from mdiff_client.denoisers import Fractions, Images, Steps, network_inputs, network_outputs
from mdiff_core import CONTRACT_KEY, ContractError, MdiffError, ModelContract, PermanentError, UnavailableError

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0

# channel_args replace tritonclient's own, so the message sizes stand here again; without the reconnect limit a client
# waits up to two minutes before it notices that a server is back.
_CHANNEL = [
    ("grpc.max_send_message_length", 2**31 - 1),
    ("grpc.max_receive_message_length", 2**31 - 1),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class TritonDenoiser:
    """A model of a Triton server. A call is pure, so one that finds the server away is made again.

    Args:
        url: ``host:port`` of the server's gRPC endpoint.
        model: the model's name.
        timeout: seconds that one call may take.
        patience: seconds for which a call is repeated while the server is unavailable. The first contact, which reads
            the contract, is made once only: a server that was never there is an error at once.

    Raises:
        UnavailableError: no server answers at ``url``.
        PermanentError: the server has no such model.
        ContractError: the model carries no contract, or one that cannot be used.
    """

    def __init__(self, url: str, model: str, *, timeout: float = 30.0, patience: float = 60.0) -> None:
        self._url, self._model, self._timeout, self._patience = url, model, timeout, patience
        self._client = triton.InferenceServerClient(url, channel_args=_CHANNEL)
        try:
            self.contract, self._max_batch = self._served()
        except BaseException:
            self.close()
            raise

    def predict(
        self, x: Images, t: Steps, label: Steps | None = None, fractions: Fractions | None = None
    ) -> tuple[Images, Images | None]:
        """See :class:`mdiff_client.denoisers.Denoiser`; more images than the server's batch go as several calls."""
        inputs = network_inputs(self.contract, x, t, label, fractions)
        parts = [slice(i, i + self._max_batch) for i in range(0, len(x), self._max_batch)]
        answers = [self._call({name: value[part] for name, value in inputs.items()}) for part in parts]
        eps, *v = (np.concatenate(output) for output in zip(*answers, strict=True))
        return eps, v[0] if v else None

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def __enter__(self) -> TritonDenoiser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _served(self) -> tuple[ModelContract, int]:
        """The model's contract and its largest batch."""
        try:
            config = self._client.get_model_config(self._model, client_timeout=self._timeout).config
        except InferenceServerException as error:
            raise _explained(error, self._url, self._model, self._timeout) from error
        if CONTRACT_KEY not in config.parameters:
            raise ContractError(
                f"model {self._model} at {self._url} carries no model contract: export it with mdiff-export"
            )
        return ModelContract.from_json(config.parameters[CONTRACT_KEY].string_value), max(1, config.max_batch_size)

    def _call(self, named: dict[str, np.ndarray[Any, Any]]) -> list[Images]:
        inputs = [_input(name, value) for name, value in named.items()]
        outputs = network_outputs(self.contract)
        requested = [triton.InferRequestedOutput(name) for name in outputs]
        give_up, pause = time.monotonic() + self._patience, _FIRST_PAUSE
        while True:
            try:
                answer = self._client.infer(self._model, inputs, outputs=requested, client_timeout=self._timeout)
                return [answer.as_numpy(name).astype(np.float32, copy=False) for name in outputs]
            except InferenceServerException as error:
                explained = _explained(error, self._url, self._model, self._timeout)
                if not isinstance(explained, UnavailableError) or time.monotonic() + pause > give_up:
                    raise explained from error
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def models_served(url: str, timeout: float) -> list[str]:
    """Names of the models that are ready on the server at ``url``, sorted.

    Raises:
        UnavailableError: no server answers.
    """
    with triton.InferenceServerClient(url, channel_args=_CHANNEL) as client:
        try:
            index = client.get_model_repository_index(client_timeout=timeout)
        except InferenceServerException as error:
            raise _explained(error, url, "", timeout) from error
    return sorted({entry.name for entry in index.models if entry.state == "READY"})  # one entry a version


def _explained(error: InferenceServerException, url: str, model: str, timeout: float) -> MdiffError:
    status, said = str(error.status() or ""), (error.message() or "").strip().splitlines() or [""]
    if "DEADLINE_EXCEEDED" in status:
        return UnavailableError(f"the server at {url} did not answer within {timeout:g} s: it is frozen or overloaded")
    if "UNAVAILABLE" in status and "maximum queue size" in said[0]:
        return UnavailableError(f"the server at {url} is overloaded: its queue is full")
    # A server that is shutting down still answers for a while, without models (triton-inference-server#6230).
    if "UNAVAILABLE" in status or "no available versions" in said[0]:
        return UnavailableError(f"no server answers at {url}: is mdiff-serve running there?")
    if "NOT_FOUND" in status or "unknown model" in said[0]:
        return PermanentError(f"the server at {url} has no model {model!r}: see mdiff-client info --url {url}")
    return PermanentError(f"the server at {url} refused the call: {said[0]}")


def _input(name: str, value: np.ndarray[Any, Any]) -> triton.InferInput:
    tensor = triton.InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
    tensor.set_data_from_numpy(value)
    return tensor
