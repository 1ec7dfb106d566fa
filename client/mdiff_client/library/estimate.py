"""What a library would cost, before any of it is made."""

from __future__ import annotations

import math
import shutil
import time
from contextlib import suppress

import numpy as np

from mdiff_client.denoisers import network_outputs
from mdiff_client.library.library import Library
from mdiff_client.report import costs
from mdiff_client.storage import Storage
from mdiff_core import ModelContract

_PROBED = 4  # evaluations


def estimate(library: Library, location: str, *, on_wire: bool) -> dict[str, int | float | str | None]:
    """Volumes, evaluations, bytes and seconds, each if all volumes pass at the first attempt.

    The time is that of one worker with one volume in flight: what one evaluation takes from the second to the fourth,
    client and network, times the evaluations; of guided volumes, twice that of others, as they cost twice the images.

    Args:
        library: with its models open.
        location: where it would lie.
        on_wire: whether the models are behind a server.

    Raises:
        UnavailableError, PermanentError: from the denoiser.
    """
    planes, condition = library.asked[0]
    of_volume = costs(library.recipe.contract, library.recipe.plan, 1, condition, grey=library.recipe.grey)
    # The images of one combination do for all, but for guidance, which asks about each twice.
    branches = [asked.branches for _, asked in library.asked]
    images = int(of_volume["images_per_volume"]) // branches[0] * sum(branches) * len(library.seeds)
    seconds = _probe(library) * library.evaluations * sum(branches) / (branches[0] * len(branches))
    voxel_bytes = int(of_volume["bytes_before_compression"])
    contract = planes[0].denoiser.contract
    return {
        "model": of_volume["model"],
        "plan": of_volume["plan"],
        "volume_size": of_volume["volume_size"],
        "periodic": of_volume["periodic"],
        "volumes": library.count,
        "combinations": len(library.asked),
        "evaluations": library.count * library.evaluations,
        "images": images,
        "bytes_on_the_wire": images * _bytes_of_an_image(contract) if on_wire else 0,
        "bytes_before_compression": library.count * voxel_bytes,
        "bytes_free": _free(location),
        "seconds_per_volume": round(seconds, 3),
        "hours_of_one_worker": round(library.count * seconds / 3600, 3),
    }


class _EnoughError(Exception):
    """The probe has seen what it came for."""


def _probe(library: Library) -> float:
    """Seconds of one evaluation."""
    planes, condition = library.asked[0]
    moments: list[float] = []

    def note() -> None:
        moments.append(time.perf_counter())
        if len(moments) == _PROBED:
            raise _EnoughError

    with suppress(_EnoughError):
        library.recipe.volume(planes, library.seeds[0], 0, condition, note)
    return (moments[-1] - moments[0]) / max(len(moments) - 1, 1)


def _bytes_of_an_image(contract: ModelContract) -> int:
    """There and back, without what gRPC adds."""
    pixels = math.prod((contract.channels, *contract.image_size))
    there_and_back = pixels * (1 + len(network_outputs(contract))) * np.dtype(contract.io_dtype).itemsize
    labels = 8 * (1 + (contract.labels > 0)) + 4 * len(contract.fractions)
    return there_and_back + labels


def _free(location: str) -> int | None:
    """Bytes free where the library would lie; None for an object store."""
    path = Storage(location).path
    if path is None:
        return None
    place = path.absolute()
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    return shutil.disk_usage(there).free
