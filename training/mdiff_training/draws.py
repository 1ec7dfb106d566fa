"""What one training step draws at random."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mdiff_training.config import OptimizerConfig
from mdiff_training.data.micrographs import Batch, Micrographs, moved
from mdiff_training.timesteps import TimestepSampler


@dataclass(frozen=True)
class Draw:
    """A batch and what it is noised with.

    Attributes:
        batch: clean images with their conditions, some of these left out.
        t: step of each image [B], int64.
        weights: of the losses [B].
        noise: standard normal [B, C, H, W].
    """

    batch: Batch
    t: Tensor
    weights: Tensor
    noise: Tensor

    def part(self, index: int, count: int) -> Draw:
        """The ``index``-th of ``count`` equal parts."""
        size = len(self.t) // count
        rows = slice(index * size, (index + 1) * size)
        return Draw(self.batch.part(rows), self.t[rows], self.weights[rows], self.noise[rows])

    def to(self, device: torch.device) -> Draw:
        """The same on another device, images with channels last."""
        return Draw(self.batch.to(device), *(moved(tensor, device) for tensor in (self.t, self.weights, self.noise)))


def draw(
    plan: OptimizerConfig, step: int, micrographs: Micrographs, timesteps: TimestepSampler, null_class: int | None
) -> Draw:
    """The batch of a step, whole, from a generator seeded by (seed, step) alone."""
    generator = torch.Generator().manual_seed(step_seed(plan, step))
    batch = micrographs.batch(plan.batch, plan.image_size, generator)
    t, weights = timesteps.draw(plan.batch, generator)
    noise = torch.randn(batch.x0.shape, generator=generator)
    dropped = torch.rand(plan.batch, generator=generator) < plan.condition_dropout
    return Draw(batch.with_conditions_dropped(dropped, null_class), t, weights, noise)


def step_seed(plan: OptimizerConfig, step: int) -> int:
    """Seed of all that is random in a step."""
    return plan.seed * 1_000_003 + step
