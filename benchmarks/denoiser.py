"""Cost of one evaluation of a trained network in torch on one device, and of whole volumes with it; prints Markdown.

    python benchmarks/denoiser.py spheres64.safetensors --device cuda

An evaluation is timed on the device alone, images already there, and again with the way from numpy and back. A volume
is what ``mdiff-client generate3d`` makes, by the same sampler, but with torch in process in place of onnxruntime or
Triton.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from conditions import conditions
from device_time import seconds_of
from torch import Tensor

from mdiff_client.denoisers import Fractions, Images, Steps
from mdiff_client.phases import to_labels
from mdiff_client.sampling import DEFAULT, named_plan, sample
from mdiff_core.command import run_app
from mdiff_training.checkpoint import Checkpoint
from mdiff_training.precision import autocast

_ROUNDS = 30


class _InTorch:
    """A trained network as a denoiser of the client's, on a torch device."""

    calls_at_once = 1

    def __init__(self, checkpoint: Checkpoint, device: torch.device, *, bf16: bool, compiled: bool) -> None:
        self.contract = checkpoint.contract
        self._device, self._bf16 = device, bf16
        self._network = checkpoint.denoiser().to(device=device, memory_format=torch.channels_last)
        if compiled:
            self._network.compile(dynamic=False)

    def on_device(self, x: Tensor, t: Tensor) -> Tensor:
        with torch.inference_mode(), autocast(self._device, self._bf16):
            eps, _ = self._network(x, t)
        result: Tensor = eps.float()
        return result

    def moved(self, x: Images, t: Steps) -> tuple[Tensor, Tensor]:
        there = torch.from_numpy(x).to(self._device).to(memory_format=torch.channels_last)
        return there, torch.from_numpy(t).to(self._device)

    def predict(
        self, x: Images, t: Steps, label: Steps | None = None, fractions: Fractions | None = None
    ) -> tuple[Images, None]:
        return self.on_device(*self.moved(np.ascontiguousarray(x), t)).cpu().numpy(), None


def main(
    checkpoint: Annotated[Path, typer.Argument(help="Of a model without classes or fractions told.")],
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu",
    images: Annotated[list[int] | None, typer.Option(help="Images of an evaluation.")] = None,
    plan: Annotated[str, typer.Option()] = DEFAULT,
    volumes: Annotated[int, typer.Option(help="Volumes to time, after one that is not.")] = 5,
) -> None:
    """Milliseconds of an evaluation and seconds of a volume, in float32 and bfloat16, compiled or not."""
    loaded, on = Checkpoint.load(checkpoint), torch.device(device)
    height, width = loaded.contract.image_size
    gpu = torch.cuda.get_device_name(on) if on.type == "cuda" else ""
    print(f"{conditions(f'torch {torch.__version__}', gpu=gpu)}; `{loaded.contract.name}`\n")
    print("| numbers | compiled | images | on the device, ms | images/s | with the transfers, ms | differs by |")
    print("|---|---|---|---|---|---|---|")
    exact = None
    made = []
    for bf16 in (False, True):
        for compiled in (False, True):
            denoiser = _InTorch(loaded, on, bf16=bf16, compiled=compiled)
            kind = "bfloat16" if bf16 else "float32"
            for count in images or [64, 512]:
                random = np.random.default_rng(0)
                x = random.standard_normal((count, loaded.contract.channels, height, width), dtype=np.float32)
                t = np.full(count, 500)
                there = denoiser.moved(x, t)
                alone = _median(partial(denoiser.on_device, *there), on)
                whole = _median(partial(denoiser.predict, x, t), on)
                eps = denoiser.predict(x[:64], t[:64])[0]
                exact = eps if exact is None else exact
                print(
                    f"| {kind} | {'yes' if compiled else 'no'} | {count} | {1000 * alone:.2f} | {count / alone:,.0f} | "
                    f"{1000 * whole:.2f} | {np.abs(eps - exact).max():.1e} |",
                    flush=True,
                )
            made.append((f"{kind}{', compiled' if compiled else ''}", denoiser))
    chosen = named_plan(plan)
    evaluations = chosen.evaluations(loaded.contract.schedule.build())
    print(f"\nVolumes of {height}³ at plan `{plan}`, {evaluations} evaluations, median of {volumes}:\n")
    print("| network | s a volume | fraction of the second phase |\n|---|---|---|")
    for kind, denoiser in made:
        sample(denoiser, chosen, seed=0)
        seconds, fractions = [], []
        for seed in range(1, volumes + 1):
            began = time.perf_counter()
            labels = to_labels(sample(denoiser, chosen, seed=seed), loaded.contract)
            seconds.append(time.perf_counter() - began)
            fractions.append(float(np.mean(labels == 1)))
        print(f"| {kind} | {statistics.median(seconds):.2f} | {np.mean(fractions):.3f} |", flush=True)


def _median(what: Callable[[], object], device: torch.device) -> float:
    for _ in range(3):
        what()
    return statistics.median(seconds_of(what, device) for _ in range(_ROUNDS if device.type == "cuda" else 3))


if __name__ == "__main__":
    run_app(lambda: typer.run(main))
