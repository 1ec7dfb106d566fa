"""``mdiff-client doctor``: here, and of a real server."""

import json

import pytest

from mdiff_client import diagnosis
from mdiff_client.denoisers.place import Place


def found(findings):
    return {finding.what: finding for finding in findings}


def test_all_is_well_here(client):
    result = client("doctor", "--json")
    assert result.returncode == 0, result.stderr
    findings = {one["what"]: one for one in json.loads(result.stdout)}
    assert {one["verdict"] for one in findings.values()} <= {"ok", "note"}
    assert "spheres64" in findings["models"]["found"]
    assert "CPU" in findings["engine"]["found"]


def test_a_server_is_looked_at_instead(client, tiny_triton):
    result = client("doctor", "--url", tiny_triton.grpc_address)
    assert result.returncode == 0, result.stderr
    assert "tiny on " in result.stdout
    assert "\x1b" not in result.stdout  # colours are for terminals


def test_a_server_that_is_away_is_what_is_wrong(client, free_port):
    result = client("doctor", "--url", f"localhost:{free_port()}", "--json")
    assert result.returncode == 5
    assert result.stderr == "error: not everything is there: models\n"
    assert {one["what"]: one["verdict"] for one in json.loads(result.stdout)}["models"] == "wrong"


def test_an_empty_repository_is_what_is_wrong(client, tmp_path):
    result = client("doctor", "--repository", tmp_path)
    assert result.returncode == 5
    assert "models" in result.stderr


def test_extras_that_are_missing_are_named(monkeypatch):
    installed = diagnosis._installed
    monkeypatch.setattr(diagnosis, "_installed", lambda name: name != "s3fs" and installed(name))
    extras = found(diagnosis.diagnose(Place()))["extras"]
    assert "s3" in extras.found.split(": ")[1].split(",")
    assert extras.verdict == "note"
    assert extras.hint.startswith("pip install '.[s3")


@pytest.mark.parametrize(("free", "verdict"), [(2**20, "note"), (2**40, "ok")])
def test_a_disk_that_is_nearly_full_is_noted(monkeypatch, free, verdict):
    monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
    assert found(diagnosis.diagnose(Place()))["disk"].verdict == verdict
