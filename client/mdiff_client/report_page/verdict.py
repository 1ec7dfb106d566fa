"""What the figures say to somebody who does not know them, by a rule that the page tells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from mdiff_client.evaluation import ALL_AXES, Interval
from mdiff_client.report_page.figures import Figure, Quantity

TOLERANCE = 10.0
"""Per cent that a figure may be from its reference where no real material says how much real pieces differ."""
NEAR = 2.0
"""Times as far from the middle of its range as the end of that is, a figure is still called close."""
UNSURE = 20.0
"""Per cent of S2 or LP error of real pieces beyond which they represent the material poorly."""


class Level(IntEnum):
    """How a figure, or all of them, are to be taken."""

    UNJUDGED = -1
    WITHIN = 0
    CLOSE = 1
    OUTSIDE = 2


_TITLES = {
    True: ["Like the real material", "Close to the real material", "Differs from the real material"],
    False: ["Near the training data", "Not far from the training data", "Differs from the training data"],
}
_WORST = (
    f"It is “close” up to {NEAR:g} times as far from the middle of the range as its ends are; the middle of an error "
    "is 0. The verdict is that of the worst figure: good correlations do not make up for a wrong specific surface."
)
_RULES = {
    True: "A figure is “within” where 95 % of groups of as many real pieces lie, or an error no higher than that. "
    f"{_WORST} Where the error of real pieces themselves exceeds {UNSURE:g} %, the verdict is at best “close”. "
    "Percolation has a wider range, by 3 divided by the number of real pieces (the rule of three): so many may "
    "differ unseen.",
    False: "No real material was given, so how much real pieces differ from each other is not known. By convention a "
    f"figure is “within” up to {TOLERANCE:g} % from that of the training data. {_WORST} Percolation is told and not "
    "judged. With --reference the volumes are held to real pieces instead.",
}
_MEANINGS = {
    Quantity.FRACTION: "how much of the volume each phase fills",
    Quantity.SURFACE: "how much boundary there is: rough, broken or oversmoothed shapes show here first",
    Quantity.S2: "how the phases are spread out: size and spacing of their features",
    Quantity.LINEAL_PATH: "how far one can go straight on within a phase",
    Quantity.PERCOLATION: "whether a phase connects opposite faces",
}


@dataclass(frozen=True)
class Finding:
    """All figures of one quantity in a sentence or two."""

    level: Level
    quantity: Quantity
    text: str


@dataclass(frozen=True)
class Verdict:
    """The judgement of volumes.

    Attributes:
        level: of the worst figure.
        title: in a few words.
        findings: of each quantity.
        rule: how the verdict came about.
        notes: what else one must know to take it right.
    """

    level: Level
    title: str
    findings: tuple[Finding, ...]
    rule: str
    notes: tuple[str, ...]


def judge(figures: Sequence[Figure], volumes: int) -> Verdict:
    """Judge the figures of ``volumes`` volumes."""
    against_real = any(figure.real for figure in figures)
    scatter = max((one.real[1] for one in figures if one.quantity in _ERRORS and one.real), default=0.0)
    worst = max(max(map(level, figures)), Level.CLOSE if scatter > UNSURE else Level.WITHIN)
    of_quantities = ([one for one in figures if one.quantity is quantity] for quantity in Quantity)
    notes = []
    if scatter > UNSURE:
        notes.append(
            f"Real pieces of this size are up to {scatter:.0f} % from the material themselves: they are too small to "
            "represent it, and to be within says little."
        )
    if volumes == 1:
        notes.append("One volume tells nothing about the scatter among volumes: several give intervals.")
    return Verdict(
        worst,
        _TITLES[against_real][worst],
        tuple(_finding(of) for of in of_quantities if of),
        _RULES[against_real],
        tuple(notes),
    )


def allowed(figure: Figure) -> Interval | None:
    """Where a figure is within; None: it is not judged."""
    if figure.quantity in _ERRORS:
        return (0.0, figure.real[1] if figure.real else TOLERANCE)
    if figure.real or figure.reference is None:
        return figure.real
    return figure.reference * (1 - TOLERANCE / 100), figure.reference * (1 + TOLERANCE / 100)


def level(figure: Figure) -> Level:
    """How a figure is to be taken."""
    if allowed(figure) is None:
        return Level.UNJUDGED
    away = _away(figure)
    return Level.WITHIN if away <= 1 else Level.CLOSE if away <= NEAR else Level.OUTSIDE


_ERRORS = (Quantity.S2, Quantity.LINEAL_PATH)
_ROUNDING = 1e-9


def _away(figure: Figure) -> float:
    """Distance from the middle of what is allowed, in parts of that of its ends."""
    low, high = allowed(figure) or (-math.inf, math.inf)
    middle = 0.0 if figure.quantity in _ERRORS else (low + high) / 2
    return (abs(figure.value - middle) - _ROUNDING) / max(high - middle, _ROUNDING)


def _finding(figures: Sequence[Figure]) -> Finding:
    worst = max(figures, key=lambda one: (level(one), _away(one)))
    meaning = _MEANINGS[worst.quantity]
    if level(worst) in (Level.WITHIN, Level.UNJUDGED):
        return Finding(level(worst), worst.quantity, f"{meaning}.")
    where = worst.phase if worst.axes == ALL_AXES else f"{worst.phase} along {worst.axes}"
    value = (
        f"{worst.told(worst.value)} of the volumes"
        if worst.quantity is Quantity.PERCOLATION
        else worst.told(worst.value)
    )
    range_ = worst.told_range(allowed(worst) or (0.0, 0.0))
    compared = f"real pieces have {range_}" if worst.real else f"{range_} would be within"
    return Finding(level(worst), worst.quantity, f"{meaning}. Worst is {where}: {value}; {compared}.")
