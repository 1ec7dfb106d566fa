"""S2 and LP curves of several sources beside those of the material, as a picture."""

from __future__ import annotations

from pathlib import Path

from mdiff_client.side_by_side import SideBySide
from mdiff_core import DataError


def draw_curves(compared: SideBySide, out: Path) -> None:
    """A row for each phase: S2 on the left and LP on the right, a line for each source, the material dashed.

    Args:
        compared: the sources.
        out: file whose ending says the format: .png, .pdf, .svg.

    Raises:
        DataError: ``out`` cannot be written, or in no such format.
    """
    from matplotlib.figure import Figure  # not pyplot, which would look for a screen

    figure = Figure(figsize=(9, 3.2 * len(compared.references)), layout="constrained")
    rows = figure.subplots(len(compared.references), 2, squeeze=False)
    for (name, reference), row in zip(compared.references.items(), rows, strict=True):
        for axes, curve, title in zip(row, ("s2", "lineal_path"), ("S2", "LP"), strict=True):
            for source, entry in compared.sources.items():
                axes.plot(getattr(entry.curves[name], curve), label=source)
            axes.plot(getattr(reference, curve), "k--", label=compared.reference)
            axes.set(xlabel="lag, voxels", ylabel=f"{title} of {name}", xlim=(0, None), ylim=(0, None))
            axes.spines[["top", "right"]].set_visible(False)
    rows[0][0].legend(frameon=False)
    try:
        figure.savefig(out, dpi=110)
    except (OSError, ValueError) as error:
        raise DataError(f"{out}: cannot be written ({error})") from error
