"""Image formats: what the store holds, labels or grey levels, as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from mdiff_client.formats.volume import Volume

_IMAGEJ_UNITS = {
    "angstrom": "A",
    "nanometer": "nm",
    "micrometer": "um",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "voxel": "pixel",
}


def write_npy(path: Path, volume: Volume) -> None:
    """The array [Z, Y, X]; nothing else fits into the format.

    Raises:
        OSError: ``path`` cannot be written.
    """
    np.save(path, volume.voxels)


def write_tiff(path: Path, volume: Volume) -> None:
    """A stack of slices along z with the voxel's size and unit, as ImageJ writes and reads it.

    Raises:
        OSError: ``path`` cannot be written.
    """
    size, unit = volume.contract.voxel_size, _IMAGEJ_UNITS[volume.contract.voxel_unit]
    tifffile.imwrite(
        path,
        volume.voxels,
        imagej=True,
        resolution=(1 / size, 1 / size),
        metadata={"axes": "ZYX", "spacing": size, "unit": unit, "Info": "\n".join(volume.notes)},
    )


def write_mhd(path: Path, volume: Volume) -> None:
    """A MetaImage header, and beside it the voxels in a file named .raw; lengths in millimetres, as its readers assume.

    Raises:
        OSError: a file cannot be written.
    """
    raw = path.with_suffix(".raw")
    spacing = repr(volume.voxel_size_in("millimeter"))
    header = {
        "ObjectType": "Image",
        "NDims": "3",
        "Comment": "; ".join(volume.notes),
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "Offset": "0 0 0",
        "ElementSpacing": f"{spacing} {spacing} {spacing}",
        "DimSize": " ".join(str(n) for n in reversed(volume.voxels.shape)),
        "ElementType": "MET_UCHAR" if volume.voxels.dtype == np.uint8 else "MET_FLOAT",
        "ElementDataFile": raw.name,
    }
    raw.write_bytes(volume.voxels.astype(volume.voxels.dtype.newbyteorder("<")).tobytes())
    path.write_text("".join(f"{name} = {value}\n" for name, value in header.items()), encoding="utf-8")
