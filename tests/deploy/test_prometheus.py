"""Prometheus's own tool reads every query, and tells when each alert speaks."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ALERTS = Path(__file__).with_name("alerts.yaml")


@pytest.fixture
def promtool(tmp_path):
    """``promtool(*arguments)``, run in the folder of the test: what it says, after it succeeded."""
    found = shutil.which("promtool")
    if not found:
        pytest.skip("no promtool to read the queries with: it comes with Prometheus (Debian: prometheus)")

    def run(*arguments):
        done = subprocess.run([found, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_each_alert_speaks_when_it_should(fleet, promtool, tmp_path):
    _write(tmp_path / "rules.yaml", fleet.one("PrometheusRule")["spec"])
    shutil.copy(ALERTS, tmp_path)
    assert "SUCCESS" in promtool("test", "rules", ALERTS.name)


def test_each_alert_is_tested_and_says_what_to_do(fleet):
    (group,) = fleet.one("PrometheusRule")["spec"]["groups"]
    cases = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["tests"]
    speaking = {each["alertname"] for case in cases for each in case.get("alert_rule_test", []) if "exp_alerts" in each}
    assert {rule["alert"] for rule in group["rules"]} == speaking
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_the_autoscaler_counts_the_requests_in_flight_on_all_replicas(fleet, promtool, tmp_path):
    (trigger,) = fleet.one("ScaledObject")["spec"]["triggers"]
    # Two replicas answer 10 requests a second; each took 0.3 s on the one and 0.5 s on the other: 3 + 5 in flight.
    busy = [("a", "spheres64", 3_000_000), ("b", "nmc64", 5_000_000)]
    case = {
        "interval": "15s",
        "input_series": [
            {
                "series": f'nv_inference_request_duration_us{{job="mdiff/mdiff-server", pod="{pod}", model="{model}"}}',
                "values": f"0+{15 * microseconds}x40",
            }
            for pod, model, microseconds in busy
        ],
        "promql_expr_test": [
            {
                "expr": trigger["metadata"]["query"],
                "eval_time": "5m",
                "exp_samples": [{"labels": "{}", "value": 8}],
            }
        ],
    }
    _write(tmp_path / "case.yaml", {"tests": [case]})
    assert "SUCCESS" in promtool("test", "rules", "case.yaml")


def test_every_panel_of_the_dashboard_can_be_asked(fleet, promtool, tmp_path):
    dashboard = json.loads(fleet.one("ConfigMap", "mdiff-dashboard")["data"]["mdiff.json"])
    variables = {each["name"] for each in dashboard["templating"]["list"]}
    rules = []
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            used = set(re.findall(r"\$(?!__)(\w+)", target["expr"])) | {"datasource"}
            assert used <= variables
            assert target["datasource"]["uid"] == "${datasource}"
            expression = target["expr"].replace("$__rate_interval", "1m")
            rules.append({"record": f"panel:{panel['id']}_{target['refId']}", "expr": expression})
    _write(tmp_path / "panels.yaml", {"groups": [{"name": "dashboard", "rules": rules}]})
    assert f"{len(rules)} rules found" in promtool("check", "rules", "panels.yaml")


def test_no_two_panels_overlap(fleet):
    dashboard = json.loads(fleet.one("ConfigMap", "mdiff-dashboard")["data"]["mdiff.json"])
    cells = [
        (column, row)
        for place in (panel["gridPos"] for panel in dashboard["panels"])
        for column in range(place["x"], place["x"] + place["w"])
        for row in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(column for column, _ in cells) < 24
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def _write(file, content):
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
