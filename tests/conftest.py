"""Real servers for every room's tests, and a model so small that its answer is known in closed form."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mdiff_core import CONTRACT_KEY, ModelContract, PermanentError, Phase, Provenance, ScheduleSpec, UnavailableError
from mdiff_core.repository import bundled_repository
from mdiff_core.tls import Certificates
from mdiff_serving.environment import server_environment
from mdiff_serving.server import TritonServer

StartTriton = Callable[..., TritonServer]
Issue = Callable[..., Certificates]

TINY = ModelContract(
    name="tiny",
    image_size=(64, 64),
    channels=1,
    phases=(Phase("matrix", 0), Phase("phase", 255)),
    schedule=ScheduleSpec("linear", 1000),
    prediction="epsilon",
    provenance=Provenance(data="none", licence="CC0-1.0", command="pytest", git_revision="none"),
)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The models that come with mdiff."""
    return bundled_repository()


@pytest.fixture(scope="session")
def blocks() -> Callable[[Path], list[tuple[str, str]]]:
    """``blocks(page)``: language and text of each block of code of a Markdown file that can run here.

    One that cannot is marked by a line ``*Needs a GPU:*`` before it.
    """

    def read(page: Path) -> list[tuple[str, str]]:
        found = re.findall(r"(^\*Needs .+:\*\n\n)?^```(\w+)\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
        return [(language, block) for needs, language, block in found if not needs]

    return read


@pytest.fixture
def tiny_repository(tmp_path: Path) -> Path:
    """A repository of one model, ``tiny``: eps = 0.1·x + t/1000, t in 0-999; another t is an error of the graph."""
    return write_tiny_repository(tmp_path / "repository")


@pytest.fixture(scope="session")
def installed_triton() -> None:
    """A tritonserver can be run here: skips where it cannot be installed, fails on CI."""
    try:
        server_environment()
    except (PermanentError, UnavailableError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Triton server here: {error}")


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A function that gives a port of 127.0.0.1 nobody listens on."""
    return _free_port


@pytest.fixture(scope="session")
def serve(installed_triton: None) -> Callable[[Path], TritonServer]:
    """``serve(repository)``: a server on free ports, to be used as a context manager."""
    return _server


@pytest.fixture(scope="session")
def triton(repository: Path, installed_triton: None) -> Iterator[TritonServer]:
    """A server on the models that come with mdiff; leave it as it is."""
    with _server(repository) as server:
        yield server


@pytest.fixture(scope="session")
def tiny_triton(tmp_path_factory: pytest.TempPathFactory, installed_triton: None) -> Iterator[TritonServer]:
    """A server on ``tiny_repository``'s model; leave it as it is."""
    with _server(write_tiny_repository(tmp_path_factory.mktemp("tiny") / "repository")) as server:
        yield server


@pytest.fixture(scope="session")
def issue(tmp_path_factory: pytest.TempPathFactory) -> Issue:
    """``issue(authority, *names)``: PEM files of a certificate for these names, signed by the named authority."""
    import trustme

    folder, authorities = tmp_path_factory.mktemp("certificates"), {}

    def certificates(authority: str, *names: str) -> Certificates:
        signer = authorities.setdefault(authority, trustme.CA())
        leaf, stem = signer.issue_cert(*names), f"{authority}-{names[0]}"
        ca, certificate, key = (folder / f"{name}.pem" for name in (authority, stem, f"{stem}-key"))
        signer.cert_pem.write_to_path(ca)
        leaf.private_key_pem.write_to_path(key)
        certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        return Certificates(ca, certificate, key)

    return certificates


@pytest.fixture(scope="session")
def server_certificates(issue: Issue) -> Certificates:
    """What a server on this machine shows, and the authority that also signs the clients it trusts."""
    return issue("house", "localhost", "127.0.0.1")


@pytest.fixture(scope="session")
def tls_triton(
    tmp_path_factory: pytest.TempPathFactory, installed_triton: None, server_certificates: Certificates
) -> Iterator[TritonServer]:
    """A server on ``tiny_repository``'s model that encrypts; leave it as it is."""
    repository = write_tiny_repository(tmp_path_factory.mktemp("tls") / "repository")
    with _server(repository, tls=replace(server_certificates, ca=None)) as server:
        yield server


@pytest.fixture(scope="session")
def mutual_triton(
    tmp_path_factory: pytest.TempPathFactory, installed_triton: None, server_certificates: Certificates
) -> Iterator[TritonServer]:
    """A server on ``tiny_repository``'s model that encrypts and demands a client certificate; leave it as it is."""
    repository = write_tiny_repository(tmp_path_factory.mktemp("mutual") / "repository")
    with _server(repository, tls=server_certificates) as server:
        yield server


@pytest.fixture
def start_triton(installed_triton: None) -> Iterator[StartTriton]:
    """``start_triton(repository, grpc_port=None, tls=None)``: a server of the test's own, stopped at the end.

    The test may kill it, freeze it (SIGSTOP to ``.process``) or restart it (``stop``, ``start``).
    """
    servers = []

    def start(repository: Path, grpc_port: int | None = None, tls: Certificates | None = None) -> TritonServer:
        server = _server(repository, grpc_port, tls)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


def write_tiny_repository(folder: Path) -> Path:
    """Write the model ``tiny`` as the exporter lays a model out."""
    import onnx
    from onnx import TensorProto, helper

    image, step = ["N", 1, 64, 64], ["N", 1]
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "tenth"], ["scaled"]),
            helper.make_node("Gather", ["thousandths", "t"], ["time"]),
            helper.make_node("Unsqueeze", ["time", "axes"], ["shift"]),
            helper.make_node("Add", ["scaled", "shift"], ["eps"]),
        ],
        "tiny",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, image),
            helper.make_tensor_value_info("t", TensorProto.INT64, step),
        ],
        [helper.make_tensor_value_info("eps", TensorProto.FLOAT, image)],
        [
            helper.make_tensor("tenth", TensorProto.FLOAT, [], [0.1]),
            helper.make_tensor("thousandths", TensorProto.FLOAT, [1000], [t / 1000 for t in range(1000)]),
            helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {CONTRACT_KEY: TINY.to_json()})
    onnx.checker.check_model(model)
    version = folder / "tiny" / "1"
    version.mkdir(parents=True)
    onnx.save(model, version / "model.onnx")
    contract = TINY.to_json().replace("\\", "\\\\").replace('"', '\\"')
    (folder / "tiny" / "config.pbtxt").write_text(
        f"""\
name: "tiny"
backend: "onnxruntime"
max_batch_size: 64
input {{ name: "x" data_type: TYPE_FP32 dims: [ 1, 64, 64 ] }}
input {{ name: "t" data_type: TYPE_INT64 dims: [ 1 ] }}
output {{ name: "eps" data_type: TYPE_FP32 dims: [ 1, 64, 64 ] }}
instance_group {{ count: 1 }}
dynamic_batching {{ max_queue_delay_microseconds: 0 default_queue_policy {{ max_queue_size: 256 }} }}
model_warmup {{
  name: "batch 1"
  batch_size: 1
  inputs {{ key: "x" value {{ data_type: TYPE_FP32 dims: [ 1, 64, 64 ] zero_data: true }} }}
  inputs {{ key: "t" value {{ data_type: TYPE_INT64 dims: [ 1 ] zero_data: true }} }}
}}
parameters {{ key: "{CONTRACT_KEY}" value {{ string_value: "{contract}" }} }}
""",
        encoding="utf-8",
    )
    return folder


def _server(repository: Path, grpc_port: int | None = None, tls: Certificates | None = None) -> TritonServer:
    return TritonServer(
        repository, grpc_port=grpc_port or _free_port(), http_port=_free_port(), metrics_port=_free_port(), tls=tls
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
