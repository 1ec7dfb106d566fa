"""What a sample is asked to be: a class, phase fractions, and how strongly both guide the network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mdiff_client.denoisers import Denoiser, Fractions, Images, Steps
from mdiff_core import ModelContract, PermanentError, UsageError
from mdiff_core.contract import NOT_TOLD, PLANES

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Condition:
    """What the network is told besides the noisy image and its step.

    Attributes:
        label: of the class; None: the null class, or in a volume the class of each plane.
        fractions: volume fractions of each phase but the first; empty: not told.
        guidance: scale s of classifier-free guidance: 0 ignores the condition, 1 takes the network at its word, more
            exaggerates.

    Raises:
        UsageError: a guidance that is negative or not finite.
    """

    label: int | None = None
    fractions: tuple[float, ...] = ()
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.guidance < math.inf:
            raise UsageError(f"guidance {self.guidance} is not a finite number of at least 0")

    @classmethod
    def asked(
        cls,
        contract: ModelContract,
        class_name: str | None = None,
        fractions: Sequence[str] = (),
        guidance: float = 1.0,
        *,
        volume: bool,
    ) -> Condition:
        """What a user asks of a model.

        Args:
            contract: of the model.
            class_name: None where no class is asked for.
            fractions: ``PHASE=FRACTION`` for all phases but one, or the one fraction of the second of two phases.
            guidance: see above.
            volume: of a volume, whose planes may have classes of their own, or of images.

        Raises:
            UsageError: what the model does not know, was not trained for, or cannot do without.
        """
        planes = set(contract.planes) if volume else set()
        label = _label(contract, class_name, planes == set(PLANES))
        condition = cls(label, _fractions(contract, fractions), guidance)
        if condition.guided and not contract.guidable:
            raise UsageError(f"model {contract.name} never learned to do without its condition: leave guidance at 1")
        if condition.guided and label is None and not condition.fractions and not planes:
            raise UsageError("guidance needs something to guide to: ask for a class or a phase fraction")
        return condition

    @property
    def guided(self) -> bool:
        """Whether the network is asked with the condition and without."""
        return self.guidance != 1

    @property
    def branches(self) -> int:
        """How many times the network is asked about each image."""
        return 2 if self.guided else 1

    def described(self, contract: ModelContract) -> str:
        """In one line for people; empty where nothing is asked for."""
        told = zip(contract.phases[1:], self.fractions, strict=False)
        parts = [f"class {contract.classes[self.label]}"] if self.label is not None else []
        parts += [f"{phase.name} {fraction:g}" for phase, fraction in told]
        parts += [f"guidance {self.guidance:g}"] if self.guided else []
        return ", ".join(parts)


UNCONDITIONAL = Condition()


class NoNumberError(PermanentError):
    """The network answers with what is no number; for other noise it may not."""


def predict(
    denoiser: Denoiser, condition: Condition, x: Images, t: Steps, label: int | None = None
) -> tuple[Images, Images | None]:
    """The denoiser's answer under a condition, guided as Ho & Salimans 2022, eq. 6, with s = 1 + w.

    Args:
        denoiser: the network; it is called once, under guidance with twice the images.
        condition: what is asked for.
        x: noisy images [N, C, H, W].
        t: their steps [N].
        label: stands in for the condition's, where a plane has a class of its own.

    Returns:
        ``eps``, and the ``v`` of the conditional branch, or None.

    Raises:
        UsageError: the network needs a class, and none is asked for.
        UnavailableError, PermanentError: from the denoiser.
    """
    contract = denoiser.contract
    told = _inputs(contract, len(x), condition.label if label is None else label, condition.fractions)
    if not condition.guided:
        return _numbers(contract, denoiser.predict(x, t, *told))
    untold = _inputs(contract, len(x), None, ())
    both = (None if a is None or b is None else np.concatenate([a, b]) for a, b in zip(told, untold, strict=True))
    eps, v = _numbers(contract, denoiser.predict(np.concatenate([x, x]), np.concatenate([t, t]), *both))
    conditional, unconditional = np.split(eps, 2)
    guided: Images = unconditional + condition.guidance * (conditional - unconditional)
    return guided, None if v is None else v[: len(x)]


def _numbers(contract: ModelContract, answer: tuple[Images, Images | None]) -> tuple[Images, Images | None]:
    if not np.isfinite(answer[0]).all():
        raise NoNumberError(
            f"model {contract.name} answered with values that are no numbers: export it in float32, or train it again"
        )
    return answer


def _inputs(
    contract: ModelContract, n: int, label: int | None, fractions: tuple[float, ...]
) -> tuple[Steps | None, Fractions | None]:
    """``label`` [n] and ``fractions`` [n, P] as the network takes them, None where it takes none."""
    if label is None:
        label = contract.null_class
    if label is None and contract.classes:
        raise UsageError(f"model {contract.name} needs a class: ask for {', '.join(contract.classes)}")
    told = fractions or (NOT_TOLD,) * len(contract.fractions)
    return (
        None if label is None else np.full(n, label, np.int64),
        np.tile(np.array(told, np.float32), (n, 1)) if told else None,
    )


def _label(contract: ModelContract, class_name: str | None, planes_decide: bool) -> int | None:
    known = ", ".join(contract.classes)
    if class_name is None:
        if contract.classes and contract.null_class is None and not planes_decide:
            raise UsageError(f"model {contract.name} needs a class: ask for {known}")
        return None
    if planes_decide:
        raise UsageError(f"model {contract.name} has a class for each plane: a volume of it takes no other")
    if not contract.classes:
        raise UsageError(f"model {contract.name} has no classes: leave {class_name!r} out")
    if class_name not in contract.classes:
        raise UsageError(f"model {contract.name} has no class {class_name!r}: it has {known}")
    return contract.classes.index(class_name)


def _fractions(contract: ModelContract, asked: Sequence[str]) -> tuple[float, ...]:
    if not asked:
        return ()
    if not contract.fractions:
        raise UsageError(
            f"model {contract.name} was not trained to be told phase fractions: mdiff-client info says which are"
        )
    values = dict(_fraction(contract, text) for text in asked)
    untold = [phase.name for phase in contract.phases if phase.name not in values]
    if len(values) < len(asked) or len(untold) > 1:
        raise UsageError(f"fractions {', '.join(asked)}: name every phase of model {contract.name} but one, each once")
    for name in untold:
        values[name] = 1 - sum(values.values())
    if abs(sum(values.values()) - 1) > _ROUNDING or min(values.values()) < -_ROUNDING:
        raise UsageError(f"fractions {', '.join(asked)}: those of all phases must be at least 0 and add up to 1")
    for phase, (low, high) in zip(contract.phases[1:], contract.fractions, strict=True):
        if not low - _ROUNDING <= values[phase.name] <= high + _ROUNDING:
            raise UsageError(
                f"model {contract.name} was trained at fractions of {phase.name} from {low:g} to {high:g}: "
                f"{values[phase.name]:g} lies outside"
            )
    return tuple(values[phase.name] for phase in contract.phases[1:])


def _fraction(contract: ModelContract, text: str) -> tuple[str, float]:
    name, named, value = text.rpartition("=")
    try:
        fraction = float(value)
    except ValueError:
        fraction = math.nan
    if not math.isfinite(fraction) or (not named and len(contract.phases) > 2):
        raise UsageError(f"fraction {text!r} is not of the form PHASE=0.4")
    phase = contract.phases[contract.phase_label(name) if named else 1]
    return phase.name, fraction
