"""Speed of serving a denoiser, and of the engines that may compute it; prints Markdown.

    python benchmarks/serving.py throughput --model spheres64
    python benchmarks/serving.py engines --model spheres64 --volumes 8

``throughput`` compares images per second through a local Triton, with several clients at once, with those of
onnxruntime in this process: same graph, same images a call, same cores, in rounds that alternate. ``engines`` times one
call of each engine that is installed here on the same images, in turn, and says how far its answer is from that of
onnxruntime in float32; with ``--volumes`` also how good the volumes are that each makes of the same noise, beside the
training data, and how many of their voxels are of another phase.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import onnxruntime
import typer
from conditions import ONNXRUNTIME, conditions
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

from mdiff_client.denoisers import Denoiser, network_inputs
from mdiff_client.denoisers.connection import Connection
from mdiff_client.denoisers.place import Place
from mdiff_client.denoisers.triton import TritonDenoiser
from mdiff_client.evaluation import ALL_AXES, compare_volumes
from mdiff_client.phases import to_labels
from mdiff_client.report import comparison_cells
from mdiff_client.sampling import named_plan, sample
from mdiff_core import ModelContract
from mdiff_core.command import run_app
from mdiff_core.repository import onnx_file
from mdiff_export.precision import to_float16
from mdiff_export.wire import random_batch
from mdiff_serving.server import TritonServer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Batch = dict[str, np.ndarray]
Engine = Callable[[Batch], np.ndarray]
"""``eps`` of a batch of the network's named inputs."""

_PLAN = "fast"
_SEED, _SEED_OF_CALIBRATION = 1, 0


@dataclass(frozen=True)
class EngineDenoiser:
    """An engine as a denoiser, which gives it as many images at once as the embedded one does."""

    contract: ModelContract
    engine: Engine
    calls_at_once: int = 1

    def predict(
        self, x: np.ndarray, t: np.ndarray, label: np.ndarray | None = None, fractions: np.ndarray | None = None
    ) -> tuple[np.ndarray, None]:
        """See :class:`mdiff_client.denoisers.Denoiser`."""
        inputs = network_inputs(self.contract, x, t, label, fractions)
        parts = [{name: value[i : i + 32] for name, value in inputs.items()} for i in range(0, len(x), 32)]
        return np.concatenate([self.engine(part) for part in parts]), None


@app.command()
def throughput(
    model: Annotated[str, typer.Option()] = "spheres64",
    clients: Annotated[int, typer.Option(help="Clients at once.")] = 4,
    images: Annotated[int, typer.Option(help="Images a call.")] = 64,
    seconds: Annotated[float, typer.Option(help="Length of a round.")] = 10.0,
    rounds: Annotated[int, typer.Option()] = 5,
) -> None:
    """Images a second through Triton over those of onnxruntime in process."""
    place, rows = Place(), []
    server = TritonServer(place.folder(), grpc_port=18001, http_port=18000, metrics_port=18002)
    with place.denoiser(model) as here, server, ExitStack() as opened:
        connection, arguments = Connection(server.grpc_address), _arguments(here, images)
        there = [opened.enter_context(TritonDenoiser(connection, model)) for _ in range(clients)]
        for round_ in range(rounds):
            order = [[here], there] if round_ % 2 else [there, [here]]
            rates = [_rate(denoisers, arguments, seconds) for denoisers in order]
            rows.append(rates if round_ % 2 else rates[::-1])
    print(f"{conditions(ONNXRUNTIME)}\n\n{model}, {images} images a call, {clients} clients, rounds of {seconds:g} s\n")
    print("| round | in process, images/s | through Triton, images/s | ratio |\n|---|---|---|---|")
    for round_, (inside, through) in enumerate(rows):
        print(f"| {round_} | {inside:.1f} | {through:.1f} | {through / inside:.3f} |")
    print(f"\nMedian ratio {statistics.median(through / inside for inside, through in rows):.3f}.")


@app.command()
def engines(
    model: Annotated[str, typer.Option()] = "spheres64",
    images: Annotated[int, typer.Option(help="Images a call.")] = 32,
    rounds: Annotated[int, typer.Option()] = 15,
    volumes: Annotated[int, typer.Option(help="Volumes to make with each engine.")] = 0,
) -> None:
    """Time of one call by engine, and the largest difference of its answer from onnxruntime's in float32."""
    place = Place()
    contract, path = place.contract(model), onnx_file(place.folder(), model)
    rng = np.random.default_rng(0)
    batch = random_batch(contract, rng.integers(0, contract.schedule.timesteps, images), rng)
    with tempfile.TemporaryDirectory() as scratch:
        found = _engines(path, contract, Path(scratch))
        answers = {name: run(batch) for name, run in found.items()}
        times: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(rounds):
            for name, run in found.items():
                began = time.perf_counter()
                run(batch)
                times[name].append(time.perf_counter() - began)
    first = next(iter(found))
    print(f"{conditions(ONNXRUNTIME)}\n\n{model}, one call of {images} images, {rounds} rounds in turn\n")
    print("| engine | median, ms | over the first, median of the rounds | differs by at most |\n|---|---|---|---|")
    for name, spent in times.items():
        ratio = statistics.median(a / b for a, b in zip(spent, times[first], strict=True))
        difference = np.abs(answers[name] - answers[first]).max()
        print(f"| {name} | {1000 * statistics.median(spent):.0f} | {ratio:.2f} | {difference:.1e} |")
    if volumes:
        print(f"\n{volumes} volumes of seed {_SEED} with each, plan {_PLAN}\n")
        print("| engine | other voxels | phase | fraction | specific surface | S2 error % | LP error % |")
        print("|---|---|---|---|---|---|---|")
        reference = _labels(found[first], contract, volumes)
        _print_quality(first, contract, reference, reference)
        for name, engine in found.items():
            if not np.array_equal(answers[name], answers[first]):
                _print_quality(name, contract, _labels(engine, contract, volumes), reference)


def _labels(engine: Engine, contract: ModelContract, volumes: int) -> np.ndarray:
    """Phase labels of the volumes that an engine makes [volumes, Z, Y, X]."""
    denoiser, plan = EngineDenoiser(contract, engine), named_plan(_PLAN)
    return np.stack([to_labels(sample(denoiser, plan, _SEED, volume), contract) for volume in range(volumes)])


def _print_quality(name: str, contract: ModelContract, volumes: np.ndarray, reference: np.ndarray) -> None:
    names = [phase.name for phase in contract.phases]
    compared = compare_volumes(volumes, {ALL_AXES: contract.references}, names)[ALL_AXES]
    for phase, of in compared.items():
        cell, _, *figures = comparison_cells(phase, of)
        print(f"| {name} | {100 * np.mean(volumes != reference):.2f} % | {' | '.join([cell, *figures])} |")


def _engines(path: Path, contract: ModelContract, scratch: Path) -> dict[str, Engine]:
    """Engines by name; the first is what the embedded engine does."""
    onnx.save(to_float16(onnx.load(path), wire=False), scratch / "half.onnx")
    single = _session(path)
    found = {
        "onnxruntime, float32": single,
        "onnxruntime, without memory arena": _session(path, enable_cpu_mem_arena=False),
        "onnxruntime, without memory pattern": _session(path, enable_mem_pattern=False),
        "onnxruntime, float16 graph": _session(scratch / "half.onnx"),
        "onnxruntime, int8 weights": _session(_int8_weights(path, scratch / "weights.onnx")),
        "onnxruntime, int8 calibrated": _session(
            _int8_calibrated(path, scratch / "calibrated.onnx", _asked_by_sampler(single, contract))
        ),
    }
    try:
        import openvino
    except ImportError:
        return found
    core = openvino.Core()
    capable = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for kind in ("f32", "bf16") if capable else ("f32",):
        hints = {"INFERENCE_PRECISION_HINT": kind, "PERFORMANCE_HINT": "LATENCY"}
        compiled = core.compile_model(str(path), "CPU", hints)
        found[f"OpenVINO, {kind}"] = lambda batch, compiled=compiled: compiled(batch)["eps"]
    return found


def _session(path: Path, **options: bool) -> Engine:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    for name, value in options.items():
        setattr(settings, name, value)
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(["eps"], batch)[0]


def _int8_weights(path: Path, out: Path) -> Path:
    # What onnxruntime offers without calibration: int8 weights, activations quantized as they come.
    quantize_dynamic(path, out, weight_type=QuantType.QUInt8)
    return out


def _int8_calibrated(path: Path, out: Path, asked: list[Batch]) -> Path:
    class Asked(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = iter(asked)

        def get_next(self) -> Batch | None:
            return next(self._batches, None)

    quantize_static(path, out, Asked(), per_channel=True, op_types_to_quantize=["Conv", "MatMul", "Gemm"])
    return out


def _asked_by_sampler(engine: Engine, contract: ModelContract) -> list[Batch]:
    """Every eighth image that the network is asked about while a volume of another seed is made, call by call."""
    asked: list[Batch] = []

    def noting(batch: Batch) -> np.ndarray:
        asked.append({name: value[::8] for name, value in batch.items()})
        return engine(batch)

    sample(EngineDenoiser(contract, noting), named_plan(_PLAN), _SEED_OF_CALIBRATION, 0)
    return asked


def _arguments(denoiser: Denoiser, images: int) -> tuple[np.ndarray | None, ...]:
    rng = np.random.default_rng(0)
    batch = random_batch(denoiser.contract, rng.integers(0, denoiser.contract.schedule.timesteps, images), rng)
    label = batch["label"][:, 0] if "label" in batch else None
    return batch["x"], batch["t"][:, 0], label, batch.get("fractions")


def _rate(denoisers: Sequence[Denoiser], arguments: tuple[np.ndarray | None, ...], seconds: float) -> float:
    """Images a second of several callers at once, one for each denoiser; calls under way at the end count."""

    def calls(denoiser: Denoiser) -> int:
        made, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            denoiser.predict(*arguments)  # type: ignore[arg-type]
            made += 1
        return made

    assert arguments[0] is not None
    denoisers[0].predict(*arguments)  # type: ignore[arg-type]
    with ThreadPoolExecutor(len(denoisers)) as callers:
        began = time.perf_counter()
        made = sum(callers.map(calls, denoisers))
        return made * len(arguments[0]) / (time.perf_counter() - began)


if __name__ == "__main__":
    run_app(app)
