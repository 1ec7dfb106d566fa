"""VTK image data (.vti) as DAMASK's grid solver reads it, which VTK and ParaView open too.

DAMASK (its ``VTI.f90``) reads the file line by line: each tag on one line, an array's base64 on the line after its tag,
little endian, Int32, Int64, Float32 or Float64, zlib or nothing.
"""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

import numpy as np

from mdiff_client.formats.volume import Volume


def write_vti(path: Path, volume: Volume) -> None:
    """Phase labels as cell data ``material`` (Int32, x fastest), lengths in metres, the notes as ``comments``.

    A voxel whose length is not known is 1 long.

    Raises:
        OSError: ``path`` cannot be written.
    """
    z, y, x = volume.voxels.shape
    extent, spacing = f"0 {x} 0 {y} 0 {z}", " ".join([repr(volume.voxel_size_in("meter"))] * 3)
    comments = b"".join(note.encode() + b"\0" for note in volume.notes)
    lines = [
        '<?xml version="1.0"?>',
        '<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian" header_type="UInt64" '
        'compressor="vtkZLibDataCompressor">',
        f'<ImageData WholeExtent="{extent}" Origin="0 0 0" Spacing="{spacing}" Direction="1 0 0 0 1 0 0 0 1">',
        "<FieldData>",
        f'<Array type="String" Name="comments" NumberOfTuples="{len(volume.notes)}" format="binary">',
        _encoded(comments),
        "</Array>",
        "</FieldData>",
        f'<Piece Extent="{extent}">',
        '<CellData Scalars="material">',
        '<DataArray type="Int32" Name="material" format="binary">',
        _encoded(volume.voxels.astype("<i4").tobytes()),
        "</DataArray>",
        "</CellData>",
        "</Piece>",
        "</ImageData>",
        "</VTKFile>",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def _encoded(content: bytes) -> str:
    """One compressed block after its header: number of blocks, size of one, of a partial last one, compressed sizes."""
    block = zlib.compress(content)
    header = np.array([1, len(content), 0, len(block)], "<u8").tobytes()
    return (base64.b64encode(header) + base64.b64encode(block)).decode("ascii")
