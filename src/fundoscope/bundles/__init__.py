"""Bundles: a graded network of a few megabytes that says what it is. Reading needs no torch; `write` does."""

from __future__ import annotations

from fundoscope.bundles.card import Card, Figure, OperatingPoint, Parity, Source, Stage
from fundoscope.bundles.read import Bundle, find_bundles, locate, open_bundle, verify

__all__ = [
    "Bundle",
    "Card",
    "Figure",
    "OperatingPoint",
    "Parity",
    "Source",
    "Stage",
    "find_bundles",
    "locate",
    "open_bundle",
    "verify",
]
