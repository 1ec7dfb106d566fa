"""Throughput of training a preset on one device, and where its time goes; prints Markdown.

    python benchmarks/training.py
    python benchmarks/training.py --preset micro3diff --device cuda --set training.bf16=true
    python benchmarks/training.py --device cuda --set training.compile=true --set training.batch=256

The steps are those of ``mdiff-train fit``, drawing of the batch included, on random labels: what the images show does
not change the work. Arithmetic is that of convolutions, matrix products and attention, forward and backward, as
``torch.utils.flop_counter`` counts it. The peak is the best of a few large matrix products in the same type of number.
"""

from __future__ import annotations

import statistics
from typing import Annotated

import numpy as np
import torch
import typer
from conditions import conditions
from device_time import seconds_of
from torch.autograd import DeviceType
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mdiff_core import ModelContract, Provenance
from mdiff_core.command import run_app
from mdiff_training.config import TrainingConfig, load_config
from mdiff_training.data.micrographs import Micrographs
from mdiff_training.data.volumes import micrographs_of_phases
from mdiff_training.draws import draw
from mdiff_training.loop import take_step
from mdiff_training.loss import Objective
from mdiff_training.precision import computes_bfloat16
from mdiff_training.ranks import Ranks, joined
from mdiff_training.state import State

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

PROFILED_STEPS = 3


@app.command()
def training(
    preset: Annotated[str, typer.Option(help="Preset by name, or a TOML file.")] = "compact64",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a key: SECTION.KEY=VALUE.")] = None,
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu",
    seconds: Annotated[float, typer.Option(help="How long to time steps.")] = 15.0,
    top: Annotated[int, typer.Option(help="Operators to list.")] = 10,
) -> None:
    """Images a second, share of the device's peak, and the operators that take longest."""
    config = load_config(preset, set_ or [])
    plan = config.training
    with joined(device) as ranks:
        kind = torch.bfloat16 if plan.bf16 and computes_bfloat16(ranks.device) else torch.float32
        trainer = _Trainer(config, ranks)
        before = _peak(ranks.device, kind)
        work = trainer.flops()
        step = trainer.median_seconds(seconds)
        drawing = statistics.median([seconds_of(trainer.draw, ranks.device) for _ in range(5)])
        operators, profiled = trainer.operators()
        peak = max(before, _peak(ranks.device, kind))
    parameters = sum(p.numel() for p in trainer.state.network.parameters())
    height, width = plan.image_size
    print(f"{_conditions(ranks.device)}\n")
    print(
        f"`{' '.join([preset, *(set_ or [])])}`: {height}×{width}, batch {plan.batch}"
        f"{f' in {plan.accumulate} parts' if plan.accumulate > 1 else ''}, {parameters / 1e6:.1f} M parameters, "
        f"{str(kind).removeprefix('torch.')}{', compiled' if plan.compile else ''}\n"
    )
    print(f"- {plan.batch / step:.1f} images/s: {1000 * step:.1f} ms a step (median)")
    print(f"- {work / plan.batch / 1e9:.2f} GFLOP an image, forward and backward: {work / step / 1e12:.3f} TFLOP/s")
    print(
        f"- peak measured in the same run: {peak / 1e12:.3f} TFLOP/s; training reaches {work / step / peak:.0%} of it"
    )
    print(f"- drawing the batch on the CPU: {1000 * drawing:.1f} ms, {drawing / step:.0%} of a step")
    if ranks.device.type == "cuda":
        print(f"- GPU memory: {torch.cuda.max_memory_allocated(ranks.device) / 2**30:.1f} GiB at most")
    print(f"\nProfile of {PROFILED_STEPS} steps, {1000 * profiled:.1f} ms each while profiled:\n")
    print("| operator | ms a step | share | calls a step |\n|---|---|---|---|")
    for name, spent, calls in operators[:top]:
        print(f"| {name} | {1000 * spent:.2f} | {spent / profiled:.1%} | {calls:.0f} |")
    listed, all_ = (sum(spent for _, spent, _ in rows) for rows in (operators[:top], operators))
    print(f"| {len(operators[top:])} others | {1000 * (all_ - listed):.2f} | {(all_ - listed) / profiled:.1%} | |")
    print(f"| outside operators | {1000 * (profiled - all_):.2f} | {(profiled - all_) / profiled:.1%} | |")


class _Trainer:
    """A preset, ready to take steps."""

    def __init__(self, config: TrainingConfig, ranks: Ranks) -> None:
        self.plan, self.ranks = config.training, ranks
        self.micrographs = _noise(config.training.image_size)
        self.contract = ModelContract(
            name="benchmark",
            image_size=config.training.image_size,
            channels=self.micrographs.channels,
            phases=self.micrographs.phases,
            schedule=config.schedule,
            prediction="epsilon+variance" if config.model.learned_variance else "epsilon",
            provenance=Provenance("noise", "CC0-1.0", "benchmarks/training.py", "unknown"),
        )
        self.state = State.begin(config, self.contract, ranks.device)
        model = config.model
        self.objective = Objective(
            self.contract.schedule.build(), model.learned_variance, config.training.vlb_weight, model.velocity
        )

    def draw(self) -> object:
        return draw(self.plan, self.state.step, self.micrographs, self.state.timesteps, None)

    def step(self) -> None:
        drawn = draw(self.plan, self.state.step, self.micrographs, self.state.timesteps, None)
        take_step(self.plan, self.ranks, self.state, self.state.network, self.objective, drawn)

    def flops(self) -> int:
        """Of one step; attention is counted as the matrix products it stands for."""
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            self.step()
        return counter.get_total_flops()

    def median_seconds(self, seconds: float) -> float:
        """Of one step, after the first few."""
        if self.plan.compile:
            self.state.network.compile()
        for _ in range(3):
            self.step()
        one = seconds_of(self.step, self.ranks.device)
        # Many at once where they are short: a GPU need not wait between the steps.
        at_once = max(1, round(0.5 / one))

        def some() -> None:
            for _ in range(at_once):
                self.step()

        rounds = max(3, round(seconds / (one * at_once)))
        return statistics.median([seconds_of(some, self.ranks.device) for _ in range(rounds)]) / at_once

    def operators(self) -> tuple[list[tuple[str, float, float]], float]:
        """Name, seconds and calls of each operator, longest first, and seconds in all: each for one step."""
        gpu = self.ranks.device.type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]

        def some() -> None:
            for _ in range(PROFILED_STEPS):
                self.step()

        with profile(activities=activities) as recorded:
            spent = seconds_of(some, self.ranks.device)
        rows = []
        for event in recorded.key_averages():
            if event.device_type == DeviceType.CPU:  # on a GPU each kernel's time is also told of its operator
                microseconds = event.self_device_time_total if gpu else event.self_cpu_time_total
                rows.append((event.key, microseconds / 1e6 / PROFILED_STEPS, event.count / PROFILED_STEPS))
        return sorted((row for row in rows if row[1] > 0), key=lambda row: -row[1]), spent / PROFILED_STEPS


def _noise(tile: tuple[int, int]) -> Micrographs:
    labels = np.random.default_rng(0).integers(0, 2, (4 * tile[0], 4 * tile[1])).astype(np.uint8)
    return micrographs_of_phases([labels], ("matrix", "inclusion"), tile=tile)


def _peak(device: torch.device, kind: torch.dtype) -> float:
    """FLOP/s of a large matrix product."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
    torch.set_float32_matmul_precision("high")  # as cuDNN's convolutions do by default
    torch.mm(a, b)
    best = min(seconds_of(lambda: torch.mm(a, b), device) for _ in range(5))
    torch.set_float32_matmul_precision("highest")
    return 2 * size**3 / best


def _conditions(device: torch.device) -> str:
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return conditions(f"{torch.get_num_threads()} threads", f"torch {torch.__version__}", gpu=gpu)


if __name__ == "__main__":
    run_app(app)
