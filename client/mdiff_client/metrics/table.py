"""The table of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from mdiff_client.metrics import correlation, diversity, frechet, mcrpy, morphology, nearest
from mdiff_client.metrics.metric import Measured, Metric, RealPieces, Setting, Volumes, measured
from mdiff_core import UsageError

ALL = "all"
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "radial": Metric("radial S2 error %", correlation.radial_rows, usual=True),
        "axes": Metric("error along an axis %", correlation.axis_rows),
        "chords": Metric("mean chord, voxels", morphology.chord_rows, usual=True),
        "chord-distribution": Metric(
            "distance of the chord distribution, voxels", morphology.chord_distribution_rows, morphology.lacks_real
        ),
        "percolation": Metric("share of volumes that percolate", morphology.percolation_rows, usual=True),
        "largest-body": Metric("share of a phase in its largest body", morphology.largest_body_rows),
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
        "fid": Metric("FID", frechet.fid_rows, frechet.lacks_extractor, as_many=True),
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


def measure(
    names: Sequence[str], volumes: Volumes, real: RealPieces | None, setting: Setting, *, lenient: bool
) -> tuple[dict[str, list[Measured]], dict[str, str]]:
    """Measure volumes, and pieces of real material beside them.

    Args:
        names: of the metrics.
        volumes: as the metrics take them.
        real: pieces of real material, if there is any.
        setting: what the volumes are measured with.
        lenient: tell what a metric lacks, instead of refusing it.

    Returns: what was measured, and what the others lack, each by the name of the metric.

    Raises:
        UsageError: a metric lacks something, which is said before anything is measured.
        DataError: as the metrics.
    """
    lacks = {name: METRICS[name].lacks(setting) for name in names}
    lacking = {name: advice for name, advice in lacks.items() if advice is not None}
    if lacking and not lenient:
        raise UsageError("; ".join(f"metric {name}: {advice}" for name, advice in lacking.items()))
    found = {name: measured(METRICS[name], volumes, real, setting) for name in names if name not in lacking}
    return found, lacking
