"""How the phases hang together: Euler number, chords, percolation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from itertools import product

import numpy as np
import numpy.typing as npt

from mdiff_client.library.quality import percolates
from mdiff_client.metrics.metric import Floats, Labels, Row, Setting, Volumes
from mdiff_core import UsageError
from mdiff_core.contract import AXES
from mdiff_core.extras import not_installed

Indicator = npt.NDArray[np.bool_]


def euler_number(indicator: Indicator) -> int:
    """Euler number of a phase [Z, Y, X]: bodies − tunnels + cavities, of voxels that share faces.

    Faces are what :func:`mdiff_client.library.quality.percolates` takes for a connection too. What lies outside of
    the volume is not in the phase.
    """
    from skimage.measure import euler_number as of_image

    number: int = of_image(indicator, connectivity=1)  # type: ignore[no-untyped-call]
    return number


def chord_lengths(indicator: Indicator, axis: int) -> npt.NDArray[np.int64]:
    """Lengths, voxels, of the runs of a phase along ``axis`` that end inside the array at both ends.

    A run that the array's edge cuts has an unknown length and is left out, as PoreSpy's ``apply_chords`` does with
    ``trim_edges``. Torquato, Random Heterogeneous Materials (2002), section 2.5.
    """
    lines = np.moveaxis(indicator, axis, -1).reshape(-1, indicator.shape[axis])
    steps = np.diff(lines.astype(np.int8), axis=1)
    # Along each line ends and starts alternate, so only a line's first end and last start may lack a partner.
    start_lines, starts = np.nonzero(steps == 1)
    end_lines, ends = np.nonzero(steps == -1)
    kept_ends = np.ones(len(ends), dtype=bool)
    kept_ends[np.searchsorted(end_lines, np.flatnonzero(lines[:, 0] & (steps == -1).any(axis=1)))] = False
    kept_starts = np.ones(len(starts), dtype=bool)
    last = np.flatnonzero(lines[:, -1] & (steps == 1).any(axis=1))
    kept_starts[np.searchsorted(start_lines, last, side="right") - 1] = False
    return np.asarray(ends[kept_ends] - starts[kept_starts], dtype=np.int64)


def euler_rows(volumes: Volumes, setting: Setting) -> Iterator[Row]:
    """Euler number per 1000 voxels, so that volumes of different sizes compare; images have none of this kind."""
    found: dict[str, list[float]] = defaultdict(list)
    for labels in volumes():
        for label, name in enumerate(setting.names if labels.ndim == len(AXES) else ()):
            found[name].append(1000 * euler_number(labels == label) / labels.size)
    return (Row(name, np.array(values)) for name, values in found.items())


def lacks_scikit_image(setting: Setting) -> str | None:
    """Advice where scikit-image is not installed."""
    from importlib.util import find_spec

    return None if find_spec("skimage") else not_installed("skimage")


def chord_rows(volumes: Volumes, setting: Setting) -> Iterator[Row]:
    """Mean chord of each phase along each axis; all chords of all volumes count alike."""
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for labels in volumes():
        for label, name in enumerate(setting.names):
            for axis, axis_name in enumerate(AXES[-labels.ndim :]):
                chords = chord_lengths(labels == label, axis)
                found[f"{name} along {axis_name}"].append((int(chords.sum()), len(chords)))

    kept = {of: np.array([one for one in sums if one[1]], dtype=np.float64) for of, sums in found.items()}
    return (Row(of, samples, _mean_chord) for of, samples in kept.items() if len(samples))


def chord_distribution_rows(volumes: Volumes, setting: Setting) -> Iterator[Row]:
    """Share of the chords, of all axes, of 1, 2, 3 … voxels: how far it is from that of the real material.

    The distance is the Wasserstein-1 distance, voxels: how far each chord must be stretched on average. The material's
    chords are those of blocks as large as the volumes, which cut off long chords alike.

    Raises:
        UsageError: there is no real material.
    """
    if setting.real is None:
        raise UsageError(str(lacks_real(setting)))
    shape = next(volumes()).shape
    for label, name in enumerate(setting.names):
        longest = max(setting.real.shape)
        found = [_counts(labels == label, longest) for labels in volumes()]
        reference = np.sum([_counts(block == label, longest) for block in _blocks(setting.real, shape)], axis=0)
        # Every volume of a row must have chords: a draw of the bootstrap may hold one volume alone.
        samples = np.array([counts for counts in found if counts.any()])
        if len(samples) and reference.any():
            yield Row(name, samples, partial(_stretch, reference))


def percolation_rows(volumes: Volumes, setting: Setting) -> Iterator[Row]:
    """Share of the volumes in which a phase connects opposite faces, along each axis; images have none."""
    found: dict[str, list[float]] = defaultdict(list)
    for labels in volumes():
        for label, name in enumerate(setting.names if labels.ndim == len(AXES) else ()):
            along = percolates(labels == label)
            for axis in AXES:
                found[f"{name} along {axis}"].append(float(axis in along))
    return (Row(of, np.array(values)) for of, values in found.items())


def largest_body_rows(volumes: Volumes, setting: Setting) -> Iterator[Row]:
    """Share of a phase's voxels that lie in its largest body, connected through faces: 1 is a phase of one piece."""
    from scipy import ndimage

    found: dict[str, list[float]] = defaultdict(list)
    for labels in volumes():
        for label, name in enumerate(setting.names):
            bodies, count = ndimage.label(labels == label)
            if count:
                sizes = np.bincount(bodies.ravel())[1:]
                found[name].append(float(sizes.max() / sizes.sum()))
    return (Row(name, np.array(values)) for name, values in found.items())


def lacks_real(setting: Setting) -> str | None:
    """Advice where there is no real material but its curves."""
    advice = "it compares with real material: give it with --against, for a report with --reference"
    return advice if setting.real is None else None


def _blocks(labels: Labels, shape: tuple[int, ...]) -> Iterator[Labels]:
    """As many whole blocks of that shape as lie side by side in the array, or in directions too short what there is."""
    sizes = [min(n, size) for n, size in zip(labels.shape, shape[-labels.ndim :], strict=True)]
    for corner in product(*(range(0, n - size + 1, size) for n, size in zip(labels.shape, sizes, strict=True))):
        yield labels[tuple(slice(c, c + size) for c, size in zip(corner, sizes, strict=True))]


def _mean_chord(samples: Floats) -> float:
    total, count = samples.sum(axis=0)
    return float(total / count)


def _counts(indicator: Indicator, longest: int) -> Floats:
    lengths = np.concatenate([chord_lengths(indicator, axis) for axis in range(indicator.ndim)])
    return np.bincount(lengths.clip(max=longest) - 1, minlength=longest).astype(np.float64)


def _stretch(reference: Floats, samples: Floats) -> float:
    """Wasserstein-1 distance of two distributions over lengths 1, 2, 3 …: the area between their cumulative ones."""
    found = samples.sum(axis=0)
    return float(np.abs(np.cumsum(found) / found.sum() - np.cumsum(reference) / reference.sum()).sum())
