"""What a thousand workers would need, on paper and in a simulation (fleet_model.py); prints Markdown.

    OPENBLAS_NUM_THREADS=1 python benchmarks/fleet.py measure
    python benchmarks/fleet.py plan
    python benchmarks/fleet.py plan --compute-ms 1 --nic-gbit 100 --half

``measure`` measures what ``plan`` takes for measured: the worker's time of an evaluation and of a volume, the bytes of
a volume, and the operations of the store. ``plan`` says which of its figures were measured and which are assumed.
"""

from __future__ import annotations

import dataclasses
import io
import math
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any, ClassVar
from unittest import mock

import numpy as np
import typer
from conditions import ONNXRUNTIME, conditions
from fleet_model import PAGE, Fleet, simulate, simulate_start_up
from zarr.abc.store import Store
from zarr.storage import WrapperStore

from mdiff_client.cli import app as client
from mdiff_client.denoisers import Denoiser, Fractions, Images, Steps
from mdiff_client.denoisers.connection import Connection
from mdiff_client.denoisers.place import Place
from mdiff_client.denoisers.triton import TritonDenoiser
from mdiff_client.storage import READS_AT_ONCE, Storage
from mdiff_client.store import VolumeStore
from mdiff_core.command import run_app
from mdiff_serving.server import TritonServer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_CPU_SERVER = 0.324  # seconds of an evaluation, docs/results.md


@app.command()
def measure(
    model: Annotated[str, typer.Option()] = "spheres64",
    plan: Annotated[str, typer.Option()] = "draft",
    volumes: Annotated[int, typer.Option(help="Of the library whose network takes no time.")] = 10,
    calls: Annotated[int, typer.Option(help="Through a local Triton.")] = 20,
) -> None:
    """The worker's own time, bytes of a volume, operations of the store."""
    recipe = ["--model", model, "--plan", plan]
    with tempfile.TemporaryDirectory() as scratch:
        _run(f"{scratch}/real.zarr", [*recipe, "--seeds", "0"])
        with _instant():
            few = _run(f"{scratch}/few.zarr", [*recipe, "--seeds", "0"])
        with _instant() as moments:
            many = _run(f"{scratch}/many.zarr", [*recipe, "--seeds", f"0-{volumes}"])
        stored = sum(file.stat().st_size for file in Path(f"{scratch}/real.zarr/0/c").rglob("*") if file.is_file())
        record = Path(f"{scratch}/real.zarr/records/000000.json").stat().st_size
        evaluations = int(VolumeStore.open(f"{scratch}/real.zarr").record(0)["evaluations"])
    gaps = np.diff(moments)
    last = np.arange(1, len(gaps) + 1) % evaluations == 0
    prepare = np.median(gaps[~last])
    finish = np.median(gaps[last]) - prepare
    rows = [
        ["sampler, CPU time of an evaluation", f"{1000 * prepare:.1f} ms"],
        ["call to a server, CPU time of the client for an evaluation", f"{1000 * _call(model, calls):.1f} ms"],
        [
            "scores, checksum and writing, CPU time of a volume",
            f"{1000 * finish:.0f} ms",
        ],
        ["a volume in the store", f"{stored} bytes"],
        ["its record", f"{record} bytes"],
    ]
    for command, counted in few.items():
        rows.append([f"the store's operations in `{command}` of one volume", _told(counted)])
        each = {name: (many[command][name] - number) / volumes for name, number in counted.items()}
        rows.append(["of each further one", _told(each)])
    print(f"{conditions(ONNXRUNTIME)}\n\n{model}, plan {plan}, {evaluations} evaluations; of one worker:\n")
    _print(["", "measured"], rows)


@app.command()
def plan(
    workers: Annotated[int, typer.Option()] = 1000,
    in_flight: Annotated[int, typer.Option(help="Volumes a worker makes at a time.")] = 4,
    evaluations: Annotated[int, typer.Option(help="Of a volume: those of the plan draft.")] = 14,
    sampler_ms: Annotated[float, typer.Option(help="Measured: the worker's core, an evaluation.")] = 9.7,
    call_ms: Annotated[float, typer.Option(help="Measured: the same, for the call.")] = 5.5,
    finish_ms: Annotated[float, typer.Option(help="Measured: the same, for each volume.")] = 81.0,
    reads: Annotated[float, typer.Option(help="Measured: the store's, for each volume.")] = 1.0,
    writes: Annotated[float, typer.Option(help="Measured: the store's, for each volume.")] = 2.0,
    listings: Annotated[int, typer.Option(help="Measured: of all records, by a worker.")] = 1,
    finalize_reads: Annotated[float, typer.Option(help="Measured: of finalize, for each volume.")] = 1.0,
    volume_bytes: Annotated[int, typer.Option(help="Measured: of a volume and its record in the store.")] = 20855,
    compute_ms: Annotated[float, typer.Option(help="Assumed: a GPU server's, an evaluation of 64 slices.")] = 5.0,
    half: Annotated[bool, typer.Option("--half", help="Images travel as float16.")] = False,
    nic_gbit: Annotated[float, typer.Option(help="Assumed: wire of a node of servers, each way.")] = 25.0,
    replicas_a_node: Annotated[int, typer.Option(help="Assumed.")] = 8,
    latency_ms: Annotated[float, typer.Option(help="Assumed: there and back.")] = 0.5,
    store_latency_ms: Annotated[
        float, typer.Option(help="Assumed: an operation of the store, a page of a listing.")
    ] = 30,
    store_reads: Annotated[float, typer.Option(help="Assumed: a second, S3's for one prefix.")] = 5500.0,
    store_writes: Annotated[float, typer.Option(help="Assumed: a second, S3's for one prefix.")] = 3500.0,
    restart: Annotated[float, typer.Option(help="Assumed: seconds until a lost worker is at work again.")] = 60.0,
    rounds: Annotated[
        float, typer.Option(help="Volumes that each place in flight makes, simulated after a warm-up as long.")
    ] = 2.0,
) -> None:
    """Where the bottlenecks of a fleet lie, and at what size."""
    fleet = Fleet(
        workers=workers,
        in_flight=in_flight,
        evaluations=evaluations,
        prepare=(sampler_ms + call_ms) / 1000,
        finish=finish_ms / 1000,
        request=64 * 64 * 64 * (2 if half else 4),
        replicas_a_node=replicas_a_node,
        wire=nic_gbit * 1e9 / 8,
        latency=latency_ms / 1000,
        compute=compute_ms / 1000,
        store_latency=store_latency_ms / 1000,
        store_reads=store_reads,
        store_writes=store_writes,
        reads_a_volume=reads,
        writes_a_volume=writes,
        restart=restart,
    )
    print(f"{conditions()}\n")
    _print_inputs(fleet, volume_bytes, listings, finalize_reads)
    _print_needs(fleet)
    _print_servers(fleet, rounds)
    _print_failures(fleet)
    _print_libraries(fleet, listings, finalize_reads, volume_bytes)


def _print_inputs(fleet: Fleet, volume_bytes: int, listings: int, finalize_reads: float) -> None:
    measured = {
        "a worker's core, an evaluation: sampler and call": f"{1000 * fleet.prepare:.1f} ms",
        "a worker's core, a volume: scores, checksum, writing": f"{1000 * fleet.finish:.0f} ms",
        "an evaluation's images, each way": f"{fleet.request:.0f} bytes",
        "a volume and its record in the store": f"{volume_bytes} bytes",
        "the store's operations for a volume": f"{fleet.reads_a_volume:g} reads, {fleet.writes_a_volume:g} writes",
        "listings of all records by a worker": f"{listings}",
        "reads of `finalize` for a volume": f"{finalize_reads:g}",
    }
    assumed = {
        "workers × volumes in flight": f"{fleet.workers} × {fleet.in_flight}",
        "a GPU server, an evaluation of 64 slices": f"{1000 * fleet.compute:g} ms",
        f"a node's wire, for {fleet.replicas_a_node} servers, each way": f"{fleet.wire * 8e-9:g} Gbit/s",
        "a call there and back": f"{1000 * fleet.latency:g} ms",
        f"the store: an operation, or {PAGE} names of a listing": f"{1000 * fleet.store_latency:g} ms",
        "the store: operations a second": f"{fleet.store_reads:g} reads, {fleet.store_writes:g} writes",
        "a lost worker, a lost server is back after": f"{fleet.restart:g} s, {fleet.server_restart:g} s",
    }
    _print([f"{fleet.evaluations} evaluations a volume", "measured on CPUs"], measured.items())
    _print(["", "assumed"], assumed.items())


def _print_needs(fleet: Fleet) -> None:
    bounds = {name: bound for name, bound in fleet.bounds().items() if name not in ("servers", "wire")}
    rate = min(bounds.values())
    gbit = rate * fleet.evaluations * fleet.request * 8e-9
    print("\nWith as many servers and wires as it takes:\n")
    ascending = sorted(bounds.items(), key=lambda item: item[1])
    _print(["what binds", "volumes/s"], [[name, f"{bound:.0f}"] for name, bound in ascending])
    print(f"\nWhat it takes, for {rate:.0f} volumes/s and {gbit:.0f} Gbit/s each way:\n")
    rows = []
    for compute in (_CPU_SERVER, *(fleet.compute * factor for factor in (4, 2, 1, 0.4, 0.2))):
        servers = dataclasses.replace(fleet, compute=compute).replicas_for_all()
        said = "measured on 2 CPU cores" if compute == _CPU_SERVER else "assumed"
        nodes = [math.ceil(max(servers / fleet.replicas_a_node, gbit / nic)) for nic in (10, 25, 100)]
        rows.append([f"{1000 * compute:g} ms, {said}", servers, f"{fleet.request * 8e-9 / compute:.2f}", *nodes])
    wires = [f"nodes at {nic} Gbit/s" for nic in (10, 25, 100)]
    _print(["an evaluation takes a server", "servers", "Gbit/s of one, each way", *wires], rows)


def _print_servers(fleet: Fleet, rounds: float) -> None:
    print("\nFrom one server on:\n")
    rows = []
    for replicas in (1, 4, 16, 64, 128, 256):
        one = dataclasses.replace(fleet, replicas=replicas)
        (binding, bound), (following, after), *_ = sorted(one.bounds().items(), key=lambda item: item[1])
        seconds = rounds * one.workers * one.in_flight / bound
        found = simulate(one, seconds=seconds, warm_up=seconds)
        rate = found.evaluations / one.evaluations / seconds
        again = found.retried / (found.retried + found.evaluations)
        simulated = [f"{rate:.1f}", f"{rate / bound:.3f}", f"{again:.0%}", f"{1000 * found.wait:.0f}"]
        rows.append([replicas, binding, f"{bound:.1f}", f"{following}, {after:.1f}", *simulated])
    paper = ["servers", "what binds", "volumes/s on paper", "what would bind next"]
    _print([*paper, "simulated", "ratio", "calls made again", "wait in a queue, ms"], rows)


def _print_failures(fleet: Fleet) -> None:
    workers = fleet.workers // 20
    fleet = dataclasses.replace(fleet, workers=workers)
    fleet = dataclasses.replace(fleet, replicas=math.ceil(1.5 * fleet.replicas_for_all()))
    seconds, rows = 150.0, []
    for worker, server in ((0, 0), (60, 0), (10, 0), (0, 60), (10, 10)):  # minutes between two failures of one
        one = dataclasses.replace(
            fleet, kills=1 / (60 * worker) if worker else 0.0, server_kills=1 / (60 * server) if server else 0.0
        )
        found = simulate(one, seconds=seconds, warm_up=seconds / 5)
        paper = one.bottleneck()[1] * one.at_work() * (1 - one.wasted())
        every = [f"{minutes} min" if minutes else "never" for minutes in (worker, server)]
        rate = found.volumes / seconds
        rows.append([*every, found.lost, f"{paper:.2f}", f"{rate:.2f}", f"{rate / paper:.3f}"])
    print(f"\nFailures of {workers} workers and {fleet.replicas} servers in {seconds:g} s; paper knows the workers':\n")
    _print(["a worker fails every", "a server", "volumes lost", "volumes/s on paper", "simulated", "ratio"], rows)


def _print_libraries(fleet: Fleet, listings: int, finalize_reads: float, volume_bytes: int) -> None:
    fleet = dataclasses.replace(fleet, replicas=fleet.replicas_for_all())
    binding, rate = fleet.bottleneck()
    rows = []
    for volumes in (1000, 10_000, 100_000, 1_000_000):
        begun, simulated = fleet.start_up(volumes, listings), simulate_start_up(fleet, volumes, listings)
        reading = [_time(fleet.finalize(volumes, finalize_reads, at_once)) for at_once in (1, READS_AT_ONCE)]
        size = f"{volumes * volume_bytes / 1e9:.2g} GB"
        rows.append([f"{volumes:,}", size, _time(volumes / rate), _time(begun), _time(simulated), *reading])
    print(f"\nLibraries, made by {fleet.replicas} servers; {binding} bind:\n")
    listed = ["its listing by all workers at once, on paper", "simulated"]
    read = ["reads of `finalize` one by one", f"{READS_AT_ONCE} at a time"]
    _print(["volumes", "in the store", "made in", *listed, *read], rows)


def _print(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    for cells in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(map(str, cells))} |")
    print()


def _time(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


class _Counting(WrapperStore[Store]):
    """A store that counts what is asked of it, of an object store each a call of its own."""

    counted: ClassVar[Counter[str]] = Counter()

    async def get(self, key: str, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the store's
        self.counted["reads"] += 1
        return await super().get(key, *arguments, **named)

    async def set(self, key: str, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - as the store's
        self.counted["writes"] += 1
        await super().set(key, *arguments, **named)

    async def exists(self, key: str) -> bool:
        self.counted["reads"] += 1
        return await super().exists(key)

    async def delete(self, key: str) -> None:
        self.counted["writes"] += 1
        await super().delete(key)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:  # type: ignore[override]
        self.counted[f"listings of {prefix}"] += 1
        async for name in super().list_dir(prefix):
            yield name


def _run(out: str, recipe: list[str]) -> dict[str, Counter[str]]:
    """Operations on the store of the commands that make a library with the embedded engine."""
    made = {}
    zarr = Storage.__dict__["zarr"].func
    with mock.patch.object(Storage, "zarr", property(lambda storage: _Counting(zarr(storage)))):
        for command, arguments in (("create", recipe), ("run", []), ("finalize", [])):
            _Counting.counted.clear()
            with redirect_stdout(io.StringIO()):
                client(["library", command, out, *arguments], standalone_mode=False)
            made[command] = _Counting.counted.copy()
    return made


@contextmanager
def _instant() -> Iterator[list[float]]:
    """Models whose networks take no time; when they were called, in CPU time of this process."""
    moments: list[float] = []
    real = Place.denoiser

    class Instant:
        calls_at_once = 1

        def __init__(self, denoiser: Denoiser) -> None:
            self.contract = denoiser.contract

        def predict(
            self, x: Images, t: Steps, label: Steps | None = None, fractions: Fractions | None = None
        ) -> tuple[Images, None]:
            moments.append(time.process_time())
            return np.float32(0.5) * x, None

    @contextmanager
    def denoiser(place: Place, model: str) -> Iterator[Instant]:
        with real(place, model) as opened:
            yield Instant(opened)

    with mock.patch.object(Place, "denoiser", denoiser):
        yield moments


def _call(model: str, calls: int) -> float:
    """Seconds of CPU time of this process for one call of 64 images to a local Triton."""
    server = TritonServer(Place().folder(), grpc_port=18011, http_port=18010, metrics_port=18012)
    with server, TritonDenoiser(Connection(server.grpc_address), model) as denoiser:
        x = np.zeros((64, denoiser.contract.channels, *denoiser.contract.image_size), np.float32)
        denoiser.predict(x, np.zeros(64, np.int64))
        began = time.process_time()
        for _ in range(calls):
            denoiser.predict(x, np.zeros(64, np.int64))
        return (time.process_time() - began) / calls


def _told(counted: Mapping[str, float]) -> str:
    return ", ".join(f"{number:.2g} {what}" for what, number in sorted(counted.items()) if number) or "none"


if __name__ == "__main__":
    run_app(app)
