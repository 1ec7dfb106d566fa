"""Which model denoises each plane of a volume, as a user asks for it: ``xy=MODEL:CLASS``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from mdiff_client.denoisers import Denoiser
from mdiff_client.denoisers.place import Place
from mdiff_client.denoisers.timed import Latency, TimedDenoiser
from mdiff_client.sampling import Condition, Plane, planes_of
from mdiff_core import ModelContract, UsageError
from mdiff_core.contract import PLANES

DEFAULT_MODEL = "spheres64"


@dataclass(frozen=True)
class PlaneModels:
    """The models of one run.

    Attributes:
        planes: of the slices normal to z, y and x.
        denoisers: of all models, each once; the first is the one whose contract stands for the volumes.
    """

    planes: tuple[Plane, ...]
    denoisers: tuple[TimedDenoiser, ...]

    @property
    def contract(self) -> ModelContract:
        """The contract that stands for the volumes."""
        return self.denoisers[0].contract

    def asked(
        self, class_name: str | None, fractions: Sequence[str], guidance: float
    ) -> tuple[tuple[Plane, ...], Condition]:
        """The planes, with the class that a user asks for where they have none of their own, and the condition.

        Raises:
            UsageError: see :meth:`Condition.asked`; each model must be able to give what is asked for.
        """
        undecided = {plane.denoiser for plane in self.planes if plane.label is None}
        conditions: dict[Denoiser, Condition] = {
            denoiser: Condition.asked(
                self._with_classes(denoiser),
                # A class is for the planes without one; where there are none, each model says that it takes no other.
                class_name if denoiser in undecided or not undecided else None,
                fractions,
                guidance,
                volume=True,
            )
            for denoiser in self.denoisers
        }
        planes = tuple(
            # The same class may stand elsewhere in another model's list.
            dataclasses.replace(plane, label=conditions[plane.denoiser].label) if plane.label is None else plane
            for plane in self.planes
        )
        return planes, conditions[self.denoisers[0]]

    def latency(self) -> Latency | None:
        """Of the calls of all models; None where there was none."""
        seconds = [second for denoiser in self.denoisers for second in denoiser.seconds]
        return Latency.of(seconds) if seconds else None

    def _with_classes(self, denoiser: Denoiser) -> ModelContract:
        """Its contract, with the classes that planes have here; where all it serves have one, it takes no other."""
        own = {name: plane for name, plane in zip(PLANES, self.planes, strict=True) if plane.denoiser is denoiser}
        told = {name: plane.label for name, plane in own.items() if plane.label is not None}
        everywhere = dict.fromkeys(PLANES, next(iter(told.values()))) if told and len(told) == len(own) else {}
        return dataclasses.replace(denoiser.contract, planes=everywhere | told or denoiser.contract.planes)


@contextmanager
def open_models(place: Place, model: str | None, planes: Sequence[str]) -> Iterator[PlaneModels]:
    """The models of a run, closed with the context; one that serves several planes is opened once.

    Args:
        place: where they are found.
        model: of the planes for which no other is named; None: the first one named, or else the default model.
        planes: ``PLANE=MODEL`` or ``PLANE=MODEL:CLASS`` each.

    Raises:
        UsageError: not of that form, a plane named twice, no such model or class, or models that do not fit together.
        UnavailableError, PermanentError, DataError, ContractError: from :meth:`Place.denoiser`.
    """
    named = _parsed(planes)
    main = model or next((name for name, _ in named.values()), DEFAULT_MODEL)
    with ExitStack() as stack:
        opened: dict[str, TimedDenoiser] = {}
        for name in (main, *(name for name, _ in named.values())):
            if name not in opened:
                opened[name] = TimedDenoiser(stack.enter_context(place.denoiser(name)))
                _check_alike(opened[main].contract, opened[name].contract)
        chosen = planes_of(opened[main])
        for plane, (name, class_name) in named.items():
            own = planes_of(opened[name])[PLANES.index(plane)]
            label = _label(own.denoiser.contract, class_name) if class_name else own.label
            chosen[PLANES.index(plane)] = dataclasses.replace(own, label=label)
        yield PlaneModels(tuple(chosen), tuple(opened.values()))


def _parsed(planes: Sequence[str]) -> dict[str, tuple[str, str | None]]:
    named: dict[str, tuple[str, str | None]] = {}
    for text in planes:
        match = re.fullmatch(rf"({'|'.join(PLANES)})=([^:]+)(?::(.+))?", text)
        if match is None or match[1] in named:
            raise UsageError(f"plane {text!r}: name each of {', '.join(PLANES)} once, as xy=MODEL or xy=MODEL:CLASS")
        named[match[1]] = match[2], match[3]
    return named


def _check_alike(main: ModelContract, other: ModelContract) -> None:
    for what in ("image_size", "channels", "phases", "prediction"):
        one, two = (
            [phase.name for phase in of.phases] if what == "phases" else getattr(of, what) for of in (main, other)
        )
        if one != two:
            raise UsageError(
                f"models {main.name} and {other.name} cannot make one volume: they differ in {what.replace('_', ' ')}, "
                f"{one} and {two}"
            )


def _label(contract: ModelContract, class_name: str) -> int:
    if class_name not in contract.classes:
        known = ", ".join(contract.classes) or "none"
        raise UsageError(f"model {contract.name} has no class {class_name!r}; its classes: {known}")
    return contract.classes.index(class_name)
