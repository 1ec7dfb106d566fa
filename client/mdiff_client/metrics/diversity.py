"""How different the volumes of one run are from each other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, islice

import numpy as np

from mdiff_client.metrics.metric import Row, Setting, Volumes
from mdiff_client.metrics.sections import planes
from mdiff_core.descriptors import Descriptors

_VOLUMES = 100  # the first ones: 4950 pairs


def voxel_rows(volumes: Volumes, setting: Setting) -> Iterator[Row]:
    """Share of the voxels in which two volumes differ, in the section across the middle of each axis.

    Over the share in which unrelated ones of the same phase fractions differ: 1 is unrelated, 0 the same volume
    again. The mean over the pairs of samples of a distance between them is how Zhu et al., Toward Multimodal
    Image-to-Image Translation (NeurIPS 2017), section 5.2, measure diversity; Düreth et al. (footnote 2) know no
    measure that is established.
    """
    cut = [planes(labels, 1, setting.edge) for labels in islice(volumes(), _VOLUMES)]
    fractions = np.mean([[np.mean(one == label) for label in range(len(setting.names))] for one in cut], axis=0)
    unrelated = 1 - float(np.sum(fractions**2))
    distances = np.array([np.mean(a != b) / unrelated for a, b in combinations(cut, 2)]) if unrelated else np.array([])
    if len(distances):
        yield Row("", distances, independent=False)


def curve_rows(volumes: Volumes, setting: Setting) -> Iterator[Row]:
    """Area between the S2 curves of two volumes over that under the mean of all, per cent; the mean over the pairs.

    Of the section across the middle of each axis, so that images scatter as volumes do.
    """
    cut = [planes(labels, 1, setting.edge) for labels in islice(volumes(), _VOLUMES)]
    for label, name in enumerate(setting.names):
        curves = np.array(
            [[Descriptors.of(section == label, setting.max_lag).s2 for section in sections] for sections in cut]
        )
        if len(curves) > 1 and curves.any():
            area = np.trapezoid(curves.mean(axis=(0, 1)))
            between = [np.trapezoid(np.abs(a - b)).mean() for a, b in combinations(curves, 2)]
            yield Row(name, 100 * np.array(between) / area, independent=False)
