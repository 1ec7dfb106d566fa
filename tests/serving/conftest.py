"""A small client of a running server, and a look at the processes and sockets of this machine."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import np_to_triton_dtype

from mdiff_serving.server import TritonServer

Feeds = dict[str, np.ndarray]


@pytest.fixture
def client_of() -> Iterator[Callable[[TritonServer], grpc.InferenceServerClient]]:
    """A gRPC client of a server, closed at the end of the test."""
    with contextlib.ExitStack() as stack:
        yield lambda server: stack.enter_context(grpc.InferenceServerClient(server.grpc_address))


@pytest.fixture
def infer_input() -> Callable[[Feeds], list[grpc.InferInput]]:
    """Arrays by name as a request's inputs."""

    def convert(feeds: Feeds) -> list[grpc.InferInput]:
        tensors = [grpc.InferInput(name, feed.shape, np_to_triton_dtype(feed.dtype)) for name, feed in feeds.items()]
        for tensor, feed in zip(tensors, feeds.values(), strict=True):
            tensor.set_data_from_numpy(feed)
        return tensors

    return convert


@pytest.fixture
def tiny_feeds() -> Callable[[int, int], Feeds]:
    """``tiny_feeds(n, seed)``: n random samples for the model ``tiny``."""

    def feeds(n: int, seed: int) -> Feeds:
        rng = np.random.default_rng(seed)
        return {
            "x": rng.standard_normal((n, 1, 64, 64), dtype=np.float32),
            "t": rng.integers(0, 1000, (n, 1)),
        }

    return feeds


@pytest.fixture
def tiny_answer() -> Callable[[Feeds], np.ndarray]:
    """What ``tiny`` answers, in closed form."""
    return lambda feeds: 0.1 * feeds["x"] + feeds["t"][:, :, None, None] / 1000


@pytest.fixture
def processes_under() -> Callable[[int], dict[int, str]]:
    """Living processes below a process, by id and name."""
    return _processes_under


@pytest.fixture
def listening_addresses() -> Callable[[int], set[str]]:
    """Addresses on which anything listens on a TCP port of this machine."""

    def addresses(port: int) -> set[str]:
        found = set()
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            for line in Path(table).read_text().splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                address, _, local_port = local.partition(":")
                if state == "0A" and int(local_port, 16) == port:
                    found.add(_proc_address(address))
        return found

    return addresses


def _proc_address(text: str) -> str:
    """An address of /proc/net/tcp or tcp6: words of 32 bits, each little-endian; IPv4 in IPv6 as IPv4."""
    words = [bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    return str(getattr(address, "ipv4_mapped", None) or address)


def _processes_under(root: int) -> dict[int, str]:
    parents, names = {}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pid, _, rest = entry.read_text().partition(" (")
            name, _, fields = rest.rpartition(") ")
            state, parent, *_ = fields.split()
            if state != "Z":
                parents[int(pid)], names[int(pid)] = int(parent), name
    below: dict[int, str] = {}
    frontier = {root}
    while frontier := {pid for pid, parent in parents.items() if parent in frontier}:
        below.update({pid: names[pid] for pid in frontier})
    return below
