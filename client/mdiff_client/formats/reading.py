"""Volumes from files that other tools wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from mdiff_core import DataError
from mdiff_images import read_array

VTI = ".vti"


def read_volume(path: Path, raw_shape: tuple[int, ...] | None = None) -> npt.NDArray[np.generic]:
    """Read labels or grey levels from VTK image data (.vti), or whatever :func:`mdiff_images.read_array` reads.

    Of VTK image data the scalars of its cells, where there are none those of its points, as [Z, Y, X].

    Args:
        path: file.
        raw_shape: shape of a RAW file.

    Raises:
        DataError: the file is absent, damaged, or holds no such array.
        UsageError: a RAW file without its shape.
    """
    if path.suffix.lower() != VTI:
        return read_array(path, raw_shape=raw_shape)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkObject
    from vtkmodules.vtkIOXML import vtkXMLImageDataReader

    warned = vtkObject.GetGlobalWarningDisplay()
    vtkObject.SetGlobalWarningDisplay(0)  # one line tells it below
    try:
        reader = vtkXMLImageDataReader()
        reader.SetFileName(str(path))
        reader.Update()
    finally:
        vtkObject.SetGlobalWarningDisplay(warned)
    image = reader.GetOutput()
    points = image.GetDimensions()
    for data, shape in ((image.GetCellData(), [n - 1 for n in points]), (image.GetPointData(), points)):
        scalars = data.GetScalars() or data.GetArray(0)
        if scalars is not None and scalars.GetNumberOfComponents() == 1 and scalars.GetNumberOfTuples():
            values = vtk_to_numpy(scalars)  # type: ignore[no-untyped-call]
            return np.asarray(values).reshape(tuple(shape)[::-1])
    raise DataError(f"{path}: cannot be read as VTI, or holds no array with one value for each voxel")
