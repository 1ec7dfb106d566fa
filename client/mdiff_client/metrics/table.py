"""The table of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from mdiff_client.metrics import correlation, diversity, frechet, mcrpy, morphology, nearest
from mdiff_client.metrics.metric import Measured, Metric, Setting, Volumes, measured
from mdiff_core import UsageError

ALL = "all"
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "radial": Metric("radial S2 error %", correlation.radial_rows, usual=True),
        "axes": Metric("error along an axis %", correlation.axis_rows),
        "chords": Metric("mean chord, voxels", morphology.chord_rows, usual=True),
        "chord-distribution": Metric("distance of the chord distribution, voxels", morphology.chord_distribution_rows),
        "percolation": Metric("share of volumes that percolate", morphology.percolation_rows, usual=True),
        "euler": Metric("Euler number per 1000 voxels", morphology.euler_rows, morphology.lacks_scikit_image),
        "diversity": Metric("voxels that differ between volumes (1: unrelated)", diversity.voxel_rows, usual=True),
        "diversity-s2": Metric("S2 distance between volumes %", diversity.curve_rows, usual=True),
        "memorization": Metric(
            "pixels that differ from the nearest training crop (0: a copy), median",
            nearest.memorization_rows,
            nearest.lacks_training,
        ),
        "pixels": Metric("E_px %, median", nearest.pixel_rows, nearest.lacks_training),
        "three-point": Metric("E_S %, median", mcrpy.three_point_rows, mcrpy.lacks_mcrpy),
        "gram": Metric("E_G %, median", mcrpy.gram_rows, mcrpy.lacks_mcrpy),
        "fid": Metric("FID", frechet.fid_rows, frechet.lacks_extractor),
    }
)
USUAL = tuple(name for name, metric in METRICS.items() if metric.usual)


def parse_metrics(text: str | None) -> tuple[str, ...]:
    """Names of metrics in the order of the table: ``chords,euler``, ``all``, or None for the usual ones.

    Raises:
        UsageError: a name that is not in the table.
    """
    if text is None:
        return USUAL
    asked = text.split(",")
    unknown = [name for name in asked if name not in (*METRICS, ALL)]
    if unknown:
        raise UsageError(f"there is no metric {unknown[0]!r}; the metrics: {', '.join(METRICS)}, {ALL}")
    return tuple(name for name in METRICS if name in asked or ALL in asked)


def unmeasurable(names: Sequence[str], setting: Setting, *, lenient: bool) -> dict[str, str]:
    """Metrics that cannot be measured in a setting, and what each lacks.

    Raises:
        UsageError: there are such, and that is not to be put up with (``lenient``).
    """
    lacks = {name: METRICS[name].lacks(setting) for name in names}
    found = {name: advice for name, advice in lacks.items() if advice is not None}
    if found and not lenient:
        raise UsageError("; ".join(f"metric {name}: {advice}" for name, advice in found.items()))
    return found


def measure(
    names: Sequence[str], volumes: Volumes, floor: Volumes | None, setting: Setting
) -> dict[str, list[Measured]]:
    """Measure volumes, and crops of real material beside them, by name of the metric.

    Raises:
        UsageError, DataError: as the metrics.
    """
    return {name: measured(METRICS[name], volumes, floor, setting) for name in names}
