"""Image formats as numpy, ImageJ's reader in tifffile, VTK's MetaImage reader and ome-zarr read them."""

import dataclasses

import numpy as np
import ome_zarr_models
import pytest
import tifffile
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkIOImage import vtkMetaImageReader

from mdiff_client.formats.images import write_mhd, write_npy, write_tiff
from mdiff_client.formats.ome_zarr import write_ome_zarr


@pytest.fixture(params=["labels", "grey levels"])
def volume(request, make_volume):
    """What a store may hold: labels, or grey levels."""
    labels = make_volume()
    return labels if request.param == "labels" else make_volume(labels.voxels.astype(np.float32) / 3)


def test_npy(tmp_path, volume):
    write_npy(tmp_path / "rve.npy", volume)
    array = np.load(tmp_path / "rve.npy")
    assert array.dtype == volume.voxels.dtype
    assert np.array_equal(array, volume.voxels)


def test_tiff(tmp_path, volume):
    write_tiff(tmp_path / "rve.tiff", volume)
    with tifffile.TiffFile(tmp_path / "rve.tiff") as file:
        assert np.array_equal(file.asarray(), volume.voxels)
        assert file.series[0].axes == "ZYX"
        assert (file.imagej_metadata["spacing"], file.imagej_metadata["unit"]) == (0.4, "um")
        assert "1: active material" in file.imagej_metadata["Info"]
        pixels, units = file.pages[0].tags["XResolution"].value
    assert pixels / units == pytest.approx(2.5)


def test_mhd(tmp_path, volume):
    write_mhd(tmp_path / "rve.mhd", volume)
    reader = vtkMetaImageReader()
    reader.SetFileName(str(tmp_path / "rve.mhd"))
    reader.Update()
    image = reader.GetOutput()
    assert image.GetDimensions() == (7, 6, 5)
    assert image.GetSpacing() == pytest.approx((4e-4, 4e-4, 4e-4))  # millimetres
    voxels = vtk_to_numpy(image.GetPointData().GetScalars())
    assert voxels.dtype == volume.voxels.dtype
    assert np.array_equal(voxels, volume.voxels.ravel())


def test_ome_zarr(tmp_path, volume):
    write_ome_zarr(tmp_path / "rve.ome.zarr", volume)
    (node,) = Reader(parse_url(tmp_path / "rve.ome.zarr"))()
    assert np.array_equal(node.data[0].compute(), volume.voxels)
    assert [(axis["name"], axis["unit"]) for axis in node.metadata["axes"]] == [
        ("z", "micrometer"),
        ("y", "micrometer"),
        ("x", "micrometer"),
    ]
    assert node.metadata["coordinateTransformations"][0][0]["scale"] == [0.4, 0.4, 0.4]


def test_ome_zarr_passes_the_specification_s_models(tmp_path, volume):
    write_ome_zarr(tmp_path / "rve.ome.zarr", volume)
    image = ome_zarr_models.open_ome_zarr(zarr.open_group(tmp_path / "rve.ome.zarr", mode="r"))
    assert image.ome_attributes.version == "0.5"


def test_ome_zarr_tells_what_made_it(tmp_path, volume):
    write_ome_zarr(tmp_path / "rve.zarr", dataclasses.replace(volume, made={"seed": 4}))
    assert zarr.open_group(tmp_path / "rve.zarr", mode="r").attrs["mdiff"] == {"seed": 4}
