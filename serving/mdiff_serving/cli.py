"""Command ``mdiff-serve``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from mdiff_core.command import run_app
from mdiff_core.repository import bundled_repository
from mdiff_core.tls import Certificates

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def serve(
    repository: Annotated[
        Path | None, typer.Option(help="Model repository to serve; default: the models that come with mdiff.")
    ] = None,
    grpc_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the gRPC service.")] = 8001,
    http_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the HTTP service.")] = 8000,
    metrics_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Prometheus metrics.")] = 8002,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: every interface.")] = "127.0.0.1",
    tls_cert: Annotated[
        Path | None,
        typer.Option(help="PEM certificate to show, with its chain: turns TLS on for gRPC, and HTTP to health only."),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its PEM private key.")] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(help="PEM certificates that clients' must be signed by; none: clients show none.")
    ] = None,
) -> None:
    """Serve a model repository with a real tritonserver, until Ctrl-C.

    The server is the one on the PATH; where there is none, one is set up on first use in the user's cache directory.
    """
    from mdiff_serving.server import TritonServer

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    server = TritonServer(
        repository or bundled_repository(),
        host=host,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        tls=Certificates(tls_ca, tls_cert, tls_key),
        notify=lambda message: print(message, file=sys.stderr),
    )
    secured = " (mutual TLS)" if tls_ca else " (TLS)" if tls_cert else ""
    with server:
        try:
            print(
                f"ready: {', '.join(server.models)}; gRPC {server.grpc_address}{secured}, HTTP {server.http_address}, "
                f"metrics {server.metrics_address}",
                flush=True,
            )
            server.wait()
        except KeyboardInterrupt:
            print("stopping", file=sys.stderr)


def main() -> None:
    """Entry point."""
    run_app(app)
