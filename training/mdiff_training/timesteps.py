"""Which steps t a batch is trained on: drawn evenly, or more often where the loss is large."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from mdiff_core import UsageError

_HISTORY = 10
_UNIFORM_SHARE = 1e-3
_NOTHING_YET = -1.0  # losses are never negative


class TimestepSampler(Protocol):
    """Draws steps, with weights that keep the mean of the weighted losses what it is under even draws."""

    def draw(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Steps [size] (int64) and the weights of their losses [size] (float32), both on the CPU."""

    def observe(self, t: Tensor, losses: Tensor) -> None:
        """Learn from the unweighted losses [B] of steps ``t`` [B]: of all processes, in the same order in each."""

    def state(self) -> Tensor:
        """All that was learned (float32), for a checkpoint."""

    def restore(self, state: Tensor) -> None:
        """Go on from :meth:`state`; an empty one begins anew.

        Raises:
            UsageError: it is of another number of steps.
        """


def timestep_sampler(steps: int, importance: bool) -> TimestepSampler:
    """The sampler over 0 … ``steps`` - 1 that a configuration asks for."""
    return ImportanceTimesteps(steps) if importance else UniformTimesteps(steps)


class UniformTimesteps:
    """Every step equally often; nothing to learn."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def draw(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Steps [size] and weights of 1."""
        return torch.randint(0, self._steps, (size,), generator=generator), torch.ones(size)

    def observe(self, t: Tensor, losses: Tensor) -> None:
        """Ignore them."""

    def state(self) -> Tensor:
        """Nothing."""
        return torch.empty(0)

    def restore(self, state: Tensor) -> None:
        """Ignore it."""


class ImportanceTimesteps:
    """p_t ∝ √E[L_t²], weights 1/(T p_t) (Nichol & Dhariwal 2021, eq. 18).

    E[L_t²] is over the last ten losses of each step; until every step has ten, all are drawn evenly. A thousandth of
    the probability stays even, as in improved-diffusion, so that no step is forgotten.
    """

    def __init__(self, steps: int) -> None:
        self._history = torch.full((steps, _HISTORY), _NOTHING_YET)

    @property
    def probabilities(self) -> Tensor:
        """p_t [T] (float64)."""
        even = torch.full((len(self._history),), 1 / len(self._history), dtype=torch.float64)
        if (self._history == _NOTHING_YET).any():
            return even
        size = self._history.to(torch.float64).square().mean(dim=1).sqrt()
        return torch.lerp(size / size.sum(), even, _UNIFORM_SHARE) if size.any() else even

    def draw(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Steps [size] and weights 1/(T p_t) [size]."""
        p = self.probabilities
        t = torch.multinomial(p, size, replacement=True, generator=generator)
        return t, (1 / (len(p) * p[t])).to(torch.float32)

    def observe(self, t: Tensor, losses: Tensor) -> None:
        """Each loss pushes the oldest of its step out, unless it is not finite: then training is about to end."""
        for step, loss in zip(t.tolist(), losses.tolist(), strict=True):
            if math.isfinite(loss):
                self._history[step] = self._history[step].roll(-1)
                self._history[step, -1] = loss

    def state(self) -> Tensor:
        """The losses [T, 10], oldest first, -1 for those to come."""
        return self._history.clone()

    def restore(self, state: Tensor) -> None:
        """Go on from :meth:`state`; an empty one begins anew.

        Raises:
            UsageError: it is of another number of steps.
        """
        if state.numel() == 0:
            state = torch.full_like(self._history, _NOTHING_YET)
        if state.shape != self._history.shape:
            raise UsageError(
                f"the losses of {len(state)} steps were kept, the schedule has {len(self._history)}: "
                "resume with the preset it was started with"
            )
        self._history.copy_(state)
