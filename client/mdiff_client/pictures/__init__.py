"""Volumes and images as pictures, drawn with numpy and Pillow."""

from mdiff_client.pictures.micrograph import micrograph
from mdiff_client.pictures.preview import preview

__all__ = ["micrograph", "preview"]
