"""VTI files as DAMASK and VTK read them."""

import dataclasses
import re

import damask
import numpy as np
import pytest
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkIOXML import vtkXMLImageDataReader

from mdiff_client.formats.vti import write_vti


@pytest.fixture
def file(tmp_path, volume):
    write_vti(tmp_path / "rve.vti", volume)
    return tmp_path / "rve.vti"


def test_damask_reads_labels_and_metres(file, volume):
    grid = damask.GeomGrid.load(file)
    assert np.array_equal(grid.material, volume.voxels.transpose())  # [x, y, z] there
    assert np.allclose(grid.size, np.array([7, 6, 5]) * 0.4e-6, rtol=1e-12)
    assert np.array_equal(grid.origin, [0, 0, 0])


def test_damask_reads_which_material_is_which_phase(file):
    assert damask.GeomGrid.load(file).comments[-3:] == ["0: pore", "1: active material", "2: binder"]


def test_vtk_reads_cells_of_the_phases_fractions(file, volume):
    reader = vtkXMLImageDataReader()
    reader.SetFileName(str(file))
    reader.Update()
    image = reader.GetOutput()
    material = vtk_to_numpy(image.GetCellData().GetArray("material"))
    assert image.GetDimensions() == (8, 7, 6)  # points
    assert image.GetSpacing() == (4e-7, 4e-7, 4e-7)
    assert np.array_equal(np.bincount(material), np.bincount(volume.voxels.ravel()))
    assert np.array_equal(material, volume.voxels.ravel())


def test_a_length_known_in_voxels_only_is_kept(tmp_path, volume):
    unknown = dataclasses.replace(volume.contract, voxel_size=1.0, voxel_unit="voxel")
    write_vti(tmp_path / "rve.vti", dataclasses.replace(volume, contract=unknown))
    assert np.allclose(damask.GeomGrid.load(tmp_path / "rve.vti").size, [7, 6, 5])


def test_the_text_is_what_damask_s_own_solver_parses(file):
    """Its VTI.f90 goes line by line: a tag, then its base64 on the next line; types and compressor that it knows."""
    lines = file.read_text().splitlines()
    (tag,) = [number for number, line in enumerate(lines) if line.startswith("<DataArray")]
    assert re.fullmatch(r'<DataArray type="Int32" Name="material" format="binary">', lines[tag])
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", lines[tag + 1])
    assert lines[tag + 2] == "</DataArray>"
    assert 'byte_order="LittleEndian"' in lines[1] and 'compressor="vtkZLibDataCompressor"' in lines[1]
    assert [line.count("<") for line in lines] == [line.count(">") for line in lines]
