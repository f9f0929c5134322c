"""Bundles: folders with networks of a few megabytes and a card that describes them.

Reading (`read`, `read_nicking`) and the card need no torch; writing (`write`, `write_nicking`) does.
"""

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
