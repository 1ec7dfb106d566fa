"""The light client: denoisers, the sampler loop, volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mdiff_client.reading import Volumes


def open_library(location: str | Path) -> Volumes:
    """The complete volumes of a library, or of what ``generate3d`` made, each read when it is asked for.

    Args:
        location: the zarr folder, or the URL of one in an object store, as ``s3://bucket/name.zarr``.

    Raises:
        DataError: not a store of mdiff's volumes.
        ContractError: its contract cannot be used.
        UsageError: the package for this kind of object store is not installed.
        UnavailableError: the object store does not answer.
    """
    from mdiff_client.reading import Volumes  # numpy and zarr, which the command line can often do without

    return Volumes.open(location)
