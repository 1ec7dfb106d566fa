"""A running ``tritonserver``: started, awaited, stopped."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import os
import re
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from mdiff_core import DataError, MdiffError, PermanentError, UnavailableError, UsageError
from mdiff_core.repository import model_names
from mdiff_core.tls import Certificates
from mdiff_serving.environment import server_environment

START_TIMEOUT = 600.0
"""Seconds a server may take to load its models."""

EXIT_TIMEOUT = 10
"""Seconds a stopping server waits for requests in flight, and for idle HTTP connections that clients hold open."""

_POLL = 0.05
_CONTROLS = "shared-memory,logging,trace"
_ALL_BUT_HEALTH = f"metadata,inference,model-config,model-repository,statistics,{_CONTROLS}"
_LOAD_FAILURE = re.compile(r"failed to load '([^']+)' version \d+: (?:Internal: )?(?:TritonModelException: )?(.+)")
_CONFIG_FAILURE = re.compile(r"Error parsing text-format inference\.ModelConfig: ()(.+)")
_POLL_FAILURE = re.compile(r"Poll failed for model directory '([^']+)': (.+)")
_OTHER_FAILURE = re.compile(r"^error: (.+)", re.MULTILINE)


class TritonServer:
    """A real ``tritonserver`` on a model repository, in a process group of its own.

    All three services listen on the address ``host``. No client can load or unload models, or change what is logged or
    traced. With a certificate in ``tls`` gRPC is encrypted, and with a ``ca`` it demands a client certificate; HTTP,
    which stays plaintext, then answers about health alone, and the metrics are still open. ``notify`` is told when the
    server must be set up first (:func:`mdiff_serving.environment.server_environment`), and when other machines may
    reach it unencrypted. Use it as a context manager, or call :meth:`start` and :meth:`stop`; it may be started again
    after it was stopped.

    Attributes:
        models: names of the models it serves, after :meth:`start`.
    """

    def __init__(
        self,
        repository: Path,
        *,
        host: str = "127.0.0.1",
        grpc_port: int = 8001,
        http_port: int = 8000,
        metrics_port: int = 8002,
        tls: Certificates | None = None,
        notify: Callable[[str], object] = lambda message: None,
    ) -> None:
        self.repository = repository
        self.host = host
        self._ports = {"grpc": grpc_port, "http": http_port, "metrics": metrics_port}
        self.tls = tls or Certificates()
        if self.tls.ca and not self.tls.certificate:
            raise UsageError(
                "a server that demands client certificates shows one itself: give --tls-cert and --tls-key"
            )
        self._notify = notify
        self.models: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None

    @property
    def grpc_address(self) -> str:
        """``host:port`` of the gRPC service."""
        return f"{self.host}:{self._ports['grpc']}"

    @property
    def http_address(self) -> str:
        """``host:port`` of the HTTP service."""
        return f"{self.host}:{self._ports['http']}"

    @property
    def metrics_address(self) -> str:
        """``host:port`` of the Prometheus metrics, path ``/metrics``."""
        return f"{self.host}:{self._ports['metrics']}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The server's process, after :meth:`start`."""
        if self._process is None:
            raise UsageError("the server has not been started")
        return self._process

    def start(self) -> None:
        """Start the server and wait until every model is ready.

        Raises:
            UsageError: a port is taken, or the host is none of this machine's.
            DataError: the repository is missing or empty, or one of its models cannot be loaded.
            PermanentError: the server ends for another reason, or cannot run on this system.
            UnavailableError: it cannot be fetched now, or is not ready within :data:`START_TIMEOUT`.
        """
        self.models = model_names(self.repository)
        self._check_ports()
        if not self.tls.certificate and not ipaddress.ip_address(socket.gethostbyname(self.host)).is_loopback:
            self._notify(
                f"warning: anyone who reaches {self.host} may use this server, and read what travels: give --tls-cert "
                "and --tls-key, and --tls-ca for clients of your own"
            )
        environment = server_environment(self._notify)
        handle, path = tempfile.mkstemp(prefix="mdiff-serve-", suffix=".log")
        self._log = Path(path)
        with os.fdopen(handle, "wb") as log:
            self._process = subprocess.Popen(
                [*environment.command, *self._options()],
                env=environment.variables,
                # Python-based backends import "model" from the working directory first: start where there is none.
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal goes to the whole group: the server must outlive it until it is stopped in order.
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except MdiffError:
            self._end()
            raise
        except BaseException:
            self.stop()
            raise

    def wait(self) -> None:
        """Block as long as the server lives.

        Raises:
            UnavailableError: always, when it has ended; the message says how.
        """
        code = self.process.wait()
        how = (
            f"was killed by signal {-code} ({signal.Signals(-code).name})"
            if code < 0
            else f"ended with exit code {code}"
        )
        raise UnavailableError(f"tritonserver {how} (its log: {self._log}): start mdiff-serve again")

    def stop(self) -> None:
        """Stop the server and every process it started; nothing happens where it does not run.

        It answers the requests in flight first, for at most :data:`EXIT_TIMEOUT` seconds. Its log is deleted unless it
        had ended by itself.
        """
        if self._process and self._process.poll() is None and self._log:
            self._log.unlink(missing_ok=True)
        self._end()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _options(self) -> list[str]:
        address = socket.gethostbyname(self.host)  # a name the server would take for 255.255.255.255
        services = [
            f"--{name}-{key}" for name, port in self._ports.items() for key in (f"address={address}", f"port={port}")
        ]
        closed_http = _ALL_BUT_HEALTH if self.tls.certificate else _CONTROLS
        return [
            f"--model-repository={self.repository.resolve()}",
            *services,
            *self._tls_options(),
            # Whoever knows the header may pass: no other machine does, users of this one could look it up.
            f"--grpc-restricted-protocol={_CONTROLS}:mdiff={secrets.token_urlsafe()}",
            f"--http-restricted-api={closed_http}:mdiff={secrets.token_urlsafe()}",
            "--model-control-mode=none",
            "--exit-on-error=true",
            f"--exit-timeout-secs={EXIT_TIMEOUT}",
        ]

    def _tls_options(self) -> list[str]:
        if not (self.tls.certificate and self.tls.key):
            return []
        mutual = [f"--grpc-root-cert={self.tls.ca.resolve()}", "--grpc-use-ssl-mutual=true"] if self.tls.ca else []
        return [
            "--grpc-use-ssl=true",
            f"--grpc-server-cert={self.tls.certificate.resolve()}",
            f"--grpc-server-key={self.tls.key.resolve()}",
            *mutual,
        ]

    def _check_ports(self) -> None:
        """Take the three ports for a moment: the server itself would find one taken only after loading its models."""
        with contextlib.ExitStack() as taken:
            for name, port in self._ports.items():
                try:
                    listener = taken.enter_context(socket.socket())
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    listener.bind((self.host, port))
                    listener.listen()
                except OSError as error:
                    raise UsageError(
                        f"cannot listen on {self.host}:{port} ({error.strerror}): choose another {name} port or host"
                    ) from error

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not self._is_ready():
            if self.process.poll() is not None:
                raise self._start_failure()
            if time.monotonic() > deadline:
                raise UnavailableError(f"tritonserver is not ready after {START_TIMEOUT:.0f} s: see {self._log}")
            time.sleep(_POLL)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.terminate()
            process.send_signal(signal.SIGCONT)  # a suspended server would not hear the first signal
            process.wait(EXIT_TIMEOUT + 5)
            _wait_for_group(process.pid, 3.0)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(self.host, self._ports["http"], timeout=5)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _start_failure(self) -> DataError | PermanentError:
        """What the log says: the models that cannot be loaded, else the server's last error."""
        assert self._log is not None
        log = self._log.read_text(encoding="utf-8", errors="replace")
        broken = [
            f"model {match[1]}: {_message(match[2])}" if match[1] else f"config.pbtxt: {_message(match[2])}"
            for pattern in (_CONFIG_FAILURE, _POLL_FAILURE, _LOAD_FAILURE)
            for match in pattern.finditer(log)
        ]
        if broken:
            return DataError(f"{'; '.join(dict.fromkeys(broken))} (server log: {self._log})")
        others = _OTHER_FAILURE.findall(log)
        reason = others[-1] if others else f"exit code {self.process.returncode}"
        return PermanentError(f"tritonserver did not start: {reason} (server log: {self._log})")


def _message(text: str) -> str:
    """A message out of the log: without the Python traceback behind it and the closing quote."""
    return text.split("\\n\\nAt:")[0].replace("\\n", " ").strip().removesuffix('"').strip()


def _wait_for_group(group: int, timeout: float) -> None:
    """Wait until no process of a group is left: stubs that lost their server clean up and end within seconds."""
    deadline = time.monotonic() + timeout
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(_POLL)
