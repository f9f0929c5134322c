"""Sets whose vessels two observers drew, arteries and veins not told apart; the first observer is the truth here.

STARE (Hoover 2000, IEEE TMI 19:203): `images/ vessel_ah/ vessel_vk/`, as some copies have it. CHASE_DB1 (Fraz 2012, IEEE TBME
59:2538): `images/ vessel_1/ vessel_2/`; its photographs are the left and the right eyes of children, and a child is one group.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fundoscope.datasets.drawn_maps import read_drawn
from fundoscope.datasets.files import list_photographs, make_sources, match_by_name
from fundoscope.datasets.record import PhotographSource


def stare_sources(folder: Path, dataset: str) -> list[PhotographSource]:
    """The photographs with the vessels of the first observer; the field of view is found."""
    photographs = list_photographs(folder / "images")
    return make_sources(photographs, dataset, read_drawn, vessel=match_by_name(photographs, folder / "vessel_ah"))


def chase_sources(folder: Path, dataset: str) -> list[PhotographSource]:
    """The photographs with the vessels of the first observer; `Image_01L` and `Image_01R` are the group `Image_01`."""
    photographs = list_photographs(folder / "images")
    sources = make_sources(photographs, dataset, read_drawn, vessel=match_by_name(photographs, folder / "vessel_1"))
    return [replace(source, group=source.name.rstrip("LR")) for source in sources]
