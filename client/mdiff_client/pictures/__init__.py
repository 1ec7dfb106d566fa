"""A volume as one picture, drawn with numpy and Pillow."""

from mdiff_client.pictures.preview import preview

__all__ = ["preview"]
