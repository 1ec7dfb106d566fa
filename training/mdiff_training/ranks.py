"""Processes that train together, as ``torchrun`` starts them: plain data parallelism."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mdiff_core import UsageError


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; each takes its share of every batch, and the first one writes.

    Attributes:
        index: of this process, from 0.
        count: of processes.
        device: of this process.
    """

    index: int
    count: int
    device: torch.device

    @property
    def writes(self) -> bool:
        """Whether this process writes the files."""
        return self.index == 0

    def wrapped(self, network: nn.Module) -> nn.Module:
        """The network, so wrapped that its gradients are averaged over the processes."""
        if self.count == 1:
            return network
        on = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=on, gradient_as_bucket_view=True)

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the processes, on the CPU."""
        total = values.to("cpu", copy=True)  # it is summed in place
        if self.count > 1:
            distributed.all_reduce(total)
        return total / self.count

    def highest(self, value: int) -> int:
        """The largest value that any process gives."""
        if self.count == 1:
            return value
        shared = torch.tensor(value)
        distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)
        return int(shared)

    def gathered(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in their order, on the CPU."""
        rows = rows.cpu()
        if self.count == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.count)]
        distributed.all_gather(parts, rows)
        return torch.cat(parts)


def accumulating(network: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Around a micro-batch: gradients travel with the ``last`` one of a step only."""
    if last or not isinstance(network, DistributedDataParallel):
        return nullcontext()
    return network.no_sync()


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the processes that RANK and WORLD_SIZE tell of, or train alone; with GPUs each takes one of its own.

    Where they have met already, they stay together afterwards.

    Raises:
        UsageError: a device that torch cannot use, or processes that do not find each other.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks(0, 1, _usable(device))
        return
    index = int(os.environ.get("RANK", "0"))
    gpu = device.partition(":")[0] == "cuda"
    own = _usable(f"cuda:{os.environ.get('LOCAL_RANK', index)}" if gpu else device)
    if gpu:
        torch.cuda.set_device(own)
    if distributed.is_initialized():
        yield Ranks(index, count, own)
        return
    try:
        # What is agreed on beside the gradients lies on the CPU: it need not wait for the GPU.
        distributed.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"WORLD_SIZE is {count}, but the processes do not meet: use torchrun ({error})") from error
    try:
        yield Ranks(index, count, own)
    finally:
        distributed.destroy_process_group()


def _usable(device: str) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"torch cannot use the device {device!r}: {str(error).partition('.')[0]}") from error
