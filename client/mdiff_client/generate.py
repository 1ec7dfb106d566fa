"""Making volumes and images: the sampler's output into a store or into files, one after the other."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mdiff_client.denoisers import Denoiser
from mdiff_client.image_files import Batch, check_images, write_images
from mdiff_client.image_statistics import ImageStatistics
from mdiff_client.phases import to_grey, to_labels
from mdiff_client.sampling import (
    IMAGES_AT_ONCE,
    UNCONDITIONAL,
    Condition,
    ImagePlan,
    SamplingPlan,
    sample,
    sample_images,
)
from mdiff_client.store import VolumeStore, provenance
from mdiff_core import ModelContract

_logger = logging.getLogger(__name__)


def generate(
    denoiser: Denoiser,
    plan: SamplingPlan,
    out: Path,
    *,
    seed: int,
    count: int,
    grey: bool,
    condition: Condition = UNCONDITIONAL,
    on_evaluation: Callable[[], object] = lambda: None,
) -> VolumeStore:
    """Sample ``count`` volumes into a new store.

    A failure leaves the volumes that are complete, or no store where there is none.

    Raises:
        UsageError: ``out`` exists, or the plan or the condition does not fit the model.
        DataError: ``out`` cannot be written.
        UnavailableError, PermanentError: from the denoiser.
    """
    contract = denoiser.contract
    evaluations = plan.evaluations(contract.schedule.build())
    convert = _converter(contract, grey)
    store = VolumeStore.create(out, contract, plan, seed, count, grey=grey, condition=condition)
    try:
        for index in range(count):
            began = time.perf_counter()
            field = sample(denoiser, plan, seed, index, on_evaluation, condition)
            seconds = time.perf_counter() - began
            volume = convert(field, contract)
            fractions = {} if grey else {p.name: float(np.mean(volume == i)) for i, p in enumerate(contract.phases)}
            record = {"evaluations": evaluations, "seconds": seconds, "fractions": fractions}
            store.write(index, volume, **record)
            _logger.info("volume done", extra={"figures": {"volume": index, **record}})
    finally:
        store.remove_if_empty()
    return store


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
    write_images(out, contract, provenance(contract, plan, condition, seed), count, dtype, batches())
    return statistics


def image_evaluations(contract: ModelContract, plan: ImagePlan, count: int) -> int:
    """Network evaluations that ``count`` images cost."""
    return math.ceil(count / IMAGES_AT_ONCE) * plan.evaluations(contract.schedule.build())


def _converter(contract: ModelContract, grey: bool) -> Callable[[npt.NDArray[np.floating], ModelContract], Batch]:
    convert = to_grey if grey else to_labels
    convert(np.zeros((contract.channels, 1, 1, 1)), contract)  # a model that cannot give this is told before sampling
    return convert
