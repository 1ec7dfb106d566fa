"""Command ``mdiff-client``: a module for each of its commands."""

from __future__ import annotations

import os

# Before numpy is loaded: its products on one thread are the same to the bit on any number of cores, and several run
# beside each other anyway.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ.get("OPENBLAS_NUM_THREADS", "1")

from mdiff_client.cli import compare, doctor, evaluate, export, generate, homogenize, info, library, preview, report
from mdiff_client.cli.app import app
from mdiff_client.log import warn_on_stderr
from mdiff_core.command import run_app

__all__ = [
    "app",
    "compare",
    "doctor",
    "evaluate",
    "export",
    "generate",
    "homogenize",
    "info",
    "library",
    "main",
    "preview",
    "report",
]


def main() -> None:
    """Entry point."""
    # gRPC's own log would come between our lines, and says nothing that an error does not say.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    warn_on_stderr()
    run_app(app)
