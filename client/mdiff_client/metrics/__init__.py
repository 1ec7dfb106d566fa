"""Metrics of volumes beside S2 and LP, a module for each family; :mod:`mdiff_client.metrics.table` lists them."""

from mdiff_client.metrics.metric import PIECES, Measured, RealPieces, Setting, Tools, Volumes, training_images
from mdiff_client.metrics.table import ALL, METRICS, USUAL, measure, parse_metrics

__all__ = [
    "ALL",
    "METRICS",
    "PIECES",
    "USUAL",
    "Measured",
    "RealPieces",
    "Setting",
    "Tools",
    "Volumes",
    "measure",
    "parse_metrics",
    "training_images",
]
