"""bfloat16 where it is asked for and pays, float32 elsewhere."""

from pathlib import Path

import pytest
import torch

from mdiff_training import precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("asked", "computes", "dtype"),
    [(True, True, torch.bfloat16), (True, False, torch.float32), (False, True, torch.float32)],
)
def test_the_type_of_a_product(monkeypatch: pytest.MonkeyPatch, asked: bool, computes: bool, dtype: torch.dtype):
    monkeypatch.setattr(precision, "computes_bfloat16", lambda device: computes)
    with precision.autocast(CPU, asked):
        assert (torch.eye(2) @ torch.eye(2)).dtype == dtype


def test_a_processor_is_known_by_its_instructions():
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    if "avx512_bf16" in flags:
        assert precision.computes_bfloat16(CPU)
    elif "avx2" in flags and "avx512f" not in flags:
        assert not precision.computes_bfloat16(CPU)
    else:
        pytest.skip("not known of this processor")
