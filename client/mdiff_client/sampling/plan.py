"""Sampling plans: all that decides an image or a volume besides the denoiser, its condition and the seed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from mdiff_client.sampling.tiles import cover
from mdiff_core import ModelContract, NoiseSchedule, UsageError
from mdiff_core.contract import AXES

Planes = Literal["turn", "alternate", "average", "lagged"]
Sampler = Literal["ddpm", "ddim", "dpm-solver++"]


@dataclass(frozen=True, kw_only=True)
class ImagePlan:
    """How images are sampled: which reverse steps are taken, and how each.

    Attributes:
        steps: reverse steps; None takes every step of the training schedule.
        spacing: ``uniform`` or ``quadratic`` in t (Song et al. 2021, section D.3), or ``geometric`` in the
            noise-to-signal ratio σ, that is uniform in log-SNR.
        sampler: ``ddpm``, ancestral sampling with variance β, or the learned one; ``ddim``; or ``dpm-solver++``, of
            second order (Lu et al. 2022).
        eta: stochasticity of DDIM: 0 deterministic, 1 ancestral with the posterior variance (Song et al. 2021, eq. 16).
        clip: limit x̂₀ to [-1, 1].
        sigmas: (highest, lowest) σ of geometric steps, as far as the training schedule goes.
        dense: (σ, factor): below this σ geometric steps lie so many times closer.
        churn: (σ, κ): below this σ a DDIM step from σ to σ' keeps (σ'/σ)^κ of the noise that it finds and draws the
            rest anew, whatever η. κ = 0 is η = 0 and κ = 1 is η = 1; a larger one is what harmonizing passes do, or the
            churn of Karras et al. 2022, without evaluations of its own.

    Raises:
        UsageError: a value out of range.
    """

    steps: int | None
    spacing: Literal["uniform", "quadratic", "geometric"]
    sampler: Sampler
    eta: float
    clip: bool
    sigmas: tuple[float, float] = (100.0, 0.05)
    dense: tuple[float, float] = (0.0, 1.0)
    churn: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"{self.steps} steps: ask for at least one")
        if not 0 <= self.eta <= 1:
            raise UsageError(f"eta {self.eta} is not between 0 (deterministic) and 1 (ancestral)")
        if not math.inf > self.sigmas[0] > self.sigmas[1] > 0:
            raise UsageError(f"sigmas {self.sigmas}: give the highest and the lowest, above 0")
        if not (0 <= self.dense[0] < math.inf and 0 < self.dense[1] < math.inf):
            raise UsageError(f"dense {self.dense}: give a σ, and a factor above 0")
        if not (0 <= self.churn[0] < math.inf and 0 <= self.churn[1] < math.inf):
            raise UsageError(f"churn {self.churn}: give a σ, and an exponent of at least 0")
        if self.sampler not in get_args(Sampler):
            raise UsageError(f"sampler {self.sampler!r}: use {', '.join(get_args(Sampler))}")

    def schedule(self, training: NoiseSchedule) -> NoiseSchedule:
        """The training schedule at this plan's steps.

        Raises:
            UsageError: more steps than the schedule can give.
        """
        if self.steps is None:
            return training
        if self.spacing == "uniform":
            return training.respaced(self.steps)
        if self.spacing == "quadratic":
            steps = np.linspace(0, (len(training) - 1) ** 0.5, self.steps) ** 2
            chosen = sorted(set(steps.round().astype(int).tolist()))
        else:
            chosen = sorted(set(training.nearest(self._geometric(training, self.steps)).tolist()))
        if len(chosen) < self.steps:
            raise UsageError(
                f"{self.steps} {self.spacing} steps do not fit into a schedule of {len(training)}: ask for fewer"
            )
        return training.respaced(chosen)

    def evaluations(self, training: NoiseSchedule) -> int:
        """Network evaluations that what is sampled together costs."""
        return len(self.schedule(training))

    def _geometric(self, training: NoiseSchedule, steps: int) -> npt.NDArray[np.float64]:
        """Levels of σ, evenly spaced in a log σ that is stretched where they are to be dense."""
        highest, lowest = min(self.sigmas[0], training.sigma[-1].item()), max(self.sigmas[1], training.sigma[0].item())
        knots = np.log([lowest, min(max(self.dense[0], lowest), highest), highest])
        stretched = np.cumsum([0.0, self.dense[1] * (knots[1] - knots[0]), knots[2] - knots[1]])
        levels: npt.NDArray[np.float64] = np.exp(np.interp(np.linspace(0, stretched[2], steps), stretched, knots))
        return levels


class Pass(NamedTuple):
    """One pass of a plan.

    Attributes:
        i: the step.
        repeat: which pass of it, from 0.
        again: it goes back to x_t afterwards, for another.
        axes: those whose planes are asked.
    """

    i: int
    repeat: int
    again: bool
    axes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SamplingPlan(ImagePlan):
    """How a volume is sampled: the reverse steps of its slices, and what makes one volume of them.

    Attributes:
        planes: how the planes' predictions become one x̂₀. ``turn``: one plane at each step, in turn (Micro3Diff).
            ``alternate``: one plane at each pass. ``average``: the mean of all three. ``lagged``: one new plane at each
            pass, the other two remembered.
        ratio: how often the planes xy, xz and yz are asked (Lee et al. 2023, TPDM), and their weights in a mean.
        harmonize: n_h, how many times a step is taken, with renoising between (Micro3Diff, section 3.3).
        band: (low, high) σ between which steps are harmonized (Xu et al. 2023, arXiv 2306.14878); None: everywhere.
        thick_slices: smooth across the slices before denoising, with this share of the width that is best for the
            Gaussian field of the reference S2; 0: slices as they are.
        thinning: by which the share is multiplied at σ of 0.5 and less, and by less and less up to σ of 3.
        tilt: hold x̂₀ at the phase fractions asked for, or else at those of the reference. At σ above ``decided`` its
            mean is held, below it the share of voxels in which a phase is the most probable one.
        decided: see there; None: the share is held at every σ.
        periodic: axes along which opposite faces match, of ``zyx``.
        size: voxels along (z, y, x), each at least the edge of the model's images; None: a cube of them.

    Raises:
        UsageError: a value out of range.
    """

    planes: Planes
    harmonize: int
    band: tuple[float, float] | None
    thick_slices: float
    tilt: bool
    thinning: float = 1.0
    decided: float | None = None
    ratio: tuple[int, int, int] = (1, 1, 1)
    periodic: str = "zyx"
    size: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.harmonize < 1:
            raise UsageError(f"{self.harmonize} harmonizing passes: ask for at least one")
        if self.planes not in get_args(Planes):
            raise UsageError(f"planes {self.planes!r}: use {', '.join(get_args(Planes))}")
        if self.band is not None and not 0 <= self.band[0] <= self.band[1] < math.inf:
            raise UsageError(f"band {self.band}: give the lowest and the highest σ, from 0")
        if not (0 <= self.thick_slices < math.inf and 0 <= self.thinning < math.inf):
            raise UsageError(f"thick slices {self.thick_slices}, thinning {self.thinning}: give shares of at least 0")
        if self.decided is not None and not 0 <= self.decided < math.inf:
            raise UsageError(f"decided {self.decided}: give a σ of at least 0")
        if len(self.ratio) != 3 or min(self.ratio) < 1:
            raise UsageError(f"plane ratio {self.ratio}: give three whole numbers of at least 1, of xy, xz and yz")
        if len(set(self.periodic)) < len(self.periodic) or not set(self.periodic) <= set(AXES):
            raise UsageError(f"periodic axes {self.periodic!r}: give some of x, y and z, or none")

    def share(self, sigma: float) -> float:
        """Of the best width of the slices, at noise-to-signal ratio ``sigma``."""
        return self.thick_slices * float(np.interp(np.log(sigma), np.log(_FINE_AND_COARSE), (self.thinning, 1.0)))

    def passes(self, sigma: float) -> int:
        """How many times the step at noise-to-signal ratio ``sigma`` is taken."""
        return self.harmonize if self.band is None or self.band[0] <= sigma <= self.band[1] else 1

    def asked(self, training: NoiseSchedule) -> Iterator[Pass]:
        """Every pass in order."""
        schedule, order, passed = self.schedule(training), _order(self.ratio), 0
        for i in reversed(range(len(schedule))):
            passes = self.passes(schedule.sigma[i].item())
            for repeat in range(passes):
                everything = self.planes == "average" or (self.planes == "lagged" and passed == 0)
                # Algorithm 1 turns to the next plane with the step, the others with every pass.
                one = order[(i if self.planes == "turn" else passed) % len(order)]
                yield Pass(i, repeat, i > 0 and repeat + 1 < passes, (0, 1, 2) if everything else (one,))
                passed += 1

    def evaluations(self, training: NoiseSchedule) -> int:
        """Network evaluations (of all slices of one plane) that one volume costs."""
        return sum(len(axes) for *_, axes in self.asked(training))

    def shape(self, contract: ModelContract) -> tuple[int, int, int]:
        """Voxels of a volume along z, y and x.

        Raises:
            UsageError: fewer than the model's images have, or images that are not square.
        """
        cube = contract.cube
        size = self.size or cube
        if min(size) < cube[0]:
            raise UsageError(
                f"size {'x'.join(map(str, size))}: model {contract.name} knows images of {cube[0]} pixels, and no part "
                f"of one: ask for at least {cube[0]} along every axis, and cut"
            )
        return size

    def images(self, contract: ModelContract) -> int:
        """About how many images the network is asked for one volume: slices, or tiles of them."""
        size, edge = self.shape(contract), contract.cube[0]
        tiles = [
            len(cover(n, edge, edge // 2, periodic=axis in self.periodic)) for n, axis in zip(size, AXES, strict=True)
        ]
        of_axis = [size[axis] * math.prod(tiles) // tiles[axis] for axis in range(3)]
        return sum(of_axis[axis] for *_, axes in self.asked(contract.schedule.build()) for axis in axes)


_FINE_AND_COARSE = (0.5, 3.0)

_FAST = SamplingPlan(
    steps=20,
    spacing="geometric",
    sigmas=(40.0, 0.1),
    dense=(2.0, 2.3),
    planes="lagged",
    sampler="ddim",
    eta=0.75,
    churn=(2.0, 4.3),
    harmonize=1,
    band=None,
    thick_slices=0.6,
    tilt=True,
    clip=True,
)

PLANS = {
    "draft": dataclasses.replace(_FAST, steps=12),
    "fast": _FAST,
    "balanced": dataclasses.replace(_FAST, steps=40, dense=(2.0, 5.7)),
    "films": dataclasses.replace(
        _FAST, steps=40, dense=(2.0, 5.7), churn=(2.0, 6.0), thick_slices=1.0, thinning=0.5, decided=0.7
    ),
    "plain": dataclasses.replace(_FAST, thick_slices=0.0, tilt=False),
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
        periodic="",
        clip=False,
    ),
}
"""Plans by name. ``films`` is for materials of more than two phases, one of which is thin; ``plain`` for grey levels
and models without references, of which there is nothing to hold; ``paper`` is Algorithm 1 of Micro3Diff as printed."""


DEFAULT = "fast"


def default_plan(contract: ModelContract) -> str:
    """Name of the plan that suits a material."""
    if not contract.phases:
        return "plain"
    return "films" if len(contract.phases) > 2 else DEFAULT


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
    if "eta" in made:
        made.setdefault("churn", (0.0, 1.0))  # which would say otherwise at low noise
    new = dataclasses.replace(plan, **made)  # type: ignore[arg-type]
    if "eta" in made and new.sampler != "ddim":
        raise UsageError("eta belongs to the sampler ddim: ask for --sampler ddim, or leave eta out")
    return new


def described(fields: Mapping[str, object]) -> str:
    """A plan's fields in one line."""
    return ", ".join(f"{name} {value}" for name, value in fields.items())


def recognized(fields: Mapping[str, object]) -> str:
    """The plan of :data:`PLANS` with the fewest fields that differ from a stored plan's, and those that do.

    Of several with as few it is the default, if it is one of them. What an older version did not store is as it was
    then: at the field's default.
    """
    optional = (one for one in dataclasses.fields(SamplingPlan) if one.default is not dataclasses.MISSING)
    stored = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    given = {**{one.name: one.default for one in optional}, **stored}

    def changes(plan: SamplingPlan) -> dict[str, object]:
        named = dataclasses.asdict(plan)
        return {field: given.get(field) for field in {**named, **given} if given.get(field) != named.get(field)}

    differing = {name: changes(plan) for name, plan in PLANS.items()}
    nearest = min(differing, key=lambda name: (len(differing[name]), name != DEFAULT))
    return f"{nearest}, with {described(differing[nearest])}" if differing[nearest] else nearest


def _order(ratio: tuple[int, int, int]) -> list[int]:
    """The axes in a cycle, each as often as its share, as evenly spread as can be."""
    order: list[int] = []
    for _ in range(sum(ratio)):
        behind = [ratio[axis] * (len(order) + 1) - sum(ratio) * order.count(axis) for axis in range(3)]
        order.append(behind.index(max(behind)))
    return order
