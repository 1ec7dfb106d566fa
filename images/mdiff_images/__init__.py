"""Micrographs and volumes from files: reading TIFF, NPY and RAW, and selecting the phases to work with."""

from mdiff_images.files import parse_crop, parse_shape, read_array
from mdiff_images.phases import group_phases

__all__ = ["group_phases", "parse_crop", "parse_shape", "read_array"]
