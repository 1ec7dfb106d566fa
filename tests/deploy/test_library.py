"""The Jobs that make a library: they know the command line, its exit codes, the servers and the place."""

import re
import tomllib
from pathlib import Path

import pytest
import typer

from mdiff_client.cli import app
from mdiff_client.library.shards import Shard
from mdiff_client.library.spec import LibrarySpec
from mdiff_core import BusyError, ContractError, DataError, PermanentError, UnavailableError, UsageError
from mdiff_core.tls import Certificates

ROOT = Path(__file__).parents[2]
IMAGE = (ROOT / "docker" / "client.Dockerfile").read_text(encoding="utf-8")
JOBS = ["create", "run", "finalize"]


def job(manifests, name):
    return manifests.one("Job", f"mdiff-library-{name}")["spec"]


def pod(manifests, name):
    return job(manifests, name)["template"]["spec"]


def containers(manifests, name):
    """Those of a Job's pod by name, in the order in which they run."""
    spec = pod(manifests, name)
    return {each["name"]: each for each in [*spec.get("initContainers", []), *spec["containers"]]}


def everything(manifests):
    return [each for name in JOBS for each in containers(manifests, name).values()]


def environment(container):
    return {each["name"]: each["value"] for each in container.get("env", [])}


def place(manifests):
    """Where the library lies."""
    (found,) = (
        each["data"]["LIBRARY"]
        for each in manifests.of("ConfigMap")
        if each["metadata"]["name"].startswith("mdiff-library-place-")
    )
    return found


class TestCommands:
    def test_they_are_plan_create_run_and_finalize(self, library):
        assert [each["args"][:2] for each in everything(library)] == [
            ["library", command] for command in ("plan", "create", "status", "run", "finalize")
        ]

    def test_the_client_knows_them(self, library):
        group = typer.main.get_command(app).commands["library"]
        for container in everything(library):
            assert "command" not in container  # the image's entrypoint is mdiff-client
            _, name, *arguments = container["args"]
            context = group.commands[name].make_context(name, arguments)
            assert context.params["store"] == "$(LIBRARY)"

    def test_an_index_is_a_shard(self, library):
        spec = job(library, "run")
        assert spec["completionMode"] == "Indexed"
        (told,) = re.findall(r"--shard=(\S+)", " ".join(containers(library, "run")["run"]["args"]))
        shards = [Shard.parse(told.replace("$(JOB_COMPLETION_INDEX)", str(i))) for i in range(spec["completions"])]
        assert sorted(index for shard in shards for index in shard.indices(1000)) == list(range(1000))

    def test_creating_twice_is_harmless(self, library):
        assert "--resume" in containers(library, "create")["create"]["args"]

    def test_they_read_what_the_reader_of_the_readme_asks_for(self, library, readme, tmp_path):
        (mapped,) = (
            each
            for each in library.of("ConfigMap")
            if each["metadata"]["name"] == volume(library, "create", "recipe")["configMap"]["name"]
        )
        for container in containers(library, "create").values():
            (mount,) = (each for each in container["volumeMounts"] if each["name"] == "recipe")
            assert f"--from={mount['mountPath']}/{next(iter(mapped['data']))}" in container["args"]
        (recipe,) = re.findall(r"```toml\n(.+?)```", readme, re.DOTALL)
        (tmp_path / "library.toml").write_text(recipe, encoding="utf-8")
        assert len(LibrarySpec.read(tmp_path / "library.toml").seed_list()) == 1000


class TestFailures:
    """Rules hold in their order; what no rule names counts and is tried again."""

    def action(self, manifests, name, container, code):
        for rule in job(manifests, name)["podFailurePolicy"]["rules"]:
            codes = rule.get("onExitCodes", {"values": []})
            if code in codes["values"] and codes.get("containerName", container) == container:
                return rule["action"]
        return "Count"

    @pytest.mark.parametrize("error", [UsageError, ContractError, PermanentError])
    def test_what_every_shard_would_meet_ends_the_job(self, library, error):
        assert self.action(library, "create", "create", error.exit_code) == "FailJob"
        assert self.action(library, "run", "run", error.exit_code) == "FailJob"

    @pytest.mark.parametrize("error", [UnavailableError, BusyError])
    def test_what_passes_is_tried_again(self, library, error):
        assert self.action(library, "create", "create", error.exit_code) == "Count"
        assert self.action(library, "run", "run", error.exit_code) == "Count"

    def test_a_file_that_cannot_be_used_ends_its_shard(self, library):
        assert self.action(library, "create", "create", DataError.exit_code) == "FailJob"
        assert self.action(library, "run", "run", DataError.exit_code) == "FailIndex"

    def test_a_library_that_is_not_there_yet_is_waited_for(self, library):
        assert self.action(library, "run", "store", DataError.exit_code) == "Count"

    def test_workers_wait_for_longer_than_the_library_takes_to_be_there(self, library):
        assert job(library, "run")["backoffLimitPerIndex"] > job(library, "create")["backoffLimit"]

    def test_a_lost_node_costs_no_try(self, library):
        for name in ("create", "run"):
            first, *_ = job(library, name)["podFailurePolicy"]["rules"]
            assert first == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}

    def test_kubernetes_takes_the_policies(self, library):
        """Two rules that no schema knows."""
        for name in ("create", "run"):
            assert pod(library, name)["restartPolicy"] == "Never"
            known = containers(library, name)
            for rule in job(library, name)["podFailurePolicy"]["rules"]:
                assert rule.get("onExitCodes", {}).get("containerName", next(iter(known))) in known
        assert job(library, "run")["maxFailedIndexes"] <= job(library, "run")["completions"]

    def test_finalize_waits_for_the_last_volume_in_one_pod(self, library):
        assert pod(library, "finalize")["restartPolicy"] == "OnFailure"
        assert "podFailurePolicy" not in job(library, "finalize")


class TestServers:
    def test_the_policies_let_clients_and_servers_meet(self, library):
        server = library.one("NetworkPolicy", "mdiff-server")["spec"]
        client = library.one("NetworkPolicy", "mdiff-library")["spec"]
        (admitted,) = server["ingress"][0]["from"]
        for name in JOBS:
            labels = job(library, name)["template"]["metadata"]["labels"].items()
            assert admitted["podSelector"]["matchLabels"].items() <= labels
            assert client["podSelector"]["matchLabels"].items() <= labels
        towards = client["egress"][0]
        labels = library.deployment["template"]["metadata"]["labels"].items()
        assert towards["to"][0]["podSelector"]["matchLabels"].items() <= labels
        assert towards["ports"] == server["ingress"][0]["ports"]

    def test_nothing_reaches_the_workers(self, library):
        policy = library.one("NetworkPolicy", "mdiff-library")["spec"]
        assert "Ingress" in policy["policyTypes"]
        assert "ingress" not in policy

    def test_they_are_no_servers(self, library):
        selector = library.one("Service")["spec"]["selector"].items()
        for name in JOBS:
            assert not selector <= job(library, name)["template"]["metadata"]["labels"].items()

    def test_they_ask_for_every_replica_by_the_services_name(self, library):
        service = library.one("Service")
        (port,) = service["spec"]["ports"]
        host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
        asking = [each for each in everything(library) if "MDIFF_URL" in environment(each)]
        assert [each["name"] for each in asking] == ["plan", "create", "run"]
        for container in asking:
            assert environment(container)["MDIFF_URL"] == f"dns:///{host}:{port['port']}"

    def test_under_tls_they_show_a_certificate(self, library, secrets_made):
        asking = [each for each in everything(library) if "MDIFF_URL" in environment(each)]
        for container in asking:
            told = environment(container)
            paths = [told[f"MDIFF_TLS_{name}"] for name in ("CA", "CERT", "KEY")]
            assert all(Path(path).is_relative_to(mount(container, "tls")["mountPath"]) for path in paths)
            assert len(Certificates.__dataclass_fields__) == len(paths)
            assert {Path(path).name for path in paths} == secrets_made["mdiff-client-tls"]
        for name in ("create", "run"):
            secret = volume(library, name, "tls")["secret"]
            assert secret["secretName"] == "mdiff-client-tls"
            assert secret["defaultMode"] == 0o440

    def test_without_tls_there_is_none(self, build):
        manifests = build("""\
            namespace: mdiff
            resources: [mdiff/deploy/kubernetes/overlays/cpu]
            components: [mdiff/deploy/kubernetes/components/library-pvc]
        """)
        assert not any("MDIFF_TLS_CA" in environment(each) for each in everything(manifests))


class TestPlace:
    def test_on_the_claim_every_job_sees_the_same_folder(self, libraries, library_store):
        library = libraries("pvc")
        for name, seeing in (("create", ["create"]), ("run", ["store", "run"]), ("finalize", ["finalize"])):
            claim = volume(library, name, "volumes")["persistentVolumeClaim"]
            assert library_store.one("PersistentVolumeClaim", claim["claimName"])
            assert not claim.get("readOnly")
            for container in seeing:
                at = mount(containers(library, name)[container], "volumes")["mountPath"]
                assert Path(place(library)).is_relative_to(at)

    def test_pods_on_many_nodes_write_to_the_claim(self, library_store):
        assert library_store.one("PersistentVolumeClaim", "mdiff-library")["spec"]["accessModes"] == ["ReadWriteMany"]

    def test_removing_what_makes_it_leaves_the_claim(self, libraries):
        assert not libraries("pvc").of("PersistentVolumeClaim")

    def test_the_reader_sees_it_where_the_readme_copies_it_from(self, libraries, library_store, readme):
        (path,) = re.findall(r"cp mdiff-reader:(\S+)", readme)
        assert path == place(libraries("pvc"))
        (reader,) = library_store.one("Pod", "mdiff-reader")["spec"]["containers"]
        assert Path(path).is_relative_to(mount(reader, "volumes")["mountPath"])

    def test_in_the_bucket_the_secret_says_where_it_is_and_who_writes(self, libraries, secrets_made):
        library = libraries("bucket")
        assert place(library).startswith("s3://")
        for container in everything(library):
            secrets = [each["secretRef"]["name"] for each in container["envFrom"] if "secretRef" in each]
            # The plan does not look at it.
            assert secrets == ([] if container["name"] == "plan" else ["mdiff-library"])
        # The variables of every AWS client.
        wanted = {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
        assert secrets_made["mdiff-library"] == wanted

    def test_only_for_a_bucket_anything_else_leaves_the_workers(self, libraries):
        leaving = {
            name: {
                each["metadata"]["name"]
                for each in libraries(name).of("NetworkPolicy")
                if each["spec"]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "mdiff-library"}
            }
            for name in ("pvc", "bucket")
        }
        assert leaving == {"pvc": {"mdiff-library"}, "bucket": {"mdiff-library", "mdiff-library-bucket"}}
        (rule,) = libraries("bucket").one("NetworkPolicy", "mdiff-library-bucket")["spec"]["egress"]
        assert rule == {"ports": [{"port": 443}]}

    def test_the_image_has_what_a_bucket_needs(self):
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
            "optional-dependencies"
        ]
        (named,) = re.findall(r"requirements\.py ([\w ]*)>", IMAGE)
        assert "s3" in named.split()
        assert "s3" in extras


def test_they_run_as_the_images_user(library):
    user, group = map(int, re.findall(r"^USER (\d+):(\d+)$", IMAGE, re.MULTILINE)[-1])
    for name in JOBS:
        security = pod(library, name)["securityContext"]
        assert security["runAsUser"] == user
        assert security["runAsGroup"] == security["fsGroup"] == group


def test_the_readme_waits_for_every_job_and_removes_them(library, readme):
    assert re.findall(r"wait --for=condition=Complete \S+ job/mdiff-library-(\w+)", readme) == JOBS
    (selector,) = re.findall(r"delete jobs --selector (\S+)", readme)
    label, _, value = selector.partition("=")
    assert {each["metadata"]["labels"][label] for each in library.of("Job")} == {value}


def volume(manifests, name, wanted):
    (found,) = (each for each in pod(manifests, name)["volumes"] if each["name"] == wanted)
    return found


def mount(container, wanted):
    (found,) = (each for each in container["volumeMounts"] if each["name"] == wanted)
    return found
