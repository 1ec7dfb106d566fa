"""Making volumes: the sampler's output into a store, one volume after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mdiff_client.denoisers import Denoiser
from mdiff_client.phases import to_grey, to_labels
from mdiff_client.sampling import SamplingPlan, sample
from mdiff_client.store import VolumeStore


def generate(
    denoiser: Denoiser,
    plan: SamplingPlan,
    out: Path,
    *,
    seed: int,
    count: int,
    grey: bool,
    on_evaluation: Callable[[], object] = lambda: None,
) -> VolumeStore:
    """Sample ``count`` volumes into a new store.

    A failure leaves the volumes that are complete, or no store where there is none.

    Raises:
        UsageError: ``out`` exists, or the plan does not fit the model.
        DataError: ``out`` cannot be written.
        UnavailableError, PermanentError: from the denoiser.
    """
    contract = denoiser.contract
    evaluations = plan.evaluations(contract.schedule.build())
    convert = to_grey if grey else to_labels
    convert(np.zeros((contract.channels, 1, 1, 1)), contract)  # a model that cannot give this is told before sampling
    store = VolumeStore.create(out, contract, plan, seed, count, grey=grey)
    try:
        for index in range(count):
            began = time.perf_counter()
            field = sample(denoiser, plan, seed, index, on_evaluation)
            seconds = time.perf_counter() - began
            volume = convert(field, contract)
            fractions = {} if grey else {p.name: float(np.mean(volume == i)) for i, p in enumerate(contract.phases)}
            store.write(index, volume, evaluations=evaluations, seconds=seconds, fractions=fractions)
    finally:
        store.remove_if_empty()
    return store
