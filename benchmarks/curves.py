"""S2 and lineal-path curves of a store beside its training reference, as a picture for docs/results.md.

    python benchmarks/curves.py volumes.zarr curves.png [--floor REAL --phases rest=0+2,active=1]

Needs matplotlib: pip install -e '.[docs]'.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import matplotlib as mpl
import numpy as np
import typer
from matplotlib.axes import Axes

from mdiff_client.evaluation import piece_edge, random_crops, read_labels
from mdiff_client.metrics import PIECES
from mdiff_client.store import VolumeStore
from mdiff_core import Descriptors
from mdiff_core.command import run_app

mpl.use("Agg")
from matplotlib import pyplot as plt


def main(
    volumes: Annotated[Path, typer.Argument()],
    out: Annotated[Path, typer.Argument()],
    floor: Annotated[Path | None, typer.Option(help="Real volume whose crops are drawn too.")] = None,
    phases: Annotated[str | None, typer.Option(help="Its phases and their values.")] = None,
) -> None:
    """Draw the mean curves of the last phase, with the spread over the samples."""
    store = VolumeStore.open(volumes)
    last = len(store.contract.phases) - 1
    name = store.contract.phases[last].name
    reference = store.contract.references[name]
    lag = len(reference.s2) - 1
    sets = {"sampled": [Descriptors.of(store.labels(i) == last, lag) for i in store.complete()]}
    if floor:
        real = read_labels(floor, store.contract, phases)
        sets["real crops"] = [
            Descriptors.of(crop == last, lag) for crop in random_crops(real, piece_edge(store, real), PIECES)
        ]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), constrained_layout=True)
    for axes, field, label in ((left, "s2", "two-point correlation S2"), (right, "lineal_path", "lineal path LP")):
        for colour, (title, samples) in zip(("C0", "C1"), sets.items(), strict=False):
            _band(axes, np.array([getattr(sample, field) for sample in samples]), colour, f"{title} ({len(samples)})")
        axes.plot(getattr(reference, field), "k--", label="training data")
        axes.set(xlabel="lag, voxels", ylabel=label, xlim=(0, lag), ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False)
    figure.suptitle(f"{store.contract.name}: {name}")
    figure.savefig(out, dpi=110)


def _band(axes: Axes, curves: np.ndarray, colour: str, label: str) -> None:
    lags = np.arange(curves.shape[1])
    axes.fill_between(lags, *np.percentile(curves, [10, 90], axis=0), color=colour, alpha=0.2, linewidth=0)
    axes.plot(lags, curves.mean(axis=0), color=colour, label=label)


if __name__ == "__main__":
    run_app(lambda: typer.run(main))
