"""Which extra of mdiff installs what, for messages about a package that is missing."""

from __future__ import annotations

EXTRAS = {
    "h5py": "formats",
    "matplotlib": "evaluation",
    "muFFT": "elasticity",
    "muSpectre": "elasticity",
    "onnx": "export",
    "onnxscript": "export",
    "pyarrow": "parquet",
    "s3fs": "s3",
    "safetensors": "training",
    "skimage": "evaluation",
    "taufactor": "properties",
    "torch": "training",
    "torch_fidelity": "fid",
    "vtkmodules": "evaluation",
    "xarray": "xarray",
}
"""The extra, by the name that its module is imported by."""


def install(extras: str) -> str:
    """How to install extras, ``s3`` or ``s3,xarray``; by name alone pip would take another project's package."""
    return f"pip install '.[{extras}]' in a checkout of mdiff"


def not_installed(module: str) -> str:
    """What to say of a module that cannot be imported."""
    extra = EXTRAS.get(module.partition(".")[0])
    return f"{module} is not installed: {install(extra) if extra else 'the README, Installing, names the extra'}"
