"""What a library survives, and what memory a worker takes; prints Markdown.

    python benchmarks/library.py kills --volumes 200 --kills 10
    python benchmarks/library.py memory

``kills`` makes a library by several workers behind a local Triton, twice: once left alone, and once while a worker or
the server is killed (SIGKILL) at random moments; whatever was killed is started again with the same command. Then it
verifies both and compares them, object by object. ``memory`` is the peak resident memory of a worker that makes two
volumes with the embedded engine, in libraries of different size of which the rest is recorded as done.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from conditions import ONNXRUNTIME, conditions

from mdiff_client.store import VolumeStore
from mdiff_core.command import run_app
from mdiff_core.repository import bundled_repository
from mdiff_serving.server import TritonServer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_PORT = 18001
_CLIENT = (sys.executable, "-m", "mdiff_client", "library")


@app.command()
def kills(
    volumes: Annotated[int, typer.Option()] = 200,
    workers: Annotated[int, typer.Option()] = 3,
    kills: Annotated[int, typer.Option()] = 10,
    model: Annotated[str, typer.Option()] = "spheres64",
    plan: Annotated[str, typer.Option()] = "draft",
    seed: Annotated[int, typer.Option(help="Of the moments and the victims.")] = 0,
) -> None:
    """A library whose workers and server are killed, beside one that is left alone."""
    with tempfile.TemporaryDirectory() as folder:
        alone, killed = _Fleet(Path(folder) / "alone", workers), _Fleet(Path(folder) / "killed", workers)
        for fleet in (alone, killed):
            _call("create", fleet.store, "--model", model, "--plan", plan, "--seeds", f"0-{volumes - 1}")
        seconds = {"left alone": alone.run([]), "killed": 0.0}
        rng = random.Random(seed)
        moments = sorted(rng.uniform(0.02, 0.9) * seconds["left alone"] for _ in range(kills))
        seconds["killed"] = killed.run([(moment, rng.randrange(workers + 1)) for moment in moments])
        print(f"{conditions(ONNXRUNTIME)}; {volumes} volumes of {model}, plan {plan}, {workers} workers, one Triton")
        print(
            "\n| run | seconds | killed | volumes done | done twice | missing | verify |\n|---|---|---|---|---|---|---|"
        )
        for name, fleet in (("left alone", alone), ("killed", killed)):
            status = json.loads(_call("status", fleet.store, "--json"))
            done = fleet.done()
            twice = sum(times > 1 for times in done.values())
            found = json.loads(_call("verify", fleet.store, "--json"))
            victims = ", ".join(f"{n} × {who}" for who, n in Counter(fleet.victims).items()) or "none"
            print(
                f"| {name} | {seconds[name]:.0f} | {victims} | {status['done']} | {twice} | {len(status['missing'])} | "
                f"{found['checked']} read, {len(found['damaged'])} damaged |"
            )
        for fleet in (alone, killed):
            _call("finalize", fleet.store)
        one, other = (_objects(fleet.store) for fleet in (alone, killed))
        same = sum(one[name] == other.get(name) for name in one)
        print(
            f"\n{same} of {len(one)} objects (volumes and table) are equal to the byte; {len(other)} in the killed run."
        )


@app.command()
def memory(
    sizes: Annotated[list[int] | None, typer.Option(help="Volumes planned.")] = None,
    model: Annotated[str, typer.Option()] = "spheres64",
    rounds: Annotated[int, typer.Option()] = 3,
) -> None:
    """Peak memory of a worker in libraries of different size."""
    print(f"{conditions(ONNXRUNTIME)}; {model}, plan draft, two volumes, one in flight, {rounds} rounds\n")
    print("| volumes planned | peak memory, MiB |\n|---|---|")
    for size in sizes or [100, 10_000]:
        peaks = []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                store = Path(folder) / "library.zarr"
                _call("create", store, "--model", model, "--plan", "draft", "--seeds", f"0-{size - 1}")
                opened = VolumeStore.open(store)
                for index in range(2, size):
                    opened.write_document("records", index, {"volume": index})
                worker = subprocess.Popen([*_CLIENT, "run", str(store)], stdout=subprocess.DEVNULL)
                _, status, usage = os.wait4(worker.pid, 0)
                if status:
                    sys.exit(f"the worker failed with status {status}")
                peaks.append(usage.ru_maxrss / 1024)
        print(f"| {size} | {', '.join(f'{peak:.0f}' for peak in peaks)} |", flush=True)


class _Fleet:
    """Workers of one library and their server, each started again when it ends before its work is done."""

    def __init__(self, folder: Path, workers: int) -> None:
        folder.mkdir()
        self.store, self.victims = folder / "library.zarr", []
        self._folder, self._workers = folder, workers

    def run(self, kills: list[tuple[float, int]]) -> float:
        """Seconds until all is done; ``kills``: when, and which worker, or after the last of those the server."""
        began, left = time.monotonic(), list(kills)
        server = TritonServer(bundled_repository(), grpc_port=_PORT, http_port=_PORT + 1, metrics_port=_PORT + 2)
        server.start()
        workers = {i: self._worker(i) for i in range(self._workers)}
        try:
            while workers:
                time.sleep(0.1)
                if left and time.monotonic() - began > left[0][0]:
                    self._kill(left.pop(0)[1], workers, server)
                for i, worker in list(workers.items()):
                    code = worker.poll()
                    if code == 0:
                        del workers[i]
                    elif code is not None:
                        workers[i] = self._worker(i)
        finally:
            for worker in workers.values():
                worker.kill()
            server.stop()
        return time.monotonic() - began

    def done(self) -> Counter[int]:
        """How often each volume was reported done."""
        lines = [line for log in self._folder.glob("*.log") for line in log.read_text().splitlines()]
        events = [json.loads(line) for line in lines if line.endswith("}")]
        return Counter(event["volume"] for event in events if event["event"] == "volume done")

    def _worker(self, i: int) -> subprocess.Popen[bytes]:
        command = [*_CLIENT, "run", str(self.store), "--shard", f"{i}/{self._workers}"]
        # A killed worker may leave half a line.
        with (self._folder / f"{i}.{time.monotonic_ns()}.log").open("wb") as log:
            return subprocess.Popen(
                [*command, "--url", f"localhost:{_PORT}", "--log-json"], stdout=subprocess.DEVNULL, stderr=log
            )

    def _kill(self, victim: int, workers: dict[int, subprocess.Popen[bytes]], server: TritonServer) -> None:
        if victim in workers:
            workers[victim].kill()
            workers[victim].wait()
            self.victims.append("worker")
        else:  # the last one, or one whose work is done
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()
            server.start()
            self.victims.append("server")


def _call(command: str, store: Path, *options: str) -> str:
    """What a command of ``mdiff-client library`` prints."""
    return subprocess.run(
        [*_CLIENT, command, str(store), *options], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def _objects(store: Path) -> dict[str, bytes]:
    """Every volume's object and the table, by name."""
    files = [file for file in [*(store / "0" / "c").rglob("*"), store / "table.csv"] if file.is_file()]
    return {str(file.relative_to(store)): file.read_bytes() for file in files}


if __name__ == "__main__":
    run_app(app)
