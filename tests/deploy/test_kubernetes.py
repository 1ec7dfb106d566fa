"""What the manifests promise each other; none of it would a schema notice."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import kubernetes_validate
import pytest
import typer
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule

from mdiff_export.cli import app

CUSTOM_RESOURCES = {model.__name__: model for model in (PodMonitor, PrometheusRule, ScaledObject)}
ROOT = Path(__file__).parents[2]
IMAGE = (ROOT / "docker" / "server.Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


class TestSchema:
    # The oldest in which preStop may sleep without a shell, and the newest there is.
    @pytest.mark.parametrize("version", ["1.30", "1.37"])
    def test_every_object_is_one_that_kubernetes_knows(self, applied, version):
        for manifest in applied:
            if manifest["kind"] not in CUSTOM_RESOURCES:
                kubernetes_validate.validate(manifest, version, strict=True)

    def test_every_custom_resource_has_fields_of_its_definition_only(self, fleet):
        found = fleet.of(*CUSTOM_RESOURCES)
        assert {each["kind"] for each in found} == set(CUSTOM_RESOURCES)
        for manifest in found:
            parsed = CUSTOM_RESOURCES[manifest["kind"]].model_validate(manifest)
            known = parsed.model_dump(mode="json", by_alias=True, exclude_unset=True)
            assert known == manifest  # an unknown field is dropped, silently

    def test_everything_lives_in_one_namespace(self, applied):
        (namespace,) = {
            each["metadata"]["name"] if each["kind"] == "Namespace" else each["metadata"]["namespace"]
            for each in applied
        }
        assert namespace == "mdiff"

    def test_every_component_is_used(self, kubernetes, readme):
        # Certificates and libraries only the reader of the README has.
        used = {name for name in ("tls", "library-pvc", "library-bucket") if f"`{name}`" in readme} | {
            Path(component).name
            for file in kubernetes.glob("*/*/kustomization.yaml")
            for component in yaml.safe_load(file.read_text(encoding="utf-8")).get("components", [])
        }
        assert used == {each.name for each in (kubernetes / "components").iterdir()}

    def test_components_combine_otherwise_too(self, build):
        manifests = build("""\
            namespace: mdiff
            resources: [mdiff/deploy/kubernetes/overlays/cpu]
            components:
              - mdiff/deploy/kubernetes/components/store-bucket
              - mdiff/deploy/kubernetes/components/autoscaling
              - mdiff/deploy/kubernetes/components/monitoring
        """)
        assert [each["name"] for each in manifests.pod["initContainers"]] == ["models"]
        assert "replicas" not in manifests.deployment
        kubernetes_validate.validate(manifests.one("Deployment"), "1.30", strict=True)


class TestSelectors:
    def test_everything_selects_the_servers_pods(self, overlay):
        labels = overlay.deployment["template"]["metadata"]["labels"].items()
        selectors = [
            overlay.deployment["selector"]["matchLabels"],
            *(each["labelSelector"]["matchLabels"] for each in overlay.pod["topologySpreadConstraints"]),
            *(each["spec"]["selector"] for each in overlay.of("Service")),
            *(each["spec"]["selector"]["matchLabels"] for each in overlay.of("PodDisruptionBudget", "PodMonitor")),
            *(each["spec"]["podSelector"]["matchLabels"] for each in overlay.of("NetworkPolicy")),
        ]
        assert len(selectors) >= 5
        for selector in selectors:
            assert selector
            assert selector.items() <= labels

    def test_a_server_is_no_client(self, overlay):
        (rule,) = overlay.one("NetworkPolicy")["spec"]["ingress"]
        (client,) = rule["from"]
        assert (
            not client["podSelector"]["matchLabels"].items()
            <= overlay.deployment["template"]["metadata"]["labels"].items()
        )

    def test_the_autoscaler_finds_the_deployment_and_alone_counts_its_replicas(self, fleet):
        target = fleet.one("ScaledObject")["spec"]["scaleTargetRef"]
        assert fleet.one("Deployment", target["name"])
        assert "replicas" not in fleet.deployment

    def test_a_node_can_be_drained_whatever_the_number_of_replicas(self, overlay):
        budget = overlay.one("PodDisruptionBudget")["spec"]
        assert budget["maxUnavailable"] == 1
        assert "minAvailable" not in budget


class TestPorts:
    def test_clients_find_every_replica_by_the_services_name(self, overlay):
        service = overlay.one("Service")["spec"]
        (port,) = service["ports"]
        # A headless service does not translate: the port is the container's.
        assert service["clusterIP"] == "None"
        assert port["port"] == _ports(overlay)[port["targetPort"]]

    def test_probes_and_monitors_name_ports_of_the_container(self, overlay):
        probes = [overlay.triton[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "readiness", "liveness")]
        monitored = [
            endpoint["port"] for each in overlay.of("PodMonitor") for endpoint in each["spec"]["podMetricsEndpoints"]
        ]
        assert probes == ["http"] * 3
        assert {*probes, *monitored} <= _ports(overlay).keys()


class TestNetwork:
    def test_only_clients_reach_the_services_port(self, overlay):
        policy = overlay.one("NetworkPolicy")["spec"]
        (rule,) = policy["ingress"]
        assert rule == {
            "from": [
                {
                    "podSelector": {
                        "matchLabels": {
                            "app.kubernetes.io/part-of": "mdiff",
                            "app.kubernetes.io/component": "client",
                        }
                    }
                }
            ],
            "ports": [{"port": port["targetPort"]} for port in overlay.one("Service")["spec"]["ports"]],
        }

    def test_only_prometheus_reaches_the_metrics(self, fleet):
        policy = fleet.one("NetworkPolicy", "mdiff-server-metrics")["spec"]
        (rule,) = policy["ingress"]
        (prometheus,) = rule["from"]
        assert rule["ports"] == [{"port": "metrics"}]
        assert prometheus["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
        # The operator's service is in the namespace that the autoscaler asks.
        namespace = prometheus["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        (trigger,) = fleet.one("ScaledObject")["spec"]["triggers"]
        assert f"//prometheus-operated.{namespace}.svc:" in trigger["metadata"]["serverAddress"]

    def test_no_other_policy_lets_anything_in(self, overlay):
        opened = {each["metadata"]["name"] for each in overlay.of("NetworkPolicy") if each["spec"].get("ingress")}
        assert opened <= {"mdiff-server", "mdiff-server-metrics"}

    def test_nothing_leaves_unless_the_models_are_in_a_bucket(self, overlay):
        assert "Egress" in overlay.one("NetworkPolicy")["spec"]["policyTypes"]
        leaving = {each["metadata"]["name"] for each in overlay.of("NetworkPolicy") if each["spec"].get("egress")}
        bucket = any(name == "RCLONE_CONFIG_STORE_ENDPOINT" for name in _variables(overlay))
        assert leaving == ({"mdiff-server-bucket"} if bucket else set())


class TestPods:
    def test_the_profile_is_restricted(self, applied):
        for pod in applied.pods:
            assert pod["automountServiceAccountToken"] is False
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["runAsUser"] > 0
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
            for volume in pod["volumes"]:
                assert volume.keys() - {"name"} <= {"emptyDir", "persistentVolumeClaim", "secret", "configMap"}
        for container in applied.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }

    def test_the_namespace_admits_no_other_profile(self, kubernetes):
        namespace = yaml.safe_load((kubernetes / "namespace.yaml").read_text(encoding="utf-8"))
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"

    def test_every_image_is_this_version_or_pinned_by_digest(self, applied):
        for container in applied.containers:
            name, separator, digest = container["image"].partition("@")
            if separator:
                assert re.fullmatch(r".+:\d+\.\d+\.\d+", name)
                assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest)
            else:
                assert name in {f"mdiff-{image}:{PROJECT['version']}" for image in ("client", "server")}

    def test_no_request_exceeds_its_limit_and_memory_has_both(self, applied):
        for container in applied.containers:
            requests, limits = container["resources"]["requests"], container["resources"]["limits"]
            assert {"cpu", "memory"} <= requests.keys()
            assert "memory" in limits
            for resource, limit in limits.items():
                assert _quantity(requests.get(resource, limit)) <= _quantity(limit)

    def test_they_run_as_the_images_user(self, overlay):
        user, group = map(int, re.findall(r"^USER (\d+):(\d+)$", IMAGE, re.MULTILINE)[-1])
        security = overlay.pod["securityContext"]
        assert security["runAsUser"] == user
        assert security["runAsGroup"] == security["fsGroup"] == group

    def test_a_stopping_server_may_finish_its_requests(self, overlay):
        sleep = overlay.triton["lifecycle"]["preStop"]["sleep"]["seconds"]
        (exit_timeout,) = _option(overlay.triton, "--exit-timeout-secs")
        assert sleep >= 15
        assert overlay.pod["terminationGracePeriodSeconds"] > sleep + int(exit_timeout)

    def test_a_rollout_waits_as_long_as_a_start_may_take(self, overlay):
        probe = overlay.triton["startupProbe"]
        assert overlay.deployment["progressDeadlineSeconds"] > probe["periodSeconds"] * probe["failureThreshold"]

    def test_a_gpu_replica_starts_without_a_second_gpu(self, overlay):
        if "nvidia.com/gpu" in overlay.triton["resources"]["limits"]:
            assert overlay.deployment["strategy"]["rollingUpdate"]["maxSurge"] == 0

    def test_every_mount_has_its_volume_and_every_volume_its_claim(self, applied, store, library_store):
        claims = {
            each["metadata"]["name"]
            for each in [*applied, *store, *library_store]
            if each["kind"] == "PersistentVolumeClaim"
        }
        for pod in applied.pods:
            mounted = {
                mount["name"]
                for container in [*pod.get("initContainers", []), *pod["containers"]]
                for mount in container.get("volumeMounts", [])
            }
            assert mounted == {volume["name"] for volume in pod["volumes"]}
            for volume in pod["volumes"]:
                if "persistentVolumeClaim" in volume:
                    assert volume["persistentVolumeClaim"]["claimName"] in claims


class TestModels:
    def test_without_a_store_they_are_the_images(self, readers):
        (repository,) = _option(readers("cpu").triton, "--model-repository")
        assert re.search(rf"^COPY .*serving/model_repository {repository}$", IMAGE, re.MULTILINE)

    def test_each_container_reads_what_the_one_before_wrote(self, overlay):
        for writer, reader in pairwise([*overlay.pod.get("initContainers", []), overlay.triton]):
            written, read = _repositories(writer)[-1], _repositories(reader)[0]
            assert written == read
            assert _mount(writer, written)["name"] == _mount(reader, read)["name"]
            assert not _mount(writer, written).get("readOnly")
            assert _mount(reader, read)["readOnly"]

    def test_engines_are_built_before_they_are_served(self, overlay):
        steps = [each["name"] for each in overlay.pod.get("initContainers", [])]
        assert steps == (["models", "engines"] if "nvidia.com/gpu" in overlay.triton["resources"]["limits"] else [])

    def test_the_server_writes_to_none_of_them(self, overlay):
        for mount in overlay.triton["volumeMounts"]:
            assert mount["name"] == "tmp" or mount["readOnly"]

    def test_the_exporter_knows_the_command_that_builds_engines(self, fleet):
        (engines,) = (each for each in fleet.pod["initContainers"] if each["name"] == "engines")
        command, name, *arguments = engines["command"]
        assert command in PROJECT["scripts"]
        typer.main.get_command(app).commands[name].make_context(name, arguments)

    def test_replicas_on_many_nodes_share_the_engines(self, fleet):
        assert fleet.one("PersistentVolumeClaim", "mdiff-engines")["spec"]["accessModes"] == ["ReadWriteMany"]

    def test_the_server_never_writes_to_the_store(self, overlay):
        for volume in overlay.pod["volumes"]:
            if volume["name"] == "store":
                assert volume["persistentVolumeClaim"]["readOnly"]

    def test_credentials_of_the_bucket_stay_out_of_the_server(self, fleet):
        assert any("secretKeyRef" in each.get("valueFrom", {}) for each in _variables(fleet).values())
        assert not any("secretKeyRef" in each.get("valueFrom", {}) for each in fleet.triton["env"])


class TestReadme:
    def test_its_kustomization_pins_the_servers_image_by_digest(self, readers, kubernetes):
        for overlay in (kubernetes / "overlays").iterdir():
            images = {each["image"] for each in readers(overlay.name).containers if "mdiff-server" in each["image"]}
            (image,) = images
            assert re.fullmatch(r"registry\.example\.com/mdiff-server(:[\d.]+)?@sha256:[0-9a-f]{64}", image)

    def test_its_kustomization_is_one_that_kubernetes_knows(self, readers):
        kubernetes_validate.validate(readers("gpu").one("Deployment"), "1.30", strict=True)

    def test_it_makes_every_secret_of_a_server_with_its_keys(self, readers, secrets_made):
        fleet = readers("gpu-fleet")
        files = {Path(argument).name for argument in fleet.triton["args"] if "=/tls/" in argument}
        (tls,) = (each["secret"]["secretName"] for each in fleet.pod["volumes"] if "secret" in each)
        references = [each["valueFrom"]["secretKeyRef"] for each in _variables(fleet).values() if "valueFrom" in each]
        (bucket,) = {each["name"] for each in references}
        assert {tls: files, bucket: {each["key"] for each in references}}.items() <= secrets_made.items()


def _repositories(container):
    """Those that a container reads and writes, in this order."""
    told = _option(container, "--model-repository")
    return told or [
        each for each in [*container["command"], *container.get("args", [])] if each[0] == "/" or ":" in each
    ]


def _mount(container, path):
    """What a container has at a path."""
    (mount,) = (each for each in container["volumeMounts"] if Path(path).is_relative_to(each["mountPath"]))
    return mount


def _ports(manifests):
    return {each["name"]: each["containerPort"] for each in manifests.triton["ports"]}


def _option(container, name):
    return [arg.removeprefix(f"{name}=") for arg in container.get("args", []) if arg.startswith(f"{name}=")]


def _variables(manifests):
    """Environment of the init containers."""
    return {
        variable["name"]: variable
        for container in manifests.pod.get("initContainers", [])
        for variable in container.get("env", [])
    }


def _quantity(text):
    number, unit = re.fullmatch(r"(\d+)(m|Ki|Mi|Gi|Ti)?", str(text)).groups()
    return int(number) * {None: 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}[unit]
