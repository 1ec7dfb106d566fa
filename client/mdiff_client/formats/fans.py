"""HDF5 and JSON input of FANS, the Fourier-accelerated nodal solver (github.com/DataAnalyticsEngineering/FANS).

FANS reads uint8 labels in the order [x, y, z] (``src/reader.cpp``) and takes the volume as periodic along all axes.
"""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np

from mdiff_client.formats.volume import Volume

_DATASET = "/ms"
_STRAIN = 1e-3


def write_fans(path: Path, volume: Volume) -> None:
    """Phase labels in ``path``, and beside it, named .json, an input that asks for the homogenized stiffness.

    Without elastic constants the input has null in their place, which FANS refuses.

    Raises:
        OSError: a file cannot be written.
    """
    labels = np.ascontiguousarray(volume.voxels.transpose())
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(_DATASET, data=labels)
        dataset.attrs.update(
            title=volume.title,
            phases=list(volume.phases),
            voxel_size=volume.contract.voxel_size,
            voxel_unit=volume.contract.voxel_unit,
        )
    # FANS counts phases by the largest label, and wants constants of as many.
    constants = (volume.elastic or (None,) * len(volume.phases))[: int(labels.max()) + 1]
    content = {
        "microstructure": {
            "filepath": path.name,
            "datasetname": _DATASET,
            "L": [n * volume.contract.voxel_size for n in labels.shape],
        },
        "problem_type": "mechanical",
        "strain_type": "small",
        "matmodel": "LinearElasticIsotropic",
        "material_properties": {
            "bulk_modulus": [one and one.bulk for one in constants],
            "shear_modulus": [one and one.shear for one in constants],
        },
        "method": "cg",
        "error_parameters": {"measure": "Linfinity", "type": "relative", "tolerance": 1e-8},
        "n_it": 1000,
        "macroscale_loading": [[[_STRAIN, 0, 0, 0, 0, 0]]],
        "results": ["homogenized_tangent", "stress_average", "strain_average"],
    }
    path.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
