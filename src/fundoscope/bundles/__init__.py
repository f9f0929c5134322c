"""Bundles: a graded network of a few megabytes that says what it is. Reading needs no torch; `write` does."""

from __future__ import annotations

from fundoscope.bundles.card import Attribution, Card, CardFigure, DecisionThreshold, Parity, Stage
from fundoscope.bundles.read import Bundle, find_bundles, locate, open_bundle, verify

__all__ = [
    "Attribution",
    "Bundle",
    "Card",
    "CardFigure",
    "DecisionThreshold",
    "Parity",
    "Stage",
    "find_bundles",
    "locate",
    "open_bundle",
    "verify",
]
