"""The compose file: valid, hardened, pinned, and its services find one another."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mdiff_client.cli import app

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker" / "compose.yaml"
COMPOSE = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
SERVERS = ["server-cpu", "server-gpu"]
PROMETHEUS = ROOT / "docker" / "prometheus.yaml"

each_service = pytest.mark.parametrize("name", sorted(SERVICES))


def test_the_compose_specification_allows_it():
    ran = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", FILE],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_it_has_a_server_of_each_kind_a_client_and_prometheus():
    assert sorted(SERVICES) == ["client", "prometheus", *SERVERS]


@each_service
def test_it_is_hardened(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service)


@each_service
def test_its_image_is_pinned(name):
    own = re.fullmatch(r"(mdiff-\w+):(.+)", SERVICES[name]["image"])
    if own:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert own[2] == project["version"]
    else:
        assert re.fullmatch(r"[\w./-]+:v[\d.]+@sha256:[0-9a-f]{64}", SERVICES[name]["image"])


@pytest.mark.parametrize("name", ["client", *SERVERS])
def test_it_is_built_from_the_checkout(image, name):
    build = SERVICES[name]["build"]
    context = (FILE.parent / build["context"]).resolve()
    assert context == ROOT
    title = image((context / build["dockerfile"]).name.removesuffix(".Dockerfile")).parser.labels[
        "org.opencontainers.image.title"
    ]
    assert SERVICES[name]["image"].startswith(f"{title}:")


@each_service
def test_what_it_mounts_is_there(name):
    for mount in SERVICES[name].get("volumes", []):
        if mount["type"] == "bind":
            assert (FILE.parent / mount["source"]).exists()
        else:
            assert mount["source"] in COMPOSE["volumes"]


@each_service
def test_its_ports_are_for_this_machine_alone(name):
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", SERVERS)
def test_the_ports_of_a_server_are_those_triton_listens_on(image, name):
    published = [port.split(":") for port in SERVICES[name]["ports"]]
    assert [container for _, _, container in published] == image("server").last("EXPOSE").split()
    assert all(host == container for _, host, container in published)


@pytest.mark.parametrize(("name", "profile"), [("server-cpu", "cpu"), ("server-gpu", "gpu")])
def test_a_server_is_chosen_by_its_profile(name, profile):
    assert SERVICES[name]["profiles"] == [profile]
    assert SERVICES[name]["networks"]["default"]["aliases"] == ["server"]


def test_only_the_gpu_profile_asks_for_a_gpu():
    (device,) = SERVICES["server-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert "deploy" not in SERVICES["server-cpu"]


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_may_finish_what_it_computes(name):
    """Triton ends after 30 s at the latest, unless it is told another --exit-timeout-secs."""
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > 30


def test_the_client_waits_for_the_server_that_runs(image):
    assert SERVICES["client"]["depends_on"] == {
        name: {"condition": "service_healthy", "required": False} for name in SERVERS
    }
    assert image("server").command("HEALTHCHECK")


def test_the_client_writes_where_its_image_works(image):
    (mount,) = SERVICES["client"]["volumes"]
    assert mount["target"] == image("client").last("WORKDIR")


def test_the_client_gives_a_command_the_server_answers(triton, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = [part.replace("server:8001", triton.grpc_address) for part in SERVICES["client"]["command"]]
    assert triton.grpc_address in command
    ran = CliRunner().invoke(app, [*command, "--dry-run"])
    assert ran.exit_code == 0, ran.output


def test_prometheus_reads_the_file_that_is_mounted():
    (mounted,) = [mount["target"] for mount in SERVICES["prometheus"]["volumes"] if mount["type"] == "bind"]
    assert f"--config.file={mounted}" in SERVICES["prometheus"]["command"]


def test_prometheus_scrapes_the_server():
    (job,) = yaml.safe_load(PROMETHEUS.read_text(encoding="utf-8"))["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["server:8002"]}]


def test_promtool_accepts_the_configuration():
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    ran = subprocess.run([promtool, "check", "config", PROMETHEUS], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
