"""A fleet of workers, servers and a store: what it can do on paper, and a discrete-event simulation of it.

Workers have several volumes in flight. A volume is so many evaluations, one after the other: the worker's core prepares
one, its request crosses the wire of a server's node, waits in the server's bounded queue, is computed, and its answer
crosses back. Then the volume is written. A request that finds the queue full, or its server gone, is made again after a
pause, as by :class:`mdiff_client.denoisers.triton.TritonDenoiser`. Workers and servers may be lost.

On paper it is a closed network of queues: throughput is at most that of each resource alone, and at most what the
volumes in flight come to if none ever waits (Denning & Buzen 1978, the asymptotic bounds). With service times that do
not vary the lower of these bounds is reached, but where the two nearly meet.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import simpy

Process = Generator[simpy.Event, Any, Any]

QUEUE = 128  # requests, max_queue_size of the exported models
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds, of the client
BEAT = 5.0  # seconds, of a worker's claim
PAGE = 1000  # names in one answer of an object store


@dataclass(frozen=True)
class Fleet:
    """A fleet; times in seconds, sizes in bytes, rates a second.

    Attributes:
        workers: processes that make volumes, each on a core of its own.
        in_flight: volumes a worker makes at a time.
        evaluations: of a volume.
        prepare: the worker's core, for each evaluation.
        finish: the worker's core, for each volume: scores, checksum, compression.
        request: bytes of an evaluation's images; the answer has as many.
        replicas: servers.
        replicas_a_node: servers that share a wire.
        wire: bytes a second of a node's wire, each way.
        latency: of a request and its answer on an idle wire, besides their bytes.
        compute: of a server, for one evaluation.
        launch: of a server, for each batch besides.
        batch: evaluations that a server takes together.
        store_latency: of an operation of the store.
        store_reads, store_writes: operations that the store takes.
        reads_a_volume, writes_a_volume: operations of one volume.
        kills: of a worker, a second.
        restart: until a lost worker is at work again.
        server_kills: of a server, a second.
        server_restart: until a lost server answers again.
    """

    workers: int = 1000
    in_flight: int = 4
    evaluations: int = 14
    prepare: float = 0.0141
    finish: float = 0.1
    request: float = 2**20
    replicas: int = 16
    replicas_a_node: int = 8
    wire: float = 25e9 / 8
    latency: float = 0.5e-3
    compute: float = 5e-3
    launch: float = 0.0
    batch: int = 1
    store_latency: float = 0.03
    store_reads: float = 5500.0
    store_writes: float = 3500.0
    reads_a_volume: float = 1.0
    writes_a_volume: float = 2.0
    kills: float = 0.0
    restart: float = 60.0
    server_kills: float = 0.0
    server_restart: float = 120.0

    @property
    def nodes(self) -> int:
        """Nodes of the servers."""
        return math.ceil(self.replicas / self.replicas_a_node)

    @property
    def alone(self) -> float:
        """Seconds of a volume that never waits, whose requests are computed one by one."""
        evaluation = self.prepare + 2 * self.request / self.wire + self.latency + self.compute + self.launch
        return self.evaluations * evaluation + self.finish + self._operations * self.store_latency

    @property
    def _operations(self) -> float:
        return self.reads_a_volume + self.writes_a_volume

    def bounds(self) -> dict[str, float]:
        """Volumes a second that each resource allows, were it alone, and that those in flight come to unhindered."""
        beats = self.workers / BEAT  # a claim is read and written
        return {
            "workers' cores": self.workers / (self.evaluations * self.prepare + self.finish),
            "volumes in flight": self.workers * self.in_flight / self.alone,
            "wire": self.nodes * self.wire / (self.evaluations * self.request),
            "servers": self.replicas * self.batch / (self.evaluations * (self.launch + self.batch * self.compute)),
            "store, writes": (self.store_writes - beats) / self.writes_a_volume,
            "store, reads": (self.store_reads - beats) / self.reads_a_volume,
        }

    def bottleneck(self) -> tuple[str, float]:
        """What binds, and the volumes a second it allows."""
        bounds = self.bounds()
        name = min(bounds, key=bounds.__getitem__)
        return name, bounds[name]

    def replicas_for_all(self) -> int:
        """Servers that keep every worker's core busy, were the wire no matter."""
        one = replace(self, replicas=1).bounds()["servers"]
        bounds = self.bounds()
        return math.ceil(min(bounds["workers' cores"], bounds["volumes in flight"]) / one)

    def start_up(self, volumes: int, listings: int) -> float:
        """Seconds until every worker knows what is missing of a library that is almost done, all having begun at once.

        A listing comes in pages, one after the other; the store answers so many a second.
        """
        pages = listings * math.ceil(volumes / PAGE)
        return max(pages * self.store_latency, self.workers * pages / self.store_reads)

    def finalize(self, volumes: int, reads: float, at_once: int = 1) -> float:
        """Seconds in which one process reads what it needs of every volume, ``at_once`` operations at a time."""
        return max(self.store_latency / at_once, 1 / self.store_reads) * reads * volumes

    def at_work(self) -> float:
        """Share of the time in which a worker that may be killed is at work."""
        return 1 / (1 + self.kills * self.restart)

    def wasted(self) -> float:
        """Share of the evaluations that are of volumes lost with their worker.

        They are half made on average, and in flight for in_flight × workers / throughput (Little's law).
        """
        return self.kills * self.in_flight * self.workers / self.bottleneck()[1] / 2


@dataclass
class Outcome:
    """What a simulation counted in its window.

    Attributes:
        seconds: length of the window.
        volumes: completed.
        evaluations: of volumes, answered.
        lost: volumes that were in flight when their worker was killed.
        retried: requests made again.
        queued: seconds that requests waited in the servers' queues, together.
    """

    seconds: float = 0.0
    volumes: int = 0
    evaluations: int = 0
    lost: int = 0
    retried: int = 0
    queued: float = 0.0

    @property
    def wait(self) -> float:
        """Mean seconds of a request in a queue."""
        return self.queued / max(self.evaluations, 1)


class _Line:
    """Customers one after the other, each for a time that is known when it comes."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env, self._free = env, 0.0

    def through(self, seconds: float, then: float = 0.0) -> simpy.Timeout:
        self._free = max(self._free, self._env.now) + seconds
        return self._env.timeout(self._free + then - self._env.now)


class _AwayError(Exception):
    """The server is gone, or its queue is full."""


@dataclass
class _Server:
    """Batches of what waits, for one replica."""

    simulation: _Simulation
    out: _Line
    back: _Line
    waiting: deque[tuple[simpy.Event, float]] = field(default_factory=deque)
    up: bool = True
    idle: simpy.Event | None = None

    def ask(self) -> simpy.Event:
        if not self.up or len(self.waiting) >= QUEUE:
            raise _AwayError
        env = self.simulation.env
        answer = env.event()
        self.waiting.append((answer, env.now))
        if self.idle:
            self.idle.succeed()
            self.idle = None
        return answer

    def serve(self) -> Process:
        env, fleet, counted = self.simulation.env, self.simulation.fleet, self.simulation.counted
        while True:
            if not self.waiting:
                self.idle = env.event()
                yield self.idle
            taken = [self.waiting.popleft() for _ in range(min(fleet.batch, len(self.waiting)))]
            counted.queued += sum(env.now - since for _, since in taken)
            try:
                yield env.timeout(fleet.launch + len(taken) * fleet.compute)
            except simpy.Interrupt:
                yield from self._away([*taken, *self.waiting])
                continue
            for answer, _ in taken:
                answer.succeed()

    def _away(self, asked: list[tuple[simpy.Event, float]]) -> Process:
        self.waiting.clear()
        self.up = False
        for answer, _ in asked:
            answer.fail(_AwayError())
            answer.defused = True  # its worker may be gone too
        yield self.simulation.env.timeout(self.simulation.fleet.server_restart)
        self.up = True

    def perish(self, served: simpy.Process) -> Process:
        fleet, env = self.simulation.fleet, self.simulation.env
        while True:
            yield env.timeout(self.simulation.rng.exponential(1 / fleet.server_kills))
            if self.up and self.idle is None:
                served.interrupt()


class _Simulation:
    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.env, self.fleet, self.counted = simpy.Environment(), fleet, Outcome()
        self.rng = np.random.default_rng(seed)
        self.reads, self.writes = _Line(self.env), _Line(self.env)
        wires = [(_Line(self.env), _Line(self.env)) for _ in range(fleet.nodes)]
        self.servers = [_Server(self, *wires[i // fleet.replicas_a_node]) for i in range(fleet.replicas)]
        for server in self.servers:
            served = self.env.process(server.serve())
            if fleet.server_kills:
                self.env.process(server.perish(served))
        for number in range(fleet.workers):
            self.env.process(self._worker(number))

    def measured(self, warm_up: float, seconds: float) -> Outcome:
        self.env.run(warm_up)
        for name, value in vars(Outcome(seconds)).items():
            setattr(self.counted, name, value)
        self.env.run(warm_up + seconds)
        return self.counted

    def _worker(self, number: int) -> Process:
        env, fleet = self.env, self.fleet
        # Not all in step.
        yield env.timeout(self.rng.uniform(0, fleet.alone))
        self.env.process(self._claim())
        while True:
            core = _Line(env)
            at_work = [env.process(self._volumes(number * fleet.in_flight + i, core)) for i in range(fleet.in_flight)]
            if not fleet.kills:
                return
            yield env.timeout(self.rng.exponential(1 / fleet.kills))
            for volume in at_work:
                volume.interrupt()
            self.counted.lost += len(at_work)
            yield env.timeout(fleet.restart)

    def _claim(self) -> Process:
        while True:
            self._operation(self.reads, self.fleet.store_reads)
            self._operation(self.writes, self.fleet.store_writes)
            yield self.env.timeout(BEAT)

    def _volumes(self, turn: int, core: _Line) -> Process:
        """One volume after the other; its calls go to every server in turn."""
        env, fleet = self.env, self.fleet
        try:
            while True:
                for _ in range(fleet.evaluations):
                    yield core.through(fleet.prepare)
                    pause = FIRST_PAUSE
                    while True:
                        turn += 1
                        try:
                            yield from self._call(self.servers[turn % len(self.servers)])
                            self.counted.evaluations += 1
                            break
                        except _AwayError:
                            self.counted.retried += 1
                            yield env.timeout(pause)
                            pause = min(2 * pause, LONGEST_PAUSE)
                yield core.through(fleet.finish)
                for _ in range(round(fleet.reads_a_volume)):
                    yield self._operation(self.reads, fleet.store_reads)
                for _ in range(round(fleet.writes_a_volume)):
                    yield self._operation(self.writes, fleet.store_writes)
                self.counted.volumes += 1
        except simpy.Interrupt:
            return

    def _call(self, server: _Server) -> Process:
        fleet = self.fleet
        if not server.up:  # known from the connection, before anything is sent
            raise _AwayError
        yield server.out.through(fleet.request / fleet.wire, fleet.latency / 2)
        yield server.ask()
        yield server.back.through(fleet.request / fleet.wire, fleet.latency / 2)

    def _operation(self, line: _Line, rate: float) -> simpy.Timeout:
        return line.through(1 / rate, self.fleet.store_latency - 1 / rate)


def simulate(fleet: Fleet, *, seconds: float, warm_up: float, seed: int = 0) -> Outcome:
    """Run a fleet for ``warm_up`` and then ``seconds`` of its own time, and count in the latter; volumes never end."""
    return _Simulation(fleet, seed).measured(warm_up, seconds)


def simulate_start_up(fleet: Fleet, volumes: int, listings: int) -> float:
    """Seconds until the last of all workers, who begin at once, has read its listings page by page."""
    env = simpy.Environment()
    line = _Line(env)

    def worker() -> Process:
        for _ in range(listings * math.ceil(volumes / PAGE)):
            yield line.through(1 / fleet.store_reads, fleet.store_latency - 1 / fleet.store_reads)

    for _ in range(fleet.workers):
        env.process(worker())
    env.run()
    return float(env.now)
