"""Denoisers: the trained network as a function, in process or behind Triton."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from mdiff_core import ModelContract

Images = npt.NDArray[np.float32]
Steps = npt.NDArray[np.int64]
Fractions = npt.NDArray[np.float32]

REQUEST_BYTES = 2**23
"""The most that the images of one request take: larger ones travel slower (8 MiB in 49 ms, 64 MiB in 1.1 s)."""


class Denoiser(Protocol):
    """A trained network and the contract it keeps."""

    contract: ModelContract
    calls_at_once: int
    """How many calls, made at the same time from several threads, are answered sooner than one after the other."""

    def predict(
        self, x: Images, t: Steps, label: Steps | None = None, fractions: Fractions | None = None
    ) -> tuple[Images, Images | None]:
        """Predict the noise in each image.

        Args:
            x: noisy images [N, C, H, W], any N ≥ 1.
            t: the training step of each image [N], counted from 0.
            label: the class of each image [N], where the contract has classes.
            fractions: the phase fractions told for each image [N, P], -1 for "not told", where the contract has them.

        Returns:
            ``eps`` [N, C, H, W], and ``v`` in [0, 1] of the same shape where the variance is learned, else None.

        Raises:
            UnavailableError: no answer; the same call may succeed later.
            PermanentError: the call was refused and would be refused again.
        """
        ...


def network_inputs(
    contract: ModelContract, x: Images, t: Steps, label: Steps | None, fractions: Fractions | None
) -> dict[str, np.ndarray]:
    """The named inputs of one call as they go to the network: ``t`` and ``label`` as columns [N, 1]."""
    inputs: dict[str, np.ndarray] = {"x": x.astype(contract.io_dtype, copy=False), "t": t.astype(np.int64)[:, None]}
    if label is not None:
        inputs["label"] = label.astype(np.int64)[:, None]
    if fractions is not None:
        inputs["fractions"] = fractions.astype(np.float32, copy=False)
    return inputs


def network_outputs(contract: ModelContract) -> list[str]:
    """Names of the network's outputs."""
    return ["eps", "v"] if contract.prediction == "epsilon+variance" else ["eps"]
