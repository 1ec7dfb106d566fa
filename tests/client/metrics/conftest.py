"""Volumes and settings for tests of metrics."""

import numpy as np
import pytest

from mdiff_client.metrics import Setting


@pytest.fixture
def volumes():
    """Make a sample of volumes: label 1 where an array is not zero, or its labels."""
    return lambda *arrays: lambda: iter([np.asarray(one).astype(np.uint8) for one in arrays])


@pytest.fixture
def setting():
    def make(names=("rest", "active"), edge=16, max_lag=8, real=None, **fields):
        greys = tuple(np.linspace(0, 1, len(names)))
        labels = None if real is None else np.asarray(real).astype(np.uint8)
        return Setting(names=names, greys=greys, edge=edge, max_lag=max_lag, real=labels, **fields)

    return make
