"""Micrographs and volumes from files: reading TIFF, NPY and RAW, and selecting the phases to work with."""

from mdiff_images.files import parse_crop, parse_shape, read_array
from mdiff_images.phases import Phases, group_phases, parse_phases

__all__ = ["Phases", "group_phases", "parse_crop", "parse_phases", "parse_shape", "read_array"]
