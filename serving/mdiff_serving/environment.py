"""The ``tritonserver`` to run: the one on the PATH, else one in a private environment, set up on first use.

The private one is the server that the ``nvidia-pytriton`` wheel carries. It has the Python backend only, so
:mod:`mdiff_serving.backends` are laid beside it as ``onnxruntime`` and ``openvino``: it serves the repository that
production serves, unchanged.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mdiff_core import PermanentError, UnavailableError

SERVER_PACKAGE = "nvidia-pytriton==0.7.0"
# The server's Python stub is built against numpy 1: under numpy 2 every output comes back empty.
STUB_PACKAGES = ("numpy<2", "onnxruntime>=1.20", "openvino>=2025.0")
# Those with both a stub in the wheel and a numpy 1.
SUPPORTED_PYTHONS = ((3, 11), (3, 12))

_BACKEND_SOURCES = Path(__file__).with_name("backends")


@dataclass(frozen=True)
class ServerEnvironment:
    """How to run a ``tritonserver``: the command with its first options, and the environment variables."""

    command: tuple[str, ...]
    variables: Mapping[str, str]


def server_environment(notify: Callable[[str], object] = lambda message: None) -> ServerEnvironment:
    """The server on the PATH, with its own backends; else the private one.

    ``notify`` is told when the private one must be set up first, which fetches packages with pip.

    Raises:
        PermanentError: the private one does not run under this Python or on this system.
        UnavailableError: pip could not fetch its packages.
    """
    found = shutil.which("tritonserver")
    if found:
        return ServerEnvironment((str(Path(found).absolute()),), dict(os.environ))
    return _private_environment(notify)


def publish(build: Callable[[Path], None], target: Path) -> None:
    """Build a folder beside ``target`` and rename it when complete; where another process was faster, keep its folder.

    Raises:
        PermanentError: the folder cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".setup-", dir=target.parent) as scratch:
            built = Path(scratch) / "built"
            build(built)
            try:
                built.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
    except OSError as error:
        raise PermanentError(
            f"cannot write {target} ({error}): set XDG_CACHE_HOME to a folder you may write"
        ) from error


def _private_environment(notify: Callable[[str], object]) -> ServerEnvironment:
    if sys.platform != "linux":
        raise PermanentError("no tritonserver on the PATH, and the one mdiff can set up runs on Linux only")
    if sys.version_info[:2] not in SUPPORTED_PYTHONS:
        supported = " or ".join(f"{major}.{minor}" for major, minor in SUPPORTED_PYTHONS)
        raise PermanentError(
            f"no tritonserver on the PATH, and the one mdiff can set up needs Python {supported}, "
            f"not {_python_version()}: run mdiff-serve there, or put a tritonserver on the PATH"
        )
    root = _cache_folder() / f"triton-py{_python_version()}-{_fingerprint()}"
    if not root.is_dir():
        notify(f"setting up a Triton server in {root} (once; pip fetches about 150 MB)")
        publish(_build, root)
    return _environment_in(root)


def _environment_in(root: Path) -> ServerEnvironment:
    packages = _site_packages(root)
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    libraries = [
        packages / "nvidia_pytriton.libs",
        # Where this Python's libpython lies: not every distribution states it truly, all keep it under the prefix.
        Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib"),
        Path(sys.base_prefix) / "lib",
    ]
    return ServerEnvironment(
        # The configurations are complete; to complete them the server would first start every model a second time.
        command=(
            str(packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
            f"--backend-directory={root / 'backends'}",
            "--disable-auto-complete-config",
        ),
        variables={
            **inherited,
            # The stub finds its packages through the first python3 on its PATH.
            "PATH": _joined(root / "bin", inherited.get("PATH")),
            "LD_LIBRARY_PATH": _joined(*libraries, inherited.get("LD_LIBRARY_PATH")),
        },
    )


def _build(root: Path) -> None:
    _run([sys.executable, "-m", "venv", str(root)], "cannot make a virtual environment")
    pip = [str(root / "bin" / "python"), "-I", "-m", "pip", "install", "--quiet", "--no-input", "--only-binary=:all:"]
    failure = "pip cannot install the Triton server"
    _run([*pip, *STUB_PACKAGES], failure)
    # Its dependencies serve its Python API, which is not used here.
    _run([*pip, "--no-deps", SERVER_PACKAGE], failure)
    server = _site_packages(root) / "pytriton" / "tritonserver"
    backends = root / "backends"
    # Real files: the server refuses links that leave the backend directory.
    shutil.copytree(server / "backends" / "python", backends / "python", ignore=shutil.ignore_patterns("__pycache__"))
    stub = backends / "python" / "triton_python_backend_stub"
    shutil.copy2(server / "python_backend_stubs" / _python_version() / stub.name, stub)
    for engine in _BACKEND_SOURCES.glob("*_engine.py"):
        backend = backends / engine.name.removesuffix("_engine.py")
        backend.mkdir()
        shutil.copyfile(engine, backend / "engine.py")
        shutil.copyfile(_BACKEND_SOURCES / "model.py", backend / "model.py")
    _check_stub(stub, _environment_in(root))


def _check_stub(stub: Path, environment: ServerEnvironment) -> None:
    """Without arguments the stub complains and leaves with 1; the loader leaves with 127 where a library is missing."""
    tried = subprocess.run([stub], env=environment.variables, capture_output=True, text=True, timeout=60)
    if tried.returncode == 127:
        raise PermanentError(
            f"the Triton server cannot load a library ({tried.stderr.strip()}): install this Python's shared library "
            f"(Debian: libpython{_python_version()}), or put a tritonserver on the PATH"
        )


def _run(command: list[str], failure: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        output = done.stderr.strip() or done.stdout.strip()
        errors = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR: ")]
        reason = errors[-1] if errors else " ".join(output.split())
        raise UnavailableError(f"{failure}: {reason}; try again, or put a tritonserver on the PATH")


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "mdiff"


def _fingerprint() -> str:
    """Changes with everything the environment is made of: packages, this Python and system, the backends' source."""
    python = (sys.version, sys.base_prefix, sysconfig.get_platform())
    sources = (path.read_text(encoding="utf-8") for path in sorted(_BACKEND_SOURCES.glob("*.py")))
    parts = (SERVER_PACKAGE, *STUB_PACKAGES, *python, *sources)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _site_packages(root: Path) -> Path:
    return root / "lib" / f"python{_python_version()}" / "site-packages"


def _joined(*parts: Path | str | None) -> str:
    return os.pathsep.join(str(part) for part in parts if part)
