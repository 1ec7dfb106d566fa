"""A library of volumes: laid out once, filled by any number of workers that know nothing of each other.

What is done is what lies in the store. A volume has a record when it is complete, and a document in ``failed`` when
none of its attempts passed the quality gate; one that has neither is missing, and made by whoever runs its shard next.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from mdiff_client.crew import Crew
from mdiff_client.generate import Recipe, planes_made
from mdiff_client.library.lease import BEAT_SECONDS, Lease
from mdiff_client.library.quality import Score, scores
from mdiff_client.library.shards import WHOLE, Shard
from mdiff_client.library.spec import LibrarySpec
from mdiff_client.plane_models import PlaneModels
from mdiff_client.sampling import Condition, NoNumberError, Plane, SamplingPlan
from mdiff_client.store import RECORDS, VolumeStore, digest
from mdiff_client.thresholds import Threshold
from mdiff_core import DataError, UsageError

_logger = logging.getLogger(__name__)

FAILED = "failed"
Progress = Callable[[int], AbstractContextManager[Callable[[], object]]]


@dataclass(frozen=True)
class Library:
    """What a library's volumes are made of, with the models open.

    Attributes:
        spec: what it is asked to be.
        recipe: how a volume is made.
        asked: planes and condition of each combination; volumes come in blocks of one combination, a volume a seed.
        seeds: of the volumes of a block.
    """

    spec: LibrarySpec
    recipe: Recipe
    asked: tuple[tuple[tuple[Plane, ...], Condition], ...]
    seeds: Sequence[int]

    @classmethod
    def of(cls, spec: LibrarySpec, plan: SamplingPlan, models: PlaneModels) -> Library:
        """With these models.

        Raises:
            UsageError: what the models cannot give.
        """
        threshold = Threshold.parse(spec.threshold) if spec.threshold else None
        recipe = Recipe.of(models.contract, plan, threshold=threshold, grey=spec.grey)
        plan.shape(models.contract)
        spec.limits.check(recipe.contract, grey=spec.grey)
        return cls(spec, recipe, tuple(models.asked(*one) for one in spec.grid()), spec.seed_list())

    @property
    def count(self) -> int:
        """How many volumes."""
        return len(self.asked) * len(self.seeds)

    @property
    def evaluations(self) -> int:
        """Network evaluations of one attempt at one volume."""
        return self.recipe.plan.evaluations(self.asked[0][0][0].denoiser.contract.schedule.build())

    def store(self, location: str, *, resume: bool = False) -> VolumeStore:
        """Lay the store out or, with ``resume``, also take one that was laid out for the same library.

        Raises:
            UsageError: it exists, or is another library's.
            DataError, UnavailableError: from the storage.
        """
        return VolumeStore.create(
            location,
            self.recipe.contract,
            self.recipe.plan,
            None,
            self.count,
            grey=self.recipe.grey,
            conditions=[condition for _, condition in self.asked],
            more={
                **self.recipe.made(),
                "planes": [planes_made(planes, condition) for planes, condition in self.asked],
                "library": self.spec.to_json(),
            },
            resume=resume,
        )

    def run(
        self,
        store: VolumeStore,
        shard: Shard = WHOLE,
        in_flight: int = 1,
        progress: Progress = lambda evaluations: nullcontext(lambda: None),
        beat_seconds: float = BEAT_SECONDS,
    ) -> int:
        """Make what is missing of a shard.

        Args:
            store: of this library.
            shard: this worker's share.
            in_flight: how many volumes are made at the same time; each is in memory until it is written.
            progress: of so many evaluations the context of a function that is called after each, from several threads.
            beat_seconds: how often the worker tells others that it is at work.

        Returns:
            How many volumes that was.

        Raises:
            BusyError: another worker is at work on some of the same volumes.
            DataError, UnavailableError: from the storage or the denoiser; what is complete stays.
            PermanentError: from the denoiser.
        """
        with Lease(store.storage, shard, self.count, beat_seconds) as lease:
            todo, crew = missing(store, shard), Crew(in_flight)
            planes = [crew.heeding(planes) for planes, _ in self.asked]

            def make(index: int, on_evaluation: Callable[[], object]) -> None:
                volume, record = self._made(index, planes[index // len(self.seeds)], on_evaluation)
                with crew.writing():
                    lease.check()
                    if volume is None:
                        store.write_document(FAILED, index, record)
                    else:
                        store.write(index, volume, **record)
                event = "volume done" if volume is not None else "volume given up"
                _logger.info(event, extra={"figures": {"volume": index, **record}})

            with progress(len(todo) * self.evaluations) as advance:
                crew.run(lambda index: make(index, advance), todo)
        return len(todo)

    def _made(
        self, index: int, planes: Sequence[Plane], on_evaluation: Callable[[], object]
    ) -> tuple[np.ndarray[Any, Any] | None, dict[str, Any]]:
        """The volume, None where no attempt passed the gate, and what there is to note."""
        attempts: list[dict[str, Any]] = []
        condition, seed = self.asked[index // len(self.seeds)][1], self.seeds[index % len(self.seeds)]
        contract = self.recipe.contract
        for number in range(self.spec.limits.attempts):
            try:
                volume, record = self.recipe.volume(planes, seed, number, condition, on_evaluation)
            except NoNumberError as error:
                attempts.append({"seed": seed, "attempt": number, "exceeded": [str(error)]})
                continue
            of_phases: dict[str, Score] = {}
            if not self.recipe.grey:
                of_phases = scores(np.asarray(volume, np.uint8), contract, contract.references_at(condition.fractions))
            complaints = self.spec.limits.exceeded(of_phases)
            phases = {name: dataclasses.asdict(score) for name, score in of_phases.items()}
            record = {"seed": seed, "attempt": number, **record, "phases": phases}
            if not complaints:
                return volume, {**record, "rejected": attempts}
            attempts.append({**record, "exceeded": complaints, "sha256": digest(volume)})
        return None, {"volume": index, "seed": seed, "rejected": attempts}


def missing(store: VolumeStore, shard: Shard = WHOLE) -> list[int]:
    """Volumes of a shard that are neither complete nor given up."""
    done = {*store.complete(), *store.documents(FAILED)}
    return [index for index in shard.indices(store.shape[0]) if index not in done]


def spec_of(store: VolumeStore) -> LibrarySpec:
    """What a library was asked to be.

    Raises:
        UsageError: the store holds no library.
        DataError: it is not of a form that this version knows.
    """
    if "library" not in store.made:
        raise UsageError(f"{store.location} is no library: mdiff-client library create makes one")
    try:
        return LibrarySpec.stored(store.made["library"])
    except (LookupError, TypeError) as error:
        raise DataError(
            f"{store.location}: laid out by mdiff {store.made.get('version')}, which this version cannot go on with"
        ) from error


def damaged(store: VolumeStore, complete: Sequence[int]) -> Iterator[tuple[int, str | None]]:
    """Each of these volumes, and what is wrong with it, if anything: it is read again and held to its checksum."""
    for index in complete:
        try:
            record = store.record(index)
            found = digest(store.voxels(index))
            yield index, None if found == record["sha256"] else "its sha256 is not the one of its record"
        except DataError as error:
            yield index, str(error)
        except KeyError:
            yield index, "its record has no sha256"


def forget(store: VolumeStore, index: int) -> None:
    """Take away the record of a volume, which makes it missing."""
    store.remove_document(RECORDS, index)
