"""Sections of volumes and of training material, squares of one size, to compare as images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from mdiff_client.metrics.metric import Labels, Volumes
from mdiff_core import DataError

_SECTIONS = 24  # of volumes in all: eight from each plane
_VOLUMES = 8
_IMAGES = 64  # as many as Düreth et al. generate of a class


def sections_of(volumes: Volumes, edge: int) -> list[Labels]:
    """Sections [n, edge, edge] of each of up to eight volumes, three or more each and 24 or more in all.

    Evenly spaced along z, y and x, from the middle of each section. Of images the squares in the middle of up to 64.
    """
    first = next(volumes())
    if first.ndim == 2:
        return [planes(image, 1, edge) for image in islice(volumes(), _IMAGES)]
    count = sum(1 for _ in islice(volumes(), _VOLUMES))
    each = -(-_SECTIONS // (3 * count))
    return [planes(labels, each, edge) for labels in islice(volumes(), _VOLUMES)]


def planes(labels: Labels, count: int, edge: int) -> Labels:
    """``count`` sections across each axis of a volume, or of an image the square in its middle: [n, edge, edge]."""
    if labels.ndim == 2:
        return _middle(labels, edge)[None]
    cut = []
    for axis, n in enumerate(labels.shape):
        places = ((np.arange(count) + 0.5) * n / count).astype(int)
        cut += [_middle(labels.take(place, axis), edge) for place in places]
    return np.array(cut)


def random_sections(material: Sequence[Labels], count: int, edge: int, seed: int = 0) -> Labels:
    """``count`` squares [count, edge, edge] from random places and planes of the material.

    Raises:
        DataError: all of it is smaller than that.
    """
    rng = np.random.default_rng(seed)
    faces = [face for labels in material for face in whole_planes(labels) if min(face.shape[1:]) >= edge]
    if not faces:
        raise DataError(f"sections of {edge} pixels cannot be cut: all images are smaller")
    weights = np.array([len(face) for face in faces], dtype=float)
    cut = []
    for face in rng.choice(len(faces), count, p=weights / weights.sum()):
        images = faces[face]
        corner = rng.integers(0, [images.shape[1] - edge + 1, images.shape[2] - edge + 1])
        rows, columns = (slice(c, c + edge) for c in corner)
        cut.append(images[rng.integers(len(images)), rows, columns])
    return np.array(cut)


def whole_planes(labels: Labels) -> list[Labels]:
    """All sections of a volume across z, y and x as [n, H, W] each; an image as [1, H, W]."""
    return [labels[None]] if labels.ndim == 2 else [np.moveaxis(labels, axis, 0) for axis in range(3)]


def _middle(image: Labels, edge: int) -> Labels:
    top, left = ((n - edge) // 2 for n in image.shape)
    return image[top : top + edge, left : left + edge]
