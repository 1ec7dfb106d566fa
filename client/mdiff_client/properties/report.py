"""What ``homogenize`` prints: for people, and as JSON for machines."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence

from mdiff_client.markdown import table
from mdiff_client.properties.convergence import Convergence

Found = Mapping[str, Sequence[float | None]]


def properties_json(found: Found, convergences: Sequence[Convergence]) -> str:
    """One JSON object: by key the values of the volumes, their mean and their scatter; and the convergence."""
    return json.dumps(
        {
            "volumes": len(next(iter(found.values()))),
            "properties": {key: {**_summary(values), "values": list(values)} for key, values in found.items()},
            "convergence": [_convergence(one) for one in convergences],
        }
    )


def properties_text(found: Found, convergences: Sequence[Convergence]) -> str:
    """A Markdown table with a row for each key, and for each convergence one with a row for each size."""
    rows = [[key, *(_number(value) for value in _summary(values).values())] for key, values in found.items()]
    text = table([["property", "volumes", "mean", "std", "min", "max"], *rows])
    return "\n\n".join([text, *(_convergence_text(one) for one in convergences)])


def _summary(values: Sequence[float | None]) -> dict[str, float | None]:
    """Of the values that are known: a tortuosity factor may be infinite, and a solver may not converge."""
    known = [value for value in values if value is not None]
    return {
        "count": len(known),
        "mean": statistics.fmean(known) if known else None,
        "std": statistics.stdev(known) if len(known) > 1 else None,
        "min": min(known, default=None),
        "max": max(known, default=None),
    }


def _convergence(of: Convergence) -> dict[str, object]:
    return {
        "property": of.measure.title,
        "tolerance_percent": of.tolerance_percent,
        "representative_edge_voxels": of.representative_edge(),
        "volumes_needed": {key: of.volumes_needed(key) for key in of.measure.headline},
        "sizes": [
            {"edge_voxels": size.edge, **{key: _summary(list(map(float, size.values[key]))) for key in size.values}}
            for size in of.sizes
        ],
    }


def _convergence_text(of: Convergence) -> str:
    keys = of.measure.headline
    rows = [
        [
            str(size.edge),
            str(max(len(values) for values in size.values.values())),
            *(f"{size.mean(key):.4g} ± {size.scatter_percent(key):.1f} %" for key in keys),
        ]
        for size in of.sizes
    ]
    edge, tolerance = of.representative_edge(), f"{of.tolerance_percent:g} %"
    needed = "; ".join(f"{key}: {of.volumes_needed(key) or 'none'}" for key in keys)
    return "\n\n".join(
        [
            f"{of.measure.title}, by size: mean ± standard deviation",
            table([["edge, voxels", "parts", *keys], *rows]),
            f"no size keeps to {tolerance}: not even the whole volumes are large enough to stand alone"
            if edge is None
            else f"from {edge} voxels on, scatter and distance from the mean of whole volumes are at most {tolerance}",
            f"whole volumes for a mean within {tolerance} with 95 % confidence: {needed}",
        ]
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
