"""Make the images of three classes that the table of benchmarks/papers.py is measured on where no more are at hand.

    python benchmarks/class_images.py classes/ --superalloy superalloy/
    mdiff-train fit classes/training classes64.safetensors …

``classes/training/CLASS`` is to be trained on, ``classes/held-out/CLASS`` beside that: spheres and grains, 64 sections
of two volumes each, and scanning electron micrographs (those of nickel superalloys in nasa/pretrained-microscopy-models
are meant), at half their size and stretched to the whole range of grey, of whose width the last quarter is held out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from mdiff_core.command import run_app
from mdiff_core.outputs import check_new
from mdiff_images import read_array
from mdiff_training.data.folders import images_in
from mdiff_training.data.grains import grains
from mdiff_training.data.grey import grey_range, scaled
from mdiff_training.data.spheres import spheres

SECTIONS = 64
HELD_OUT = 0.25  # of a micrograph's width

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def make(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    superalloy: Annotated[Path | None, typer.Option(help="Folder of micrographs; none: two classes only.")] = None,
) -> None:
    """Make folders of images by class."""
    check_new(out)
    for seed, part in enumerate(("training", "held-out")):
        for name, volume in (("spheres", spheres(seed=seed)), ("grains", grains(seed=seed))):
            every = len(volume) // SECTIONS
            for index, section in enumerate(volume[::every][:SECTIONS]):
                _write(255 * section, out / part / name / f"{index:03d}.png")
    for path in images_in(superalloy) if superalloy else ():
        image = read_array(path, luminance=True)
        grey = np.rint(127.5 * (scaled(image, grey_range([image])) + 1)).astype(np.uint8)
        half = np.asarray(Image.fromarray(grey).reduce(2))
        width = round(half.shape[1] * (1 - HELD_OUT))
        _write(half[:, :width], out / "training" / "superalloy" / f"{path.stem}.png")
        _write(half[:, width:], out / "held-out" / "superalloy" / f"{path.stem}.png")


def _write(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


if __name__ == "__main__":
    run_app(app)
