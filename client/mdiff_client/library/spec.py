"""What a library is asked to be: a TOML file, or options."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from mdiff_client.library.quality import NO_LIMITS, Limits
from mdiff_client.plan_files import parse_periodic, parse_size
from mdiff_client.toml_files import fields_of, load
from mdiff_core import UsageError

MOST_SEEDS = 10**7  # a worker has the number of each volume in memory


@dataclass(frozen=True)
class LibrarySpec:
    """What a library is asked to be, in the words of ``generate3d``.

    There is a volume for each seed and each combination of class, phase fractions and guidance.

    Attributes:
        seeds: of the volumes, as ``0-999`` or ``0-9,50-59``; the volume of one is the first that ``generate3d`` makes.
        model: None: that of the first of ``plane``, or the default one.
        plane: models of single planes, ``xy=MODEL`` or ``xy=MODEL:CLASS``.
        plan: name of a sampling plan, or file; None: the model's default.
        size: voxels, as ``64x128x96``; None: a cube of the model's tile.
        periodic: axes, or ``none``; None: the plan's.
        classes: to be asked for in turn; empty: any.
        fractions: of each phase told, those to be asked for in turn.
        guidance: strengths to be asked for in turn.
        grey: grey levels instead of labels.
        threshold: of grey levels, as ``--threshold``.
        limits: the quality gate.

    Raises:
        UsageError: something is to be asked for twice, or a list of it is empty, which would be no volume.
    """

    seeds: str = "0"
    model: str | None = None
    plane: tuple[str, ...] = ()
    plan: str | None = None
    size: str | None = None
    periodic: str | None = None
    classes: tuple[str, ...] = ()
    fractions: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    guidance: tuple[float, ...] = (1.0,)
    grey: bool = False
    threshold: str | None = None
    limits: Limits = NO_LIMITS

    def __post_init__(self) -> None:
        asked = {"classes": self.classes, "guidance": self.guidance} | {
            f"fractions of {phase}": values for phase, values in self.fractions.items()
        }
        for what, values in asked.items():
            if len(set(values)) < len(values):
                raise UsageError(f"{what} {', '.join(map(str, values))}: some are there twice")
            if not values and what != "classes":
                raise UsageError(f"{what}: give at least one")

    @classmethod
    def read(cls, path: Path | None, **options: object) -> LibrarySpec:
        """From a TOML file, and what a user says besides; an option that is None or empty says nothing.

        Raises:
            UsageError: an unknown key, or a value of the wrong type or out of range.
            DataError: the file cannot be read.
        """
        table = load(path) if path else {}
        limits = fields_of(path or "", "limits", table.pop("limits", {}), get_type_hints(Limits))
        hints = {name: kind for name, kind in get_type_hints(cls).items() if name != "limits"}
        fields = fields_of(path or "", "a library", table, hints)
        limits.update(options.pop("limits", {}) or {})  # type: ignore[call-overload]
        given = {name: value for name, value in options.items() if value not in (None, (), {}, False)}
        return cls(**{**fields, **given, "limits": Limits(**limits)})

    @classmethod
    def stored(cls, content: Mapping[str, Any]) -> LibrarySpec:
        """From a store's metadata."""
        limits = {**content["limits"], "percolates": tuple(content["limits"]["percolates"])}
        fractions = {name: tuple(values) for name, values in content["fractions"].items()}
        lists = {name: tuple(content[name]) for name in ("plane", "classes", "guidance")}
        return cls(**{**content, **lists, "fractions": fractions, "limits": Limits(**limits)})

    @property
    def plan_changes(self) -> dict[str, object]:
        """What is asked of the sampling plan, see :func:`mdiff_client.plan_files.read_plan`."""
        return {
            "size": parse_size(self.size) if self.size else None,
            "periodic": parse_periodic(self.periodic) if self.periodic is not None else None,
        }

    def seed_list(self) -> Sequence[int]:
        """The seeds.

        Raises:
            UsageError: not of that form, too many, or one twice.
        """
        parts = [re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip()) for part in self.seeds.split(",")]
        ranges = [range(int(part[1]), int(part[2] or part[1]) + 1) for part in parts if part]
        if None in parts or not all(ranges) or any(part[-1] >= 2**64 for part in ranges):
            raise UsageError(f"seeds {self.seeds!r}: give numbers below 2^64 and ranges, as 0-999 or 0-9,50-59")
        if sum(part.stop - part.start for part in ranges) > MOST_SEEDS:
            raise UsageError(f"seeds {self.seeds!r}: more than {MOST_SEEDS}, make several libraries of them")
        if len(ranges) == 1:
            return ranges[0]
        seeds = [seed for part in ranges for seed in part]
        if len(set(seeds)) < len(seeds):
            raise UsageError(f"seeds {self.seeds!r}: some are there twice")
        return seeds

    def grid(self) -> Iterator[tuple[str | None, list[str], float]]:
        """Class, ``PHASE=FRACTION`` and guidance of each combination."""
        told = [[f"{phase}={value}" for value in values] for phase, values in self.fractions.items()]
        for class_name, fractions, guidance in itertools.product(
            self.classes or (None,), itertools.product(*told), self.guidance
        ):
            yield class_name, list(fractions), guidance

    def to_json(self) -> dict[str, Any]:
        """For a store's metadata."""
        return dataclasses.asdict(self)


def parse_fractions(texts: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """``sphere=0.2,0.3``, once for each phase.

    Raises:
        UsageError: not of that form, or a phase twice.
    """
    found: dict[str, tuple[float, ...]] = {}
    for text in texts:
        phase, _, values = text.partition("=")
        if phase in found:
            raise UsageError(f"fraction {text!r}: {phase} is there twice, give its fractions as {phase}=0.2,0.3,0.4")
        try:
            found[phase] = tuple(float(value) for value in values.split(","))
        except ValueError as error:
            raise UsageError(f"fraction {text!r}: give the fractions of a phase, as sphere=0.2,0.3,0.4") from error
    return found
