"""A repository is served unchanged by a real tritonserver, or refused with one clear line."""

from __future__ import annotations

import http.client
import os
import queue
import signal
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from mdiff_core import CONTRACT_KEY, DataError, ModelContract, UnavailableError, UsageError
from mdiff_core.repository import model_names, onnx_file
from mdiff_core.tls import Certificates
from mdiff_export.wire import random_batch
from mdiff_serving.server import EXIT_TIMEOUT, TritonServer

TIMEOUT = 30.0


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def log_folder(tmp_path, monkeypatch):
    """Where the logs of servers that failed stay."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_every_model_is_ready_with_its_contract(tiny_triton, client_of):
    client = client_of(tiny_triton)
    assert tiny_triton.models == ["tiny"]
    assert client.is_model_ready("tiny", client_timeout=TIMEOUT)
    parameters = client.get_model_config("tiny", client_timeout=TIMEOUT).config.parameters
    assert ModelContract.from_json(parameters[CONTRACT_KEY].string_value).name == "tiny"


def test_only_the_loopback_address_listens(tiny_triton, listening_addresses):
    for address in (tiny_triton.grpc_address, tiny_triton.http_address, tiny_triton.metrics_address):
        assert listening_addresses(int(address.rpartition(":")[2])) == {"127.0.0.1"}


def test_no_client_can_load_or_unload_a_model(tiny_triton, client_of):
    client = client_of(tiny_triton)
    for control in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="not allowed"):
            control("tiny", client_timeout=TIMEOUT)
    assert client.is_model_ready("tiny", client_timeout=TIMEOUT)


def test_no_client_can_change_what_is_logged_or_traced_or_share_memory(tiny_triton, client_of):
    client = client_of(tiny_triton)
    for control in (
        lambda: client.update_log_settings({"log_verbose_level": 1}, client_timeout=TIMEOUT),
        lambda: client.update_trace_settings(settings={"trace_level": "TIMESTAMPS"}, client_timeout=TIMEOUT),
        lambda: client.register_system_shared_memory("mine", "/mine", 64, client_timeout=TIMEOUT),
    ):
        with pytest.raises(InferenceServerException, match="restricted"):
            control()
    connection = http.client.HTTPConnection(tiny_triton.http_address, timeout=TIMEOUT)
    for path, expected in (("/v2/logging", 403), ("/v2/trace/setting", 403), ("/v2/models/tiny/config", 200)):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == expected, path
    connection.close()


def test_with_a_certificate_grpc_is_encrypted(tls_triton, client_of, server_certificates):
    with grpc.InferenceServerClient(
        tls_triton.grpc_address, ssl=True, root_certificates=server_certificates.ca
    ) as client:
        assert client.is_model_ready("tiny", client_timeout=TIMEOUT)
    with pytest.raises(InferenceServerException, match="UNAVAILABLE"):
        client_of(tls_triton).is_model_ready("tiny", client_timeout=TIMEOUT)


def test_with_an_authority_grpc_takes_only_clients_that_it_signed(mutual_triton, issue):
    def is_ready(shown):
        with grpc.InferenceServerClient(
            mutual_triton.grpc_address,
            ssl=True,
            root_certificates=house.ca,
            certificate_chain=shown and shown.certificate,
            private_key=shown and shown.key,
        ) as client:
            return client.is_model_ready("tiny", client_timeout=TIMEOUT)

    house, stranger = issue("house", "client@mdiff"), issue("strangers", "client@mdiff")
    assert is_ready(house)
    for shown in (None, stranger):
        with pytest.raises(InferenceServerException, match="UNAVAILABLE"):
            is_ready(shown)


def test_beside_encrypted_grpc_http_tells_health_alone(tls_triton):
    connection = http.client.HTTPConnection(tls_triton.http_address, timeout=TIMEOUT)

    def status(method, path):
        connection.request(method, path, body=b"{}" if method == "POST" else None)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/tiny/ready"):
        assert status("GET", path) == 200
    for method, path in (
        ("GET", "/v2"),
        ("GET", "/v2/models/tiny"),
        ("GET", "/v2/models/tiny/config"),
        ("GET", "/v2/models/tiny/stats"),
        ("POST", "/v2/models/tiny/infer"),
        ("POST", "/v2/repository/index"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("GET", "/v2/trace/setting"),
        ("GET", "/v2/logging"),
    ):
        assert status(method, path) == 403, path
    connection.close()


def test_an_authority_without_a_certificate_is_refused(tiny_repository, server_certificates):
    with pytest.raises(UsageError, match="give --tls-cert and --tls-key"):
        TritonServer(tiny_repository, tls=Certificates(server_certificates.ca))


def test_a_host_name_means_its_address(installed_triton, tiny_repository, free_port, listening_addresses, monkeypatch):
    monkeypatch.setattr("mdiff_serving.server.START_TIMEOUT", TIMEOUT)
    grpc, http, metrics = (free_port() for _ in range(3))
    with TritonServer(tiny_repository, host="localhost", grpc_port=grpc, http_port=http, metrics_port=metrics):
        assert [listening_addresses(port) for port in (grpc, http, metrics)] == [{"127.0.0.1"}] * 3


@pytest.mark.parametrize("batch", [1, 2, 3, 64])
def test_an_answer_over_grpc_is_the_closed_form(batch, tiny_triton, client_of, infer_input, tiny_feeds, tiny_answer):
    feeds = tiny_feeds(batch, seed=batch)
    answer = client_of(tiny_triton).infer("tiny", infer_input(feeds), client_timeout=TIMEOUT)
    np.testing.assert_allclose(answer.as_numpy("eps"), tiny_answer(feeds), atol=1e-6)


def test_requests_at_once_share_batches_and_each_gets_its_own_answer(
    tiny_triton, client_of, infer_input, tiny_feeds, tiny_answer
):
    client = client_of(tiny_triton)
    feeds = [tiny_feeds(1 + i % 5, seed=i) for i in range(64)]

    def executions() -> int:
        return client.get_inference_statistics("tiny", client_timeout=TIMEOUT).model_stats[0].execution_count

    before = executions()
    answers: queue.Queue = queue.Queue()
    tiny_triton.process.send_signal(signal.SIGSTOP)  # until all are sent, or a quick server takes one after the other
    for i, one in enumerate(feeds):
        client.async_infer(
            "tiny", infer_input(one), lambda result, error, i=i: answers.put((i, result, error)), client_timeout=TIMEOUT
        )
    tiny_triton.process.send_signal(signal.SIGCONT)
    for _ in feeds:
        i, result, error = answers.get(timeout=TIMEOUT)
        assert error is None
        np.testing.assert_allclose(result.as_numpy("eps"), tiny_answer(feeds[i]), atol=1e-6)
    assert executions() - before < len(feeds)


def test_an_error_in_the_graph_answers_the_request_and_the_server_lives_on(
    tiny_triton, client_of, infer_input, tiny_feeds, tiny_answer
):
    client = client_of(tiny_triton)
    feeds = tiny_feeds(2, seed=0)
    with pytest.raises(InferenceServerException, match="out of data bounds"):
        client.infer("tiny", infer_input({**feeds, "t": np.array([[5], [1000]])}), client_timeout=TIMEOUT)
    answer = client.infer("tiny", infer_input(feeds), client_timeout=TIMEOUT)
    np.testing.assert_allclose(answer.as_numpy("eps"), tiny_answer(feeds), atol=1e-6)


def test_the_bundled_models_answer_as_onnxruntime_in_process(repository, triton, client_of, infer_input):
    client = client_of(triton)
    for name in model_names(repository):
        session = onnxruntime.InferenceSession(onnx_file(repository, name), providers=["CPUExecutionProvider"])
        contract = ModelContract.from_json(session.get_modelmeta().custom_metadata_map[CONTRACT_KEY])
        rng = np.random.default_rng(0)
        feeds = random_batch(contract, rng.integers(0, contract.schedule.timesteps, 3), rng)
        answer = client.infer(name, infer_input(feeds), client_timeout=TIMEOUT)
        outputs = [tensor.name for tensor in session.get_outputs()]
        for output, expected in zip(outputs, session.run(outputs, feeds), strict=True):
            np.testing.assert_allclose(answer.as_numpy(output), expected, atol=1e-5, err_msg=f"{name}: {output}")


def test_a_killed_server_restarts_on_its_ports(
    start_triton, tiny_repository, log_folder, client_of, infer_input, tiny_feeds, tiny_answer
):
    server = start_triton(tiny_repository)
    server.process.kill()
    with pytest.raises(UnavailableError, match="SIGKILL"):
        server.wait()
    server.stop()
    server.start()
    feeds = tiny_feeds(1, seed=1)
    answer = client_of(server).infer("tiny", infer_input(feeds), client_timeout=TIMEOUT)
    np.testing.assert_allclose(answer.as_numpy("eps"), tiny_answer(feeds), atol=1e-6)


def test_a_frozen_server_can_be_stopped_and_leaves_no_process(start_triton, tiny_repository, processes_under):
    server = start_triton(tiny_repository)
    pid = server.process.pid
    assert processes_under(os.getpid())[pid] == "tritonserver"
    server.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < EXIT_TIMEOUT
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)


def test_a_missing_and_an_empty_repository_are_refused(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such model repository"):
        TritonServer(tmp_path / "nowhere").start()
    with pytest.raises(DataError, match="holds no model"):
        TritonServer(tmp_path).start()


def test_one_port_for_two_services_is_refused(tiny_repository, free_port):
    port = free_port()
    server = TritonServer(tiny_repository, grpc_port=port, http_port=port, metrics_port=free_port())
    with pytest.raises(UsageError, match=rf"127\.0\.0\.1:{port} \(Address already in use"):
        server.start()


def test_a_truncated_model_is_named_and_the_log_kept(start_triton, tiny_repository, log_folder):
    model = tiny_repository / "tiny" / "1" / "model.onnx"
    model.write_bytes(model.read_bytes()[:300])
    with pytest.raises(
        DataError, match=r"model tiny: .*/1/model\.onnx cannot be loaded.*Protobuf parsing failed"
    ) as failed:
        start_triton(tiny_repository)
    assert "\n" not in str(failed.value)
    (log,) = log_folder.glob("mdiff-serve-*.log")
    assert f"(server log: {log})" in str(failed.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_batch_size", "max_batchsize", r'config\.pbtxt: 3:14: .*no field named "max_batchsize"'),
        ('name: "eps"', 'name: "noise"', "describes noise .* has no such tensor"),
        ("dims: [ 1, 64, 64 ] }\ninput", "dims: [ 1, 32, 64 ] }\ninput", r"x as .*\[-1, 1, 32, 64\].*None, 1, 64, 64"),
        ("TYPE_FP32", "TYPE_FP64", r"x as float64 .* has float32"),
        ('input { name: "t" data_type: TYPE_INT64 dims: [ 1 ] }\n', "", "lacks input t"),
        ('"onnxruntime"', '"pytorch"', "model tiny: .*backend 'pytorch'"),
    ],
)
def test_a_wrong_configuration_is_refused_at_the_start(old, new, message, start_triton, tiny_repository, log_folder):
    edit(tiny_repository / "tiny" / "config.pbtxt", old, new)
    with pytest.raises(DataError, match=message) as failed:
        start_triton(tiny_repository)
    assert "\n" not in str(failed.value)
