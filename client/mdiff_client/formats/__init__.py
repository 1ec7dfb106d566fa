"""Writers of solver and image formats: each takes a path and a :class:`Volume`."""

from mdiff_client.formats.elastic import Elastic, parse_elastic
from mdiff_client.formats.export import Exporter
from mdiff_client.formats.registry import FORMATS, Format, format_named, format_of
from mdiff_client.formats.volume import METRES, Volume

__all__ = [
    "FORMATS",
    "METRES",
    "Elastic",
    "Exporter",
    "Format",
    "Volume",
    "format_named",
    "format_of",
    "parse_elastic",
]
