"""Volumes measured beside pieces of real material."""

import numpy as np
import pytest

from mdiff_client.metrics.metric import Metric, Row, measured


@pytest.mark.parametrize(("as_many", "count"), [(True, 3), (False, 25)])
def test_as_many_real_pieces_are_measured_as_the_figure_needs(setting, volumes, as_many, count):
    def number(of, setting):
        yield Row("", np.array([sum(1 for _ in of())]))

    def pieces(asked):
        return iter([np.zeros((4, 4, 4), np.uint8)] * asked)

    metric = Metric("number of volumes", number, as_many=as_many)
    (row,) = measured(metric, volumes(*[np.zeros((4, 4, 4), np.uint8)] * 3), pieces, setting())
    assert (row.value, row.floor) == (3, count)
