"""Addresses, TLS and tokens, against real servers with certificates made here."""

import socket
from concurrent import futures

import grpc
import numpy as np
import pytest

from mdiff_client.denoisers.connection import Connection
from mdiff_client.denoisers.triton import TritonDenoiser
from mdiff_core import PermanentError, UnavailableError, UsageError
from mdiff_core.tls import Certificates

TOKEN = "eyJhbGciOi.J9-_~+/aa=="


class Gate(grpc.GenericRpcHandler):
    """Passes calls that carry the token on to a server, as the proxy before a cluster does; the others are refused."""

    def __init__(self, behind):
        self.channel, self.passed = grpc.insecure_channel(behind), []

    def service(self, details):
        def call(request, context):
            if ("authorization", f"Bearer {TOKEN}") not in details.invocation_metadata:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "no such token")
            self.passed.append(details.method.rpartition("/")[2])
            return self.channel.unary_unary(details.method)(request)

        return grpc.unary_unary_rpc_method_handler(call)


@pytest.fixture
def open_gate(tiny_triton, free_port):
    """``open_gate(host, port, credentials)``: a gate before the server of ``tiny``, and its address."""
    opened = []

    def start(host="127.0.0.1", port=None, credentials=None):
        gate, server = Gate(tiny_triton.grpc_address), grpc.server(futures.ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers([gate])
        address = f"{host}:{port or free_port()}"
        if credentials:
            server.add_secure_port(address, credentials)
        else:
            server.add_insecure_port(address)
        server.start()
        opened.append((gate, server))
        return gate, address

    yield start
    for gate, server in opened:
        server.stop(0).wait()
        gate.channel.close()


def port_of(server):
    return server.grpc_address.rpartition(":")[2]


def answers(connection):
    x, t = np.ones((3, 1, 64, 64), np.float32), np.array([0, 10, 999])
    with TritonDenoiser(connection, "tiny") as denoiser:
        return np.allclose(denoiser.predict(x, t)[0], 0.1 + t[:, None, None, None] / 1000, atol=1e-6)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "dns:///localhost"])
def test_an_encrypted_call_is_answered(host, tls_triton, server_certificates):
    assert answers(Connection(f"{host}:{port_of(tls_triton)}", tls=Certificates(server_certificates.ca)))


def test_a_client_that_proves_itself_is_answered(mutual_triton, issue):
    assert answers(Connection(mutual_triton.grpc_address, tls=issue("house", "client@mdiff")))


@pytest.mark.parametrize(
    ("server", "tls", "kind", "complaint"),
    [
        ("tls_triton", None, PermanentError, "wants TLS: give --tls-ca"),
        ("mutual_triton", None, PermanentError, "wants TLS: give --tls-ca"),
        ("tls_triton", "strangers", PermanentError, "not accepted .*unable to get local issuer certificate"),
        ("mutual_triton", "house", PermanentError, "does not accept this client: give --tls-cert and --tls-key"),
        ("mutual_triton", "stranger's certificate", PermanentError, "does not accept this client"),
        ("tiny_triton", "house", PermanentError, "does not speak TLS there"),
        (None, "house", UnavailableError, "no server answers"),
    ],
)
def test_a_server_and_a_client_that_do_not_trust_each_other(
    server, tls, kind, complaint, request, issue, server_certificates, free_port
):
    url = request.getfixturevalue(server).grpc_address if server else f"127.0.0.1:{free_port()}"
    stranger = issue("strangers", "client@mdiff")
    certificates = {
        None: Certificates(),
        "house": Certificates(server_certificates.ca),
        "strangers": Certificates(stranger.ca),
        "stranger's certificate": Certificates(server_certificates.ca, stranger.certificate, stranger.key),
    }[tls]
    with pytest.raises(kind, match=complaint):
        TritonDenoiser(Connection(url, tls=certificates), "tiny")


def test_the_certificate_of_another_host_is_not_accepted(start_triton, tiny_repository, issue):
    elsewhere = issue("house", "elsewhere.example")
    server = start_triton(tiny_repository, tls=Certificates(None, elsewhere.certificate, elsewhere.key))
    with pytest.raises(PermanentError, match=r"not accepted .*not valid for '127\.0\.0\.1'"):
        TritonDenoiser(Connection(server.grpc_address, tls=Certificates(elsewhere.ca)), "tiny")


def test_every_call_carries_the_token(open_gate, server_certificates):
    key, chain = server_certificates.key.read_bytes(), server_certificates.certificate.read_bytes()
    gate, address = open_gate(credentials=grpc.ssl_server_credentials([(key, chain)]))
    assert answers(Connection(address, tls=Certificates(server_certificates.ca), token=TOKEN))
    assert gate.passed == ["ModelConfig", "ModelInfer"]


@pytest.mark.parametrize("token", [None, "another"])
def test_a_call_without_the_token_is_refused_for_good(token, open_gate):
    gate, address = open_gate()
    with pytest.raises(PermanentError, match=r"another bearer token .* set MDIFF_TOKEN \(no such token\)"):
        TritonDenoiser(Connection(address, token=token), "tiny")
    assert gate.passed == []


def test_replicas_are_called_in_turn(open_gate, free_port):
    port = free_port()
    try:
        socket.create_server(("::1", port), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"localhost has one address here, 127.0.0.1, not also ::1 ({error})")
    gates = [open_gate(host, port)[0] for host in ("127.0.0.1", "[::1]")]
    x, t = np.ones((1, 1, 64, 64), np.float32), np.array([0])
    with TritonDenoiser(Connection(f"dns:///localhost:{port}", token=TOKEN), "tiny") as denoiser:
        for _ in range(20):
            denoiser.predict(x, t)
    assert all(gate.passed.count("ModelInfer") >= 5 for gate in gates)


def test_no_proxy_stands_before_this_machine(tiny_triton, monkeypatch, free_port):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    assert answers(Connection(tiny_triton.grpc_address))


@pytest.mark.parametrize(
    ("url", "host", "loopback"),
    [
        ("127.0.0.1:8001", "127.0.0.1", True),
        ("127.9.9.9:8001", "127.9.9.9", True),
        ("[::1]:8001", "::1", True),
        ("localhost:8001", "localhost", True),
        ("dns:///localhost:8001", "localhost", True),
        ("dns:///triton.mdiff.svc:8001", "triton.mdiff.svc", False),
        ("localhost.example:8001", "localhost.example", False),
        ("0.0.0.0:8001", "0.0.0.0", False),
        ("[2001:db8::1]:8001", "2001:db8::1", False),
    ],
)
def test_an_address_tells_its_host(url, host, loopback):
    connection = Connection(url)
    assert (connection.host, connection.port, connection.is_loopback) == (host, 8001, loopback)


@pytest.mark.parametrize(
    "url",
    [
        "localhost",
        "http://localhost:8001",
        "dns://192.0.2.1/localhost:8001",  # another server says what localhost is
        "ipv4:192.0.2.1:8001",
        "localhost:8001,192.0.2.1:8001",
        "unix:socket",
        "localhost:65536",
        "::1:8001",
        "localhost:8001/",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(UsageError, match="give host:port, or dns:///host:port"):
        Connection(url)


@pytest.mark.parametrize("token", ["two words", "line\n", "é", "a=b"])
def test_a_malformed_token_is_refused_and_not_repeated(token):
    with pytest.raises(UsageError, match="the token alone") as refused:
        Connection("localhost:8001", token=token)
    assert token not in str(refused.value)


def test_a_token_leaves_this_machine_encrypted_only(server_certificates):
    with pytest.raises(UsageError, match=r"not sent to 192\.0\.2\.1:8001 unencrypted") as refused:
        Connection("192.0.2.1:8001", token=TOKEN)
    assert TOKEN not in str(refused.value)
    connection = Connection("192.0.2.1:8001", tls=Certificates(server_certificates.ca), token=TOKEN)
    assert TOKEN not in repr(connection)


def test_a_certificate_needs_an_authority(issue):
    client = issue("house", "client@mdiff")
    with pytest.raises(UsageError, match="give --tls-ca"):
        Connection("localhost:8001", tls=Certificates(None, client.certificate, client.key))


def test_an_unencrypted_connection_to_another_machine_is_warned_of(caplog, server_certificates):
    Connection("localhost:8001")
    Connection("192.0.2.1:8001", tls=Certificates(server_certificates.ca))
    assert caplog.messages == []
    Connection("192.0.2.1:8001")
    (message,) = caplog.messages
    assert "192.0.2.1:8001 is not encrypted" in message


class TestCommandLine:
    """``--tls-ca``, ``--tls-cert`` and ``--tls-key``, MDIFF_* variables, and the token that is no option."""

    def test_options_and_environment_say_the_same(self, client, mutual_triton, issue):
        tls = issue("house", "client@mdiff")
        options = ["--tls-ca", tls.ca, "--tls-cert", tls.certificate, "--tls-key", tls.key]
        said = client("info", "--url", mutual_triton.grpc_address, *options)
        assert said.stdout.startswith("tiny\n"), said.stderr
        environment = {"MDIFF_TLS_CA": tls.ca, "MDIFF_TLS_CERT": tls.certificate, "MDIFF_TLS_KEY": tls.key}
        found = client("info", **environment, MDIFF_URL=mutual_triton.grpc_address)
        assert (found.returncode, found.stdout, found.stderr) == (0, said.stdout, "")

    def test_images_come_through_a_gate_with_the_token_of_the_environment(self, client, open_gate, tmp_path):
        gate, address = open_gate()
        run = ["generate2d", tmp_path / "out.npy", "--url", address, "--model", "tiny", "--steps", 2, "--json"]
        result = client(*run, "--log-json", MDIFF_TOKEN=TOKEN)
        assert result.returncode == 0, result.stderr
        assert gate.passed == ["ModelConfig", "ModelInfer", "ModelInfer"]
        assert TOKEN not in result.stdout + result.stderr

    def test_a_token_has_no_option(self, client):
        for command in ("info", "generate2d", "generate3d"):
            assert "--token" not in client(command, "--help").stdout

    def test_plaintext_to_another_machine_warns_once(self, client, tiny_triton):
        # Linux takes 0.0.0.0 for this machine; nothing that mdiff would rely on.
        result = client("info", "--url", f"0.0.0.0:{port_of(tiny_triton)}")
        assert result.stdout.startswith("tiny\n")
        (line,) = result.stderr.splitlines()
        assert line.startswith("WARNING: the connection to 0.0.0.0:")

    @pytest.mark.parametrize(
        ("options", "code", "complaint"),
        [
            (["--tls-ca", "nowhere.pem"], 3, "nowhere.pem: no readable PEM certificate (No such file or directory)"),
            (["--tls-key", "key.pem"], 2, "give both --tls-cert and --tls-key"),
            ([], 6, "does not accept this client"),
        ],
    )
    def test_what_does_not_fit_is_one_line(
        self, client, assert_one_line, mutual_triton, server_certificates, options, code, complaint
    ):
        ca = [] if "--tls-ca" in options else ["--tls-ca", server_certificates.ca]
        assert_one_line(client("info", "--url", mutual_triton.grpc_address, *ca, *options), code, complaint)

    def test_a_server_signed_by_another_authority_is_one_line(self, client, assert_one_line, tls_triton, issue):
        stranger = issue("strangers", "client@mdiff")
        result = client("info", "--url", tls_triton.grpc_address, "--tls-ca", stranger.ca)
        assert_one_line(result, 6, "shows a certificate that is not accepted")

    def test_tls_without_a_server_is_refused(self, client, assert_one_line, server_certificates):
        assert_one_line(client("info", "--tls-ca", server_certificates.ca), 2, "give --url")

    def test_a_repository_asked_for_goes_before_the_variables_of_a_server(
        self, client, assert_one_line, tiny_repository, server_certificates
    ):
        environment = {"MDIFF_URL": "192.0.2.1:8001", "MDIFF_TLS_CA": server_certificates.ca}
        result = client("info", "--repository", tiny_repository, **environment)
        assert (result.returncode, result.stdout[:5]) == (0, "tiny\n"), result.stderr
        both = client("info", "--repository", tiny_repository, "--url", "localhost:8001", **environment)
        assert_one_line(both, 2, "--url or --repository")

    def test_an_unencrypted_token_is_refused(self, client, assert_one_line):
        assert_one_line(client("info", "--url", "192.0.2.1:8001", MDIFF_TOKEN=TOKEN), 2, "unencrypted")
