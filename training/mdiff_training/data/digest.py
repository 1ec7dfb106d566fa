"""What a network is trained on, told from all else by a few letters."""

from __future__ import annotations

import hashlib

from mdiff_training.data.micrographs import Micrographs


def digest(micrographs: Micrographs) -> str:
    """sha256 over type, shape and pixels of every image, in their order, and the condition of every stack.

    Slices are copied one by one: 25 million voxels in three planes take 0.15 s.
    """
    found = hashlib.sha256()
    for stack in micrographs.stacks:
        found.update(repr((stack.label, stack.fractions)).encode())
        for image in stack.images:
            found.update(f"{image.dtype.str}{image.shape}".encode())
            found.update(image.tobytes())
    return found.hexdigest()
