"""The type of number that the network computes in."""

from __future__ import annotations

import torch


def autocast(device: torch.device, bf16: bool) -> torch.autocast:
    """Around a forward pass: bfloat16 where it is asked for and ``device`` computes in it, else float32."""
    return torch.autocast(device_type=device.type, dtype=torch.bfloat16, enabled=bf16 and computes_bfloat16(device))


def computes_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is no slower than float32; a CPU with AVX2 alone takes nine times as long over a convolution."""
    if device.type == "cuda":
        computes: bool = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        computes = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    else:
        computes = False
    return computes
