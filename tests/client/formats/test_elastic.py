"""Elastic constants of the phases."""

import pytest

from mdiff_client.formats import Elastic, parse_elastic
from mdiff_core import UsageError


def test_constants_are_ordered_by_the_phases_labels(volume):
    texts = ["binder=2,0.35", "pore=1e-3,0.2", "active material = 140 , 0.3"]
    assert parse_elastic(texts, volume.contract) == (Elastic(1e-3, 0.2), Elastic(140, 0.3), Elastic(2, 0.35))
    assert parse_elastic([], volume.contract) == ()


def test_moduli():
    steel = Elastic(210.0, 0.3)
    assert steel.bulk == pytest.approx(175.0)
    assert steel.shear == pytest.approx(80.769, rel=1e-4)


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["pore"], "say PHASE=E,nu"),
        (["pore=1"], "say PHASE=E,nu"),
        (["pore=one,0.3"], "say PHASE=E,nu"),
        (["pore=nan,0.3"], "must be above 0"),
        (["pore=0,0.3"], "must be above 0"),
        (["pore=1,0.5"], "Poisson's ratio"),
        (["glass=1,0.3"], "no phase 'glass'"),
        (["pore=1,0.3", "pore=2,0.3"], "given twice"),
        (["pore=1,0.3"], "active material, binder are missing"),
    ],
)
def test_bad_constants_are_refused(volume, texts, complaint):
    with pytest.raises(UsageError, match=complaint):
        parse_elastic(texts, volume.contract)
