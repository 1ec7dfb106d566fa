"""HDF5 and JSON as FANS reads them: labels [x, y, z], input of the documented keys."""

import json

import h5py
import numpy as np
import pytest

from mdiff_client.formats.fans import write_fans


@pytest.fixture
def read(tmp_path):
    """What FANS would find: (labels, input)."""

    def write_and_read(volume):
        write_fans(tmp_path / "rve.h5", volume)
        content = json.loads((tmp_path / "rve.json").read_text())
        with h5py.File(tmp_path / content["microstructure"]["filepath"]) as file:
            return file[content["microstructure"]["datasetname"]][:], content

    return write_and_read


def test_labels_come_in_the_order_xyz(read, volume):
    labels, content = read(volume)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, volume.voxels.transpose())
    assert content["microstructure"]["L"] == pytest.approx([7 * 0.4, 6 * 0.4, 5 * 0.4])


def test_elastic_constants_become_moduli_by_label(read, volume):
    properties = read(volume)[1]["material_properties"]
    assert properties["bulk_modulus"][1] == pytest.approx(140 / (3 * 0.4))
    assert properties["shear_modulus"] == pytest.approx([1e-3 / 2.4, 140 / 2.6, 2 / 2.7])


def test_without_constants_there_is_no_number_to_run_with(read, make_volume):
    content = read(make_volume(elastic=()))[1]
    assert content["material_properties"] == {"bulk_modulus": [None] * 3, "shear_modulus": [None] * 3}


def test_constants_are_as_many_as_fans_counts_phases(read, make_volume):
    """It counts up to the largest label, and refuses more constants than that."""
    labels, content = read(make_volume(np.minimum(make_volume().voxels, 1)))
    assert len(content["material_properties"]["bulk_modulus"]) == labels.max() + 1 == 2


def test_the_file_tells_what_the_labels_are(tmp_path, volume):
    write_fans(tmp_path / "rve.h5", volume)
    with h5py.File(tmp_path / "rve.h5") as file:
        attributes = dict(file["ms"].attrs)
    assert list(attributes["phases"]) == ["pore", "active material", "binder"]
    assert (attributes["voxel_size"], attributes["voxel_unit"]) == (0.4, "micrometer")
