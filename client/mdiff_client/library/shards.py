"""Which volumes of a library a worker makes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mdiff_core import UsageError


@dataclass(frozen=True)
class Shard:
    """Share ``i`` of ``n``: the volumes i, i + n, i + 2n …

    Raises:
        UsageError: ``i`` is not one of 0 … n - 1.
    """

    i: int
    n: int

    def __post_init__(self) -> None:
        if not 0 <= self.i < self.n:
            raise UsageError(f"shard {self.i}/{self.n}: of {self.n} shards the first is 0, the last {self.n - 1}")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``3/16``.

        Raises:
            UsageError: not of that form.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None:
            raise UsageError(f"shard {text!r}: give the worker's number from 0, and how many there are, as 3/16")
        return cls(int(match[1]), int(match[2]))

    def indices(self, count: int) -> range:
        """Of ``count`` volumes, those of this share."""
        return range(self.i, count, self.n)

    def overlaps(self, other: Shard, count: int) -> bool:
        """Whether some of ``count`` volumes is in both."""
        return any(index % other.n == other.i for index in self.indices(count))


WHOLE = Shard(0, 1)
