"""Sampling plans: all that decides an image or a volume besides the denoiser, its condition and the seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from mdiff_core import NoiseSchedule, UsageError

Planes = Literal["turn", "average", "lagged"]
Sampler = Literal["ddpm", "ddim"]


@dataclass(frozen=True)
class ImagePlan:
    """How images are sampled: which reverse steps are taken, and how each.

    Attributes:
        steps: reverse steps; None takes every step of the training schedule.
        spacing: ``uniform`` in t, or ``geometric`` in the noise-to-signal ratio σ from 100 to 0.05, or as far
            as the training schedule goes.
        sampler: ``ddpm``, ancestral sampling with variance β, or the learned one; or ``ddim``.
        eta: stochasticity of DDIM: 0 deterministic, 1 ancestral with the posterior variance (Song et al. 2021, eq. 16).
        clip: limit x̂₀ to [-1, 1].

    Raises:
        UsageError: a value out of range.
    """

    steps: int | None
    spacing: Literal["uniform", "geometric"]
    sampler: Sampler
    eta: float
    clip: bool

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"{self.steps} steps: ask for at least one")
        if not 0 <= self.eta <= 1:
            raise UsageError(f"eta {self.eta} is not between 0 (deterministic) and 1 (ancestral)")
        if self.sampler not in ("ddpm", "ddim"):
            raise UsageError(f"sampler {self.sampler!r}: use ddpm or ddim")

    def schedule(self, training: NoiseSchedule) -> NoiseSchedule:
        """The training schedule at this plan's steps.

        Raises:
            UsageError: more steps than the schedule can give.
        """
        if self.steps is None:
            return training
        if self.spacing == "uniform":
            return training.respaced(self.steps)
        highest, lowest = min(_SIGMA_MAX, training.sigma[-1].item()), max(_SIGMA_MIN, training.sigma[0].item())
        levels = np.geomspace(highest, lowest, self.steps)
        chosen = sorted({training.nearest(sigma) for sigma in levels})
        if len(chosen) < self.steps:
            raise UsageError(
                f"{self.steps} geometric steps do not fit into a schedule of {len(training)}: ask for fewer"
            )
        return training.respaced(chosen)

    def evaluations(self, training: NoiseSchedule) -> int:
        """Network evaluations that what is sampled together costs."""
        return len(self.schedule(training))


@dataclass(frozen=True)
class SamplingPlan(ImagePlan):
    """How a volume is sampled: the reverse steps of its slices, and what makes one volume of them.

    Attributes:
        planes: how the planes' predictions become one x̂₀. ``turn``: one plane at each step, in turn (Micro3Diff).
            ``average``: the mean of all three. ``lagged``: one new plane at each pass, the other two remembered.
        harmonize: n_h, how many times a step is taken, with renoising between (Micro3Diff, section 3.3).
        band: (low, high) σ between which steps are harmonized; None: everywhere.
        thick_slices: smooth across the slices before denoising, with this share of the width that is best for the
            Gaussian field of the reference S2; 0: slices as they are.
        tilt: hold the share of x̂₀ above zero at the phase fraction asked for, or else that of the reference.
        roll: denoise under a random cyclic shift, which makes the volume periodic.

    Raises:
        UsageError: a value out of range.
    """

    planes: Planes
    harmonize: int
    band: tuple[float, float] | None
    thick_slices: float
    tilt: bool
    roll: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.harmonize < 1:
            raise UsageError(f"{self.harmonize} harmonizing passes: ask for at least one")
        if self.planes not in ("turn", "average", "lagged"):
            raise UsageError(f"planes {self.planes!r}: use turn, average or lagged")

    def passes(self, sigma: float) -> int:
        """How many times the step at noise-to-signal ratio ``sigma`` is taken."""
        return self.harmonize if self.band is None or self.band[0] <= sigma <= self.band[1] else 1

    def evaluations(self, training: NoiseSchedule) -> int:
        """Network evaluations (of all slices of one plane) that one volume costs."""
        passes = sum(self.passes(sigma) for sigma in self.schedule(training).sigma)
        return {"turn": passes, "average": 3 * passes, "lagged": passes + 2}[self.planes]


_SIGMA_MIN, _SIGMA_MAX = 0.05, 100.0

PLANS = {
    "lagged": SamplingPlan(
        steps=20,
        spacing="geometric",
        planes="lagged",
        sampler="ddim",
        eta=0.5,
        harmonize=4,
        band=(0.15, 1.5),
        thick_slices=0.6,
        tilt=True,
        roll=True,
        clip=True,
    ),
    "calibrated": SamplingPlan(
        steps=20,
        spacing="geometric",
        planes="average",
        sampler="ddim",
        eta=0.0,
        harmonize=3,
        band=(0.1, 0.8),
        thick_slices=0.6,
        tilt=True,
        roll=True,
        clip=True,
    ),
    "paper": SamplingPlan(
        steps=None,
        spacing="uniform",
        planes="turn",
        sampler="ddpm",
        eta=1.0,
        harmonize=10,
        band=None,
        thick_slices=0.0,
        tilt=False,
        roll=False,
        clip=False,
    ),
}
"""Plans by name. ``lagged`` is the default; ``paper`` is Algorithm 1 of Micro3Diff as printed."""


IMAGES = ImagePlan(steps=50, spacing="uniform", sampler="ddim", eta=0.0, clip=True)
"""The default plan of images. Of 64 images of spheres64 it gave fraction .293 where the data have .302; with η = 1, or
ancestral sampling, .25, and still .27 at 250 steps. 100 steps are no better, 20 nearly as good (.285)."""

Plan = TypeVar("Plan", bound=ImagePlan)


def named_plan(name: str, **changes: object) -> SamplingPlan:
    """The plan called ``name``, changed as :func:`changed` does.

    Raises:
        UsageError: no such plan, or a value out of range.
    """
    if name not in PLANS:
        raise UsageError(f"plan {name!r} is unknown: use {', '.join(PLANS)}")
    return changed(PLANS[name], **changes)


def changed(plan: Plan, **changes: object) -> Plan:
    """The plan with some of its fields changed; a change to None is none.

    Raises:
        UsageError: a value out of range, or one that would do nothing.
    """
    made = {field: value for field, value in changes.items() if value is not None}
    new = dataclasses.replace(plan, **made)  # type: ignore[arg-type]
    if "eta" in made and new.sampler == "ddpm":
        raise UsageError("eta belongs to the sampler ddim: ask for --sampler ddim, or leave eta out")
    return new


def described(fields: Mapping[str, object]) -> str:
    """A plan's fields in one line."""
    return ", ".join(f"{name} {value}" for name, value in fields.items())
