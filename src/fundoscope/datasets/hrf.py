"""HRF (Budai 2013, Int J Biomed Imaging) with arteries and veins: `images/ av/ mask/`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fundoscope.datasets.drawn_maps import read_drawn
from fundoscope.datasets.files import list_photographs, make_sources, match_by_name
from fundoscope.datasets.record import PhotographRecord, PhotographSource


def hrf_sources(folder: Path, dataset: str) -> list[PhotographSource]:
    """The photographs with field, arteries and veins.

    Green has two meanings in these maps, a crossing and a vessel of unknown kind, and many maps draw one vessel over the other
    at a crossing, without any green. So a record's crossings are not complete (`complete` is false), and its pixels that are
    both artery and vein should not be learnt from.
    """
    photographs = list_photographs(folder / "images")
    maps = match_by_name(photographs, folder / "av")
    fields = match_by_name(photographs, folder / "mask", lambda stem: f"{stem}_mask")
    return make_sources(photographs, dataset, _read, artery_vein=maps, field=fields)


def _read(source: PhotographSource) -> PhotographRecord:
    return replace(read_drawn(source), complete=False)
