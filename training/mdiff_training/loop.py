"""The training loop, to be read from top to bottom."""

from __future__ import annotations

import dataclasses
import math
import time
from functools import partial
from pathlib import Path

import torch
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from mdiff_core import ModelContract, UsageError
from mdiff_core.outputs import check_new, check_writable
from mdiff_training.checkpoint import LOSS_WINDOW, Checkpoint
from mdiff_training.config import TrainingConfig
from mdiff_training.loss import simple_loss
from mdiff_training.micrographs import Batch, Micrographs
from mdiff_training.unet import UNet, UNetConfig


def train(
    config: TrainingConfig,
    micrographs: Micrographs,
    contract: ModelContract,
    path: Path,
    *,
    resume: bool = False,
    checkpoint_every: int = 500,
    device: str = "cpu",
) -> Checkpoint:
    """Train the denoiser that ``contract`` describes and leave its checkpoint at ``path``.

    Every step draws its batch, t and noise from a generator seeded by (seed, step), so a resumed run is the run that
    was never interrupted, bit for bit on a CPU with the same number of threads.

    Raises:
        UsageError: a checkpoint exists and ``resume`` is false, or it belongs to another network or other data; a
            device that torch cannot use.
    """
    plan = config.training
    if not resume:
        check_new(path, "continue it with --resume, or choose another name")
    check_writable(path)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"torch cannot use the device {device!r}: {str(error).partition('.')[0]}") from error

    torch.manual_seed(plan.seed)
    network = UNet(network_config(config.model, contract)).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = {name: value.detach().clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    start = 0
    losses: list[float] = []
    if resume and path.exists():
        saved = Checkpoint.load(path)
        _check_same_data(saved.contract, contract)
        start, losses = _restore(saved, network, averaged, optimizer)
    alpha_bar = torch.from_numpy(contract.schedule.build().alpha_bar).to(torch.float32)

    def checkpoint(step: int) -> Checkpoint:
        saved = Checkpoint(contract, network.config, step, tuple(losses), _tensors(network, averaged, optimizer))
        saved.save(path)
        return saved

    def denoise(batch: Batch, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device_type=x.device.type, dtype=torch.bfloat16, enabled=plan.bf16):
            eps: torch.Tensor = network(x, t, batch.label, batch.fractions)[0]
        return eps

    window: list[float] = []
    began = time.perf_counter()
    progress = tqdm(range(start, plan.steps), initial=start, total=plan.steps, unit="step", disable=None)
    for step in progress:
        generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
        torch.manual_seed(plan.seed * 1_000_003 + step)  # dropout draws from the global generator
        batch = micrographs.batch(plan.batch, plan.image_size, generator)
        t = torch.randint(0, len(alpha_bar), (plan.batch,), generator=generator)
        noise = torch.randn(batch.x0.shape, generator=generator)
        dropped = torch.rand(plan.batch, generator=generator) < plan.condition_dropout
        batch = batch.with_conditions_dropped(dropped, contract.null_class).to(device)
        noise = noise.to(device=device, memory_format=torch.channels_last)
        loss = simple_loss(partial(denoise, batch), batch.x0, t.to(device), noise, alpha_bar.to(device))

        optimizer.param_groups[0]["lr"] = plan.learning_rate * learning_rate_factor(step, plan.warmup_steps, plan.steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(network.parameters(), plan.clip_norm)
        optimizer.step()
        decay = min(plan.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(averaged.values()), list(network.state_dict().values()), 1 - decay)

        window.append(loss.item())
        if len(window) == LOSS_WINDOW:
            losses.append(sum(window) / len(window))
            window.clear()
            rate = plan.batch * (step + 1 - start) / (time.perf_counter() - began)
            progress.set_postfix_str(f"loss {losses[-1]:.4f}, {rate:.0f} images/s")
        if (step + 1) % checkpoint_every == 0 and step + 1 < plan.steps:
            checkpoint(step + 1)
    return checkpoint(max(start, plan.steps))


def network_config(model: UNetConfig, contract: ModelContract) -> UNetConfig:
    """The preset's network with what follows from the data: channels, labels and fractions."""
    return dataclasses.replace(
        model, channels=contract.channels, labels=contract.labels, fractions=len(contract.fractions)
    )


def learning_rate_factor(step: int, warmup_steps: int, steps: int) -> float:
    """Linear warm-up to 1, then a cosine down to 0 at ``steps``."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def _tensors(network: UNet, averaged: dict[str, torch.Tensor], optimizer: torch.optim.AdamW) -> dict[str, torch.Tensor]:
    tensors = {f"model.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in averaged.items()}
    for name, parameter in network.named_parameters():
        moments = optimizer.state[parameter]
        tensors |= {f"first.{name}": moments["exp_avg"], f"second.{name}": moments["exp_avg_sq"]}
    return {name: value.cpu() for name, value in tensors.items()}


def _check_same_data(before: ModelContract, now: ModelContract) -> None:
    for what in ("schedule", "phases", "references", "classes", "null_class", "fractions"):
        if getattr(before, what) != getattr(now, what):
            raise UsageError(f"the checkpoint was trained with other {what}: resume with the same data and preset")


def _restore(
    saved: Checkpoint, network: UNet, averaged: dict[str, torch.Tensor], optimizer: torch.optim.AdamW
) -> tuple[int, list[float]]:
    if saved.network != network.config:
        raise UsageError("the checkpoint belongs to another network: resume with the preset it was started with")
    network.load_state_dict(saved.part("model"))
    for name, value in saved.part("ema").items():
        averaged[name].copy_(value)
    first, second = saved.part("first"), saved.part("second")
    for name, parameter in network.named_parameters():
        optimizer.state[parameter] = {
            "step": torch.tensor(float(saved.step)),
            "exp_avg": first[name].to(parameter),
            "exp_avg_sq": second[name].to(parameter),
        }
    return saved.step, list(saved.losses)
