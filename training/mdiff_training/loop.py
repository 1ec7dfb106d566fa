"""The training loop, to be read from top to bottom."""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from signal import Signals

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from mdiff_core import ModelContract, PermanentError, UsageError
from mdiff_core.outputs import check_new, check_writable
from mdiff_training.checkpoint import LOSS_WINDOW, Checkpoint, Keeper
from mdiff_training.config import OptimizerConfig, TrainingConfig
from mdiff_training.data.digest import digest
from mdiff_training.data.micrographs import Batch, Micrographs
from mdiff_training.draws import Draw, draw, step_seed
from mdiff_training.journal import Journal
from mdiff_training.loss import Objective
from mdiff_training.precision import autocast
from mdiff_training.ranks import Ranks, accumulating, joined
from mdiff_training.samples import sample_columns, take_samples
from mdiff_training.state import State, check_same_data
from mdiff_training.stopping import Stopped, stop_requests


def train(
    config: TrainingConfig,
    micrographs: Micrographs,
    contract: ModelContract,
    path: Path,
    *,
    resume: bool = False,
    checkpoint_every: int = 500,
    sample_every: int = 0,
    log: Path | None = None,
    tensorboard: Path | None = None,
    device: str = "cpu",
) -> Checkpoint:
    """Train the denoiser that ``contract`` describes and leave its checkpoint at ``path``.

    Every step draws its batch, t and noise from a generator seeded by (seed, step), so a resumed run is the run that
    was never interrupted, bit for bit on a CPU with the same number of threads. Processes started by ``torchrun`` draw
    the same and take a share each: how many they are changes no more than rounding (and the masks of dropout).

    Args:
        config: network, schedule and plan.
        micrographs: what to train on.
        contract: what the network will be; its references are what samples are compared with.
        path: checkpoint to write; pictures of samples go into the folder ``<stem>.samples`` beside it.
        resume: go on from the checkpoint if there is one.
        checkpoint_every: steps between checkpoints.
        sample_every: steps between samples of the averaged network; 0: none.
        log: CSV file for :class:`Journal`, if any.
        tensorboard: folder for the same figures, if any.
        device: torch device; with ``cuda`` every process of ``torchrun`` takes a GPU of its own.

    Raises:
        UsageError: a checkpoint exists and ``resume`` is false, or it belongs to another network or other data; a
            device that torch cannot use; a batch that the processes cannot share equally.
        DataError: a file cannot be written; where it is a picture or the log, the checkpoint was saved first.
        PermanentError: the loss or the gradient is no longer finite; what was saved before is kept.
        Stopped: SIGTERM or Ctrl-C came; the state was saved first.
    """
    plan = config.training
    with joined(device) as ranks, stop_requests() as request:
        pictures = path.with_suffix(".samples")
        _check_outputs(path, log, pictures if sample_every else None, resume, ranks)
        state, keeper = _begun_or_resumed(config, micrographs, contract, path, resume, ranks)
        if state.step >= plan.steps:  # of a run that was finished before, the contract may be new
            keeper.save(state.checkpoint(contract), final=True)
        columns = sample_columns(contract) if sample_every else ()
        journal = Journal(log, tensorboard, columns, step=state.step) if ranks.writes else Journal(None, None)
        network = ranks.wrapped(state.network)
        if plan.compile:
            network.compile()
        objective = Objective(
            contract.schedule.build(), config.model.learned_variance, plan.vlb_weight, config.model.velocity
        )
        measured: list[Tensor] = []
        noted, clock = state.step, time.perf_counter()
        began = clock - journal.seconds

        hidden = None if ranks.writes else True  # None: shown at a terminal
        progress = tqdm(
            range(state.step, plan.steps), initial=state.step, total=plan.steps, unit="step", disable=hidden
        )
        for step in progress:
            drawn = draw(plan, step, micrographs, state.timesteps, contract.null_class)
            measured.append(take_step(plan, ranks, state, network, objective, drawn))

            last, whole = state.step == plan.steps, state.step % LOSS_WINDOW == 0
            sample = sample_every > 0 and (last or state.step % sample_every == 0)
            save = not last and state.step % checkpoint_every == 0
            stop = 0 if last else ranks.highest(request.signal)
            if not (last or whole or sample or save or stop):
                continue

            # Up to here nothing has waited for the device.
            state.window += _finite(ranks.mean(torch.stack(measured)), state, plan, keeper)
            measured.clear()
            loss, norm = (sum(values) / len(values) for values in zip(*state.window, strict=True))
            now = time.perf_counter()
            if whole:
                state.losses.append(loss)
                state.window.clear()
            # Before pictures and log, so that one that cannot be written costs none of the training.
            if last or save or stop:
                keeper.save(state.checkpoint(contract), final=last)
            if last or whole or sample:
                rate = plan.batch * (state.step - noted) / (now - clock)
                row = {"loss": loss, "gradient_norm": norm, "images_per_s": rate, "learning_rate": state.learning_rate}
                if sample and ranks.writes:
                    picture = pictures / f"{state.step:06d}.png"
                    row |= take_samples(state.denoiser(objective.schedule), micrographs, contract, plan, picture)
                journal.write(state.step, row | {"seconds": now - began})
                progress.set_postfix_str(f"loss {loss:.4f}, {rate:.0f} images/s")
                noted, clock = state.step, time.perf_counter()
            if stop:
                how = f"{path} keeps step {state.step}; the same command with --resume goes on from it"
                raise Stopped(stop, f"stopped by {Signals(stop).name}: {how}" if ranks.writes else "")

        journal.close()
        return state.checkpoint(contract)


def take_step(
    plan: OptimizerConfig, ranks: Ranks, state: State, network: nn.Module, objective: Objective, drawn: Draw
) -> Tensor:
    """One optimizer step on the batch that all processes have drawn.

    Args:
        plan: how to train.
        ranks: the processes.
        state: what is trained; its step is one more afterwards.
        network: ``state.network``, as ``ranks`` wraps it.
        objective: what to minimize.
        drawn: the whole batch.

    Returns:
        The loss of this process's share, and the norm of the gradient before clipping [2], on the device.
    """
    torch.manual_seed(step_seed(plan, state.step) + (ranks.index << 40))  # dropout draws from the global generator
    state.learning_rate = plan.learning_rate * learning_rate_factor(state.step, plan.warmup_steps, plan.steps)
    state.optimizer.zero_grad(set_to_none=True)
    share = drawn.part(ranks.index, ranks.count).to(ranks.device)
    parts = []
    for index in range(plan.accumulate):
        part = share.part(index, plan.accumulate)
        with accumulating(network, last=index == plan.accumulate - 1):
            predict = partial(_denoise, plan, network, part.batch)
            terms = objective.terms(predict, part.batch.x0, part.t, part.noise)
            ((part.weights * terms).mean() / plan.accumulate).backward()  # type: ignore[no-untyped-call]
        parts.append(terms.detach())
    losses = torch.cat(parts)
    if plan.importance_sampling:
        state.timesteps.observe(drawn.t, ranks.gathered(losses))
    norm = clip_grad_norm_(state.network.parameters(), plan.clip_norm)
    state.optimizer.step()
    state.average(min(plan.ema, (1 + state.step) / (10 + state.step)))
    state.step += 1
    return torch.stack([(share.weights * losses).mean(), norm])


def learning_rate_factor(step: int, warmup_steps: int, steps: int) -> float:
    """Linear warm-up to 1, then a cosine down to 0 at ``steps``."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def _check_outputs(path: Path, log: Path | None, pictures: Path | None, resume: bool, ranks: Ranks) -> None:
    """Refuse outputs that are there already or could not be written."""
    for file in (path, log) if log else (path,):
        if not resume:
            check_new(file, "continue it with --resume, or choose another name")
        if ranks.writes:
            check_writable(file)
    if ranks.writes and pictures and pictures.exists():  # else it is made beside the checkpoint
        check_writable(pictures / "picture")


def _begun_or_resumed(
    config: TrainingConfig, micrographs: Micrographs, contract: ModelContract, path: Path, resume: bool, ranks: Ranks
) -> tuple[State, Keeper]:
    """Where training starts from, once it is sure that it can end."""
    plan, parts = config.training, ranks.count * config.training.accumulate
    if plan.batch % parts:
        raise UsageError(
            f"a batch of {plan.batch} does not split over {ranks.count} processes of {plan.accumulate} parts each: "
            f"make it a multiple of {parts}"
        )
    state = State.begin(config, contract, ranks.device, digest(micrographs))
    saved = Checkpoint.load(path) if resume and path.exists() else None
    if saved:
        check_same_data(saved, contract, state.data)
        state.restore(saved)
    if ranks.highest(state.step) + ranks.highest(-state.step):
        raise UsageError(f"{path} is not the same for all processes: put it where all of them see it")
    return state, Keeper(path, saved, writes=ranks.writes)


def _denoise(
    plan: OptimizerConfig, network: nn.Module, batch: Batch, x: Tensor, t: Tensor
) -> tuple[Tensor, Tensor | None]:
    with autocast(x.device, plan.bf16):
        predicted: tuple[Tensor, Tensor | None] = network(x, t, batch.label, batch.fractions)
    return predicted


def _finite(measured: Tensor, state: State, plan: OptimizerConfig, keeper: Keeper) -> list[tuple[float, float]]:
    """Loss and gradient norm of the steps up to now.

    Raises:
        PermanentError: one is not finite, so that the weights are lost since.
    """
    found = [(loss, norm) for loss, norm in measured.tolist()]
    for step, (loss, norm) in enumerate(found, state.step - len(found) + 1):
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise PermanentError(
                f"training diverged at step {step} (loss {loss:.3g}, gradient norm {norm:.3g}): {keeper.kept()}; "
                f"go on from there with a learning_rate below {plan.learning_rate:g} or a clip_norm below "
                f"{plan.clip_norm:g}{', or with bf16=false' if plan.bf16 else ''}"
            )
    return found
