"""Picture of a property against the size of the volumes, and of its distribution over whole ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from mdiff_client.properties.convergence import Convergence
from mdiff_core import DataError, ModelContract

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(convergences: Sequence[Convergence], contract: ModelContract, out: Path) -> None:
    """A row for each measure: mean and standard deviation at every size, and a histogram of whole volumes.

    Args:
        convergences: of the measures.
        contract: tells the voxel's size and unit.
        out: file whose ending says the format: .png, .pdf, .svg.

    Raises:
        DataError: ``out`` cannot be written, or in no such format.
    """
    # Not pyplot, which would look for a screen.
    from matplotlib.figure import Figure

    known = "" if contract.voxel_unit == "voxel" else f" of {contract.voxel_size:g} {contract.voxel_unit}"
    figure = Figure(figsize=(9, 3.4 * len(convergences)), layout="constrained")
    rows = figure.subplots(len(convergences), 2, squeeze=False, width_ratios=(2, 1))
    for convergence, (left, right) in zip(convergences, rows, strict=True):
        _sizes(left, convergence)
        _distribution(right, convergence)
        left.set(xlabel=f"edge, voxels{known}")
    try:
        figure.savefig(out, dpi=110)
    except (OSError, ValueError) as error:
        raise DataError(f"{out}: cannot be written ({error})") from error


def _sizes(axes: Axes, convergence: Convergence) -> None:
    sizes = convergence.sizes
    step = min((b.edge - a.edge for a, b in pairwise(sizes)), default=1)
    for n, key in enumerate(convergence.measure.headline):
        edges = [size.edge + (n - 1) * step / 8 for size in sizes]  # beside each other, not over
        means, stds = [size.mean(key) for size in sizes], [size.std(key) for size in sizes]
        axes.errorbar(edges, means, stds, color=f"C{n}", marker="o", capsize=3, label=_short(key, convergence))
    edge = convergence.representative_edge()
    kept = f"within {convergence.tolerance_percent:g} %"
    if edge is None:
        axes.set_title(f"no size is {kept}", fontsize="medium")
    else:
        axes.axvspan(edge, sizes[-1].edge + step / 4, color="0.9", zorder=0)
        axes.set_title(f"{kept} from {edge} voxels", fontsize="medium")
    axes.set(ylabel=convergence.measure.title.replace(", ", ",\n"), xticks=[size.edge for size in sizes])
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _distribution(axes: Axes, convergence: Convergence) -> None:
    from matplotlib.ticker import MaxNLocator

    whole = convergence.sizes[-1]
    found = [whole.values[key] for key in convergence.measure.headline]
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.hist(found, color=[f"C{n}" for n in range(len(found))])
    axes.set(xlabel=convergence.measure.title.split(",")[0], ylabel="volumes")
    axes.set_title(f"{max(map(len, found))} whole volumes", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)


def _short(key: str, convergence: Convergence) -> str:
    """What tells the curves of one panel apart: ``z`` of ``effective_diffusivity_active_z``."""
    ends = [other.rpartition("_") for other in convergence.measure.headline]
    alike = len({start for start, _, _ in ends}) == 1
    return key.rpartition("_")[2] if alike else key.replace("_", " ")
