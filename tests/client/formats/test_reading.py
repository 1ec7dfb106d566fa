"""Volumes from other tools' files."""

import numpy as np
import pytest
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkIOXML import vtkXMLImageDataWriter

from mdiff_client.formats.reading import read_volume
from mdiff_client.formats.volume import Volume
from mdiff_client.formats.vti import write_vti
from mdiff_core import DataError


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 3, (2, 3, 4), dtype=np.uint8)


def test_vti_is_read_as_it_is_written(labels, tmp_path, make_gaussian):
    write_vti(tmp_path / "rve.vti", Volume(labels, make_gaussian().contract, "rve"))
    assert (read_volume(tmp_path / "rve.vti") == labels).all()


def test_vti_of_point_data_is_read(labels, tmp_path):
    image = vtkImageData()
    image.SetDimensions(4, 3, 2)  # points along x, y, z
    values = numpy_to_vtk(labels.ravel(), deep=True)
    values.SetName("phase")
    image.GetPointData().AddArray(values)
    writer = vtkXMLImageDataWriter()
    writer.SetFileName(str(tmp_path / "points.vti"))
    writer.SetInputData(image)
    writer.Write()
    assert (read_volume(tmp_path / "points.vti") == labels).all()


@pytest.mark.parametrize("content", ["", "<VTKFile", "no XML at all"])
def test_a_damaged_vti_is_refused_in_one_line(content, tmp_path, capfd):
    (tmp_path / "bad.vti").write_text(content, encoding="ascii")
    with pytest.raises(DataError, match="cannot be read as VTI"):
        read_volume(tmp_path / "bad.vti")
    assert capfd.readouterr().err == ""


def test_other_files_are_read_as_images_and_volumes_are(labels, tmp_path):
    np.save(tmp_path / "rve.npy", labels)
    assert (read_volume(tmp_path / "rve.npy") == labels).all()
