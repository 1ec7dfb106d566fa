"""How near sampled images are to the images that the model learned from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mdiff_client.evaluation import Comparison, compare
from mdiff_client.sampling import UNCONDITIONAL, Condition
from mdiff_core import Descriptors, ModelContract
from mdiff_core.contract import AXES, PLANES


class ImageStatistics:
    """Descriptors of images as they come, for each phase of which the contract has reference curves.

    Args:
        contract: of the model.
        condition: what the images were asked to be; images of a plane are held against the axes within it.
    """

    def __init__(self, contract: ModelContract, condition: Condition = UNCONDITIONAL) -> None:
        self._contract = contract
        self._references = _references(contract, condition)
        self._samples: dict[str, list[Descriptors]] = {name: [] for name in self._references}

    def add(self, labels: npt.NDArray[np.uint8]) -> None:
        """Measure images of phase labels [N, H, W]."""
        for name, samples in self._samples.items():
            max_lag = len(self._references[name].s2) - 1
            samples += [Descriptors.of(image == self._contract.phase_label(name), max_lag) for image in labels]

    def comparisons(self) -> dict[str, Comparison]:
        """The images so far beside their reference, by phase."""
        return {name: compare(samples, self._references[name]) for name, samples in self._samples.items()}


def _references(contract: ModelContract, condition: Condition) -> Mapping[str, Descriptors]:
    """The mean over the axes that lie in a plane of this label; over all axes where none has it."""
    label = condition.label
    normals = [axis for axis, plane in enumerate(PLANES) if label is not None and contract.planes.get(plane) == label]
    within = [AXES[axis] for normal in normals for axis in range(3) if axis != normal]
    if not within or not contract.references_along:
        return contract.references_at(condition.fractions) if contract.phases else {}
    along = [contract.references_along[axis] for axis in within]
    return {name: Descriptors.mean([of[name] for of in along]) for name in along[0]}
