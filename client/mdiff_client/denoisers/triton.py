"""A model behind an NVIDIA Triton server, over gRPC."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Any

import numpy as np
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from mdiff_client.denoisers import REQUEST_BYTES, Fractions, Images, Steps, network_inputs, network_outputs
from mdiff_client.denoisers.connection import Connection
from mdiff_core import CONTRACT_KEY, ContractError, MdiffError, ModelContract, PermanentError, UnavailableError

_logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


class TritonDenoiser:
    """A model of a Triton server. A call is pure, so one that finds the server away is made again.

    The first contact, which reads the contract, is made once only: a server that was never there is an error at once.

    Args:
        connection: how the server is reached.
        model: the model's name.

    Raises:
        UnavailableError: no server answers.
        PermanentError: the server has no such model, or refuses this client.
        ContractError: the model carries no contract, or one that cannot be used.
    """

    calls_at_once = 4

    def __init__(self, connection: Connection, model: str) -> None:
        self._connection, self._model = connection, model
        self._client = _client(connection)
        try:
            self.contract, self._max_batch = self._served()
        except BaseException:
            self.close()
            raise

    def predict(
        self, x: Images, t: Steps, label: Steps | None = None, fractions: Fractions | None = None
    ) -> tuple[Images, Images | None]:
        """See :class:`mdiff_client.denoisers.Denoiser`; more images than one request holds go as several calls."""
        inputs = network_inputs(self.contract, x, t, label, fractions)
        batch = min(self._max_batch, max(1, REQUEST_BYTES // inputs["x"][0].nbytes))
        parts = [slice(i, i + batch) for i in range(0, len(x), batch)]
        answers = [self._call({name: value[part] for name, value in inputs.items()}) for part in parts]
        eps, *v = answers[0] if len(parts) == 1 else map(np.concatenate, zip(*answers, strict=True))
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
            config = self._client.get_model_config(self._model, client_timeout=self._connection.timeout).config
        except InferenceServerException as error:
            raise _first_contact(error, self._connection, self._model) from error
        if CONTRACT_KEY not in config.parameters:
            raise ContractError(
                f"model {self._model} at {self._connection.url} carries no model contract: export it with "
                "mdiff-export repository"
            )
        return ModelContract.from_json(config.parameters[CONTRACT_KEY].string_value), max(1, config.max_batch_size)

    def _call(self, named: dict[str, np.ndarray[Any, Any]]) -> list[Images]:
        inputs = [_input(name, value) for name, value in named.items()]
        outputs = network_outputs(self.contract)
        requested = [triton.InferRequestedOutput(name) for name in outputs]
        timeout, began, pause = self._connection.timeout, time.monotonic(), _FIRST_PAUSE
        while True:
            try:
                answer = self._client.infer(self._model, inputs, outputs=requested, client_timeout=timeout)
                return [answer.as_numpy(name).astype(np.float32, copy=False) for name in outputs]
            except InferenceServerException as error:
                explained, waited = _explained(error, self._connection, self._model), time.monotonic() - began
                if not isinstance(explained, UnavailableError) or waited + pause > self._connection.patience:
                    raise explained from error
            _logger.info(
                "call retried", extra={"figures": {"reason": str(explained), "waited_seconds": round(waited, 3)}}
            )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def models_served(connection: Connection) -> list[str]:
    """Names of the models that are ready on a server, sorted.

    Raises:
        UnavailableError: no server answers.
        PermanentError: the server refuses this client.
    """
    with _client(connection) as client:
        try:
            index = client.get_model_repository_index(client_timeout=connection.timeout)
        except InferenceServerException as error:
            raise _first_contact(error, connection, "") from error
    return sorted({entry.name for entry in index.models if entry.state == "READY"})  # one entry a version


def _client(connection: Connection) -> triton.InferenceServerClient:
    tls = connection.tls
    client = triton.InferenceServerClient(
        connection.url,
        ssl=tls.ca is not None,
        root_certificates=tls.ca,
        certificate_chain=tls.certificate,
        private_key=tls.key,
        # These replace tritonclient's own, so the message sizes stand here again.
        channel_args=[
            ("grpc.max_send_message_length", 2**31 - 1),
            ("grpc.max_receive_message_length", 2**31 - 1),
            # Without it a client waits up to two minutes before it notices that a server is back.
            ("grpc.max_reconnect_backoff_ms", 1000),
            # The default stays with one of a server's replicas.
            ("grpc.lb_policy_name", "round_robin"),
            # A proxy's localhost is another machine.
            ("grpc.enable_http_proxy", int(not connection.is_loopback)),
        ],
    )
    if connection.token:
        bearer = {"authorization": f"Bearer {connection.token}"}
        client.register_plugin(lambda request: request.headers.update(bearer))
    return client


def _first_contact(error: InferenceServerException, connection: Connection, model: str) -> MdiffError:
    explained = _explained(error, connection, model)
    refusal = connection.refusal() if "UNAVAILABLE" in str(error.status()) else None
    return PermanentError(f"the server at {connection.url} {refusal}") if refusal else explained


def _explained(error: InferenceServerException, connection: Connection, model: str) -> MdiffError:
    server = f"the server at {connection.url}"
    status, said = str(error.status() or ""), (error.message() or "").strip().splitlines() or [""]
    if "DEADLINE_EXCEEDED" in status:
        return UnavailableError(f"{server} did not answer within {connection.timeout:g} s: it is frozen or overloaded")
    if "UNAVAILABLE" in status and "maximum queue size" in said[0]:
        return UnavailableError(f"{server} is overloaded: its queue is full")
    # A server that is shutting down still answers for a while, without models (triton-inference-server#6230).
    if "UNAVAILABLE" in status or "no available versions" in said[0]:
        port = "; gRPC is on port 8001" if connection.port == 8000 else ""  # Triton's HTTP is on 8000
        return UnavailableError(f"no server answers at {connection.url}: is mdiff-serve running there?{port}")
    if "UNAUTHENTICATED" in status or "PERMISSION_DENIED" in status:
        return PermanentError(f"{server} wants another bearer token than it was given: set MDIFF_TOKEN ({said[0]})")
    if "NOT_FOUND" in status or "unknown model" in said[0]:
        return PermanentError(f"{server} has no model {model!r}: see mdiff-client info --url {connection.url}")
    return PermanentError(f"{server} refused the call: {said[0]}")


def _input(name: str, value: np.ndarray[Any, Any]) -> triton.InferInput:
    tensor = triton.InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
    tensor.set_data_from_numpy(value)
    return tensor
