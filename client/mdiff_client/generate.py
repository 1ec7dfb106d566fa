"""Making volumes and images: the sampler's output into a store or into files."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mdiff_client.crew import Crew
from mdiff_client.denoisers import Denoiser
from mdiff_client.image_files import Batch, check_images, write_images
from mdiff_client.image_statistics import ImageStatistics
from mdiff_client.phases import to_grey, to_labels
from mdiff_client.sampling import (
    IMAGES_AT_ONCE,
    UNCONDITIONAL,
    Anchor,
    Condition,
    ImagePlan,
    Plane,
    SamplingPlan,
    planes_of,
    sample,
    sample_images,
)
from mdiff_client.store import VolumeStore, provenance
from mdiff_client.thresholds import Threshold
from mdiff_core import ModelContract, UsageError
from mdiff_core.contract import AXES, PLANES

_logger = logging.getLogger(__name__)


def generate(
    denoiser: Denoiser | Sequence[Plane],
    plan: SamplingPlan,
    out: str | Path,
    *,
    seed: int,
    count: int,
    grey: bool,
    threshold: Threshold | None = None,
    condition: Condition = UNCONDITIONAL,
    anchors: Sequence[Anchor] = (),
    contract: ModelContract | None = None,
    in_flight: int = 1,
    resume: bool = False,
    on_evaluation: Callable[[], object] = lambda: None,
) -> VolumeStore:
    """Sample ``count`` volumes into a store.

    A failure ends those that are in flight and leaves the volumes that are complete, or no store where there is none.

    Args:
        denoiser: the network, or those of the planes normal to z, y and x.
        plan: how to sample, and what size.
        out: the store.
        seed: of the library of volumes.
        count: how many volumes.
        grey: store grey levels instead of labels.
        threshold: store labels of grey levels below and above it, for a model without phases.
        condition: what the volumes are asked to be.
        anchors: slices that every volume contains.
        contract: the one that stands for the volumes; None: that of the first plane's network.
        in_flight: how many volumes are made at the same time; each is in memory until it is written.
        resume: make what is missing in ``out``, where it is there and was begun with the same arguments.
        on_evaluation: called after each network evaluation of a volume, from several threads.

    Raises:
        UsageError: ``out`` exists, or was begun otherwise, or the plan or the condition does not fit the model.
        DataError: ``out`` cannot be written.
        UnavailableError, PermanentError: from the denoiser.
    """
    planes = list(denoiser) if isinstance(denoiser, Sequence) else planes_of(denoiser)
    recipe = Recipe.of(contract or planes[0].denoiser.contract, plan, anchors, threshold, grey=grey)
    store = VolumeStore.create(
        out,
        recipe.contract,
        plan,
        seed,
        count,
        grey=grey,
        conditions=[condition],
        more={**recipe.made(), "planes": planes_made(planes, condition)},
        resume=resume,
    )
    crew = Crew(in_flight)
    heeding = crew.heeding(planes)

    def make(index: int) -> None:
        volume, record = recipe.volume(heeding, seed, index, condition, on_evaluation)
        with crew.writing():
            store.write(index, volume, **record)
        _logger.info("volume done", extra={"figures": {"volume": index, **record}})

    try:
        crew.run(make, sorted({*range(count)} - {*store.complete()}))
    finally:
        store.remove_if_empty()
    return store


@dataclass(frozen=True)
class Recipe:
    """How a volume is made, but for its seed and what it is asked to be.

    Attributes:
        contract: of what is stored.
        plan: how to sample, and what size.
        anchors: slices that every volume contains.
        threshold: labels of grey levels below and above it, for a model without phases.
        grey: grey levels instead of labels.
    """

    contract: ModelContract
    plan: SamplingPlan
    anchors: Sequence[Anchor] = ()
    threshold: Threshold | None = None
    grey: bool = False

    @classmethod
    def of(
        cls,
        contract: ModelContract,
        plan: SamplingPlan,
        anchors: Sequence[Anchor] = (),
        threshold: Threshold | None = None,
        *,
        grey: bool,
    ) -> Recipe:
        """For volumes of the model with this contract.

        Raises:
            UsageError: the model cannot give what is asked for.
        """
        return cls(stored_as(contract, threshold, grey=grey), plan, anchors, threshold, grey)

    def volume(
        self,
        planes: Sequence[Plane],
        seed: int,
        number: int,
        condition: Condition,
        on_evaluation: Callable[[], object],
    ) -> tuple[Batch, dict[str, Any]]:
        """Sample volume ``number`` of a seed.

        Returns:
            The volume [Z, Y, X], and what there is to note about it.

        Raises:
            UsageError: the plan or the condition does not fit the model.
            UnavailableError, PermanentError: from the denoiser.
        """
        began = time.perf_counter()
        field = sample(planes, self.plan, seed, number, on_evaluation, condition, self.anchors)
        record: dict[str, Any] = {
            "evaluations": self.plan.evaluations(planes[0].denoiser.contract.schedule.build()),
            "seconds": time.perf_counter() - began,
        }
        if self.threshold:
            record["threshold"] = level = self.threshold.of(field)
            field -= np.float32(level)
        volume = (to_grey if self.grey else to_labels)(field, self.contract)
        named = () if self.grey else enumerate(self.contract.phases)
        record["fractions"] = {phase.name: float(np.mean(volume == label)) for label, phase in named}
        return volume, record

    def made(self) -> dict[str, Any]:
        """What a store notes of it besides contract and plan, JSON."""
        return {
            "anchors": [_anchored(anchor) for anchor in self.anchors],
            "threshold": dataclasses.asdict(self.threshold) if self.threshold else None,
        }


def generate_images(
    denoiser: Denoiser,
    plan: ImagePlan,
    out: Path,
    *,
    seed: int,
    count: int,
    grey: bool,
    condition: Condition = UNCONDITIONAL,
    on_evaluation: Callable[[], object] = lambda: None,
) -> ImageStatistics:
    """Sample ``count`` images into new files, all of them or none.

    Returns:
        How near they are to the training images, of a model with phases.

    Raises:
        UsageError: ``out`` exists or is no kind of file for them, or the plan or the condition does not fit the model.
        DataError: ``out`` cannot be written.
        UnavailableError, PermanentError: from the denoiser.
    """
    check_images(out, count)
    contract = denoiser.contract
    convert = _converter(contract, grey)
    statistics = ImageStatistics(contract, condition)

    def batches() -> Iterator[Batch]:
        for first in range(0, count, IMAGES_AT_ONCE):
            n, began = min(IMAGES_AT_ONCE, count - first), time.perf_counter()
            fields = np.moveaxis(sample_images(denoiser, plan, seed, first, n, condition, on_evaluation), 0, 1)
            seconds = time.perf_counter() - began
            _logger.info("images done", extra={"figures": {"first": first, "images": n, "seconds": seconds}})
            if contract.phases:
                statistics.add(to_labels(fields, contract))
            yield convert(fields, contract)

    dtype = np.float32 if grey else np.uint8
    write_images(out, contract, provenance(contract, plan, [condition], seed), count, dtype, batches())
    return statistics


def image_evaluations(contract: ModelContract, plan: ImagePlan, count: int) -> int:
    """Network evaluations that ``count`` images cost."""
    return math.ceil(count / IMAGES_AT_ONCE) * plan.evaluations(contract.schedule.build())


def planes_made(planes: Sequence[Plane], condition: Condition) -> dict[str, dict[str, str | None]]:
    """What denoises each plane, by its name: model, class and the weights' sha256."""
    return {name: _made_by(plane, condition) for name, plane in zip(PLANES, planes, strict=True)}


def _made_by(plane: Plane, condition: Condition) -> dict[str, str | None]:
    contract = plane.denoiser.contract
    label = condition.label if plane.label is None else plane.label
    return {
        "model": contract.name,
        "class": None if label is None else [*contract.classes, None][label],
        "weights_sha256": contract.provenance.weights_sha256,
    }


def _anchored(anchor: Anchor) -> dict[str, str | int]:
    """An anchor's place, and the sha256 of its slice, float32 [C, H, W] in [-1, 1]."""
    digest = hashlib.sha256(np.ascontiguousarray(anchor.x0).tobytes()).hexdigest()
    return {"axis": AXES[anchor.axis], "index": anchor.index, "sha256": digest}


def stored_as(contract: ModelContract, threshold: Threshold | None, *, grey: bool) -> ModelContract:
    """The contract of the volumes that are stored.

    Raises:
        UsageError: the model cannot give what is asked for.
    """
    if threshold and grey:
        raise UsageError("--grey stores grey levels, --threshold labels: ask for one of them")
    contract = threshold.contract(contract) if threshold else contract
    _converter(contract, grey)
    return contract


def _converter(contract: ModelContract, grey: bool) -> Callable[[npt.NDArray[np.floating], ModelContract], Batch]:
    convert = to_grey if grey else to_labels
    convert(np.zeros((contract.channels, 1, 1, 1)), contract)  # a model that cannot give this is told before sampling
    return convert
