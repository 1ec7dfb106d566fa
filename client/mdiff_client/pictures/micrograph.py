"""An image as a greyscale picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from mdiff_core import Phase


def micrograph(image: npt.NDArray[np.uint8] | npt.NDArray[np.float32], phases: Sequence[Phase]) -> Image.Image:
    """Draw labels [H, W] (uint8) in the greys of their phases, or grey levels in [-1, 1] from black to white."""
    if image.dtype == np.uint8:
        return Image.fromarray(np.array([phase.grey for phase in phases], np.uint8)[image])
    return Image.fromarray(np.rint((image + 1) * 127.5).astype(np.uint8))
