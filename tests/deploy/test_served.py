"""A real server, started as the Deployment starts it: its options, its probes, its metrics."""

import contextlib
import json
import re
import subprocess
import urllib.request
from dataclasses import replace

import pytest
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from mdiff_client.denoisers.connection import Connection
from mdiff_client.denoisers.triton import TritonDenoiser
from mdiff_core import PermanentError
from mdiff_serving.environment import server_environment
from mdiff_serving.server import TritonServer

# Known from Triton's documentation: a server without a GPU does not report them.
GPU_METRICS = {
    "nv_gpu_utilization",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_memory_total_bytes",
    "nv_gpu_power_usage",
}
# Those that Prometheus itself gives every series of a pod.
TARGET_LABELS = {"job", "pod"}


class DeployedServer(TritonServer):
    """A server with the options of a container; ``paths`` says what lies here in place of the container's files."""

    def __init__(self, container, repository, paths=None, **ports):
        super().__init__(repository, **ports)
        self._container, self._paths = container, paths or {}

    def _options(self):
        given = (each.replace("$(POD_UID)", "7f1c").partition("=") for each in self._container["args"])
        # A second repository would be served beside the first.
        told = {name: self._paths.get(value, value) for name, _, value in given if name != "--model-repository"}
        return [
            *(option for option in super()._options() if option.partition("=")[0] not in told),
            *(f"{name}={value}" if value else name for name, value in told.items()),
        ]


@pytest.fixture
def start(tiny_repository, free_port, installed_triton):
    """``start(container, paths=None)``: a server as Kubernetes would start it, stopped at the end."""
    with contextlib.ExitStack() as stack:

        def server(container, paths=None):
            ports = {f"{service}_port": free_port() for service in ("grpc", "http", "metrics")}
            return stack.enter_context(DeployedServer(container, tiny_repository, paths, **ports))

        yield server


def test_every_overlay_starts_the_same_server(overlay, fleet):
    assert overlay.triton["command"] == fleet.triton["command"] == ["tritonserver"]
    but_for_the_models = slice(1, None)
    assert overlay.triton["args"][but_for_the_models] == fleet.triton["args"][but_for_the_models]


def test_its_ports_are_the_servers_own(overlay, installed_triton):
    environment = server_environment()
    told = subprocess.run([environment.command[0], "--help"], env=environment.variables, capture_output=True, text=True)
    for port in overlay.triton["ports"]:
        described = re.search(rf"--{port['name']}-port <integer>(.+?)--", told.stderr + told.stdout, re.DOTALL)
        assert f"Default is {port['containerPort']}." in " ".join(described[1].split())


def test_its_probes_answer(overlay, tiny_triton):
    for kind in ("startup", "readiness", "liveness"):
        path = overlay.triton[f"{kind}Probe"]["httpGet"]["path"]
        with urllib.request.urlopen(f"http://{tiny_triton.http_address}{path}") as answer:
            assert answer.status == 200


def test_its_clients_control_nothing(fleet, start):
    with triton.InferenceServerClient(start(fleet.triton).grpc_address) as client:
        assert [each.name for each in client.get_model_repository_index().models] == ["tiny"]
        for control in (
            lambda: client.unload_model("tiny"),
            lambda: client.load_model("tiny"),
            lambda: client.update_log_settings({"log_verbose_level": 1}),
            lambda: client.update_trace_settings(settings={"trace_level": "TIMESTAMPS"}),
            lambda: client.register_system_shared_memory("mine", "/mine", 64),
        ):
            with pytest.raises(InferenceServerException, match=r"not allowed|restricted"):
                control()
        assert client.is_model_ready("tiny")


def test_with_tls_it_answers_those_who_show_a_certificate(readers, start, server_certificates, issue):
    files = {
        "/tls/tls.crt": server_certificates.certificate,
        "/tls/tls.key": server_certificates.key,
        "/tls/ca.crt": server_certificates.ca,
    }
    server = start(readers("cpu").triton, files)
    with TritonDenoiser(Connection(server.grpc_address, tls=issue("house", "client@mdiff")), "tiny") as denoiser:
        assert denoiser.contract.name == "tiny"
    stranger = replace(issue("strangers", "client@mdiff"), ca=server_certificates.ca)
    with pytest.raises(PermanentError, match="does not accept this client"):
        TritonDenoiser(Connection(server.grpc_address, tls=stranger), "tiny")
    with urllib.request.urlopen(f"http://{server.http_address}/v2/health/ready") as answer:
        assert answer.status == 200


def test_every_metric_and_label_that_is_asked_for_is_reported(fleet, tiny_triton):
    with urllib.request.urlopen(f"http://{tiny_triton.metrics_address}/metrics") as answer:
        page = answer.read().decode()
    reported = {name: set(re.findall(r'(\w+)="', labels)) for name, labels in re.findall(r"^(\w+)\{(.*)\}", page, re.M)}
    values = set(re.findall(r'\w+="(\w+)"', page))

    asked = set()
    for query in queries(fleet):
        metrics = set(re.findall(r"\bnv_\w+", query))
        asked |= metrics
        known = TARGET_LABELS.union(*(reported.get(name, set()) for name in metrics))
        grouped = {label for labels in re.findall(r"\bby \((.+?)\)", query) for label in labels.split(", ")}
        matched = set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", query))
        assert grouped | matched <= known, query
        for reasons in re.findall(r'reason(?:=~|!~|!=|=)"([\w|]+)"', query):
            assert set(reasons.split("|")) <= values
    assert asked - GPU_METRICS <= reported.keys()
    assert asked >= GPU_METRICS


def test_every_query_is_of_the_series_that_the_monitor_collects(fleet):
    monitor = fleet.one("PodMonitor")["metadata"]
    for query in queries(fleet):
        selected = re.findall(r'\bjob="([^"]+)"', query)
        assert len(selected) == len(re.findall(r"\b(?:nv_\w+|up)\b", query))
        assert set(selected) <= {f"{monitor['namespace']}/{monitor['name']}", "$job"}


def queries(manifests):
    """Every query in PromQL: of the autoscaler, the alerts and the dashboard."""
    (trigger,) = manifests.one("ScaledObject")["spec"]["triggers"]
    (group,) = manifests.one("PrometheusRule")["spec"]["groups"]
    dashboard = json.loads(manifests.one("ConfigMap", "mdiff-dashboard")["data"]["mdiff.json"])
    return [
        trigger["metadata"]["query"],
        *(rule["expr"] for rule in group["rules"]),
        *(target["expr"] for panel in dashboard["panels"] for target in panel["targets"]),
    ]
