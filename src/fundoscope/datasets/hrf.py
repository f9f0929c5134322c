"""HRF (Budai 2013, Int J Biomed Imaging) with arteries and veins: `images/ av/ mask/`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fundoscope.datasets.drawn_maps import drawn
from fundoscope.datasets.files import partners, photographs, sources
from fundoscope.datasets.record import Record, Source


def hrf(folder: Path, dataset: str) -> list[Source]:
    """The photographs with field, arteries and veins.

    Green means two things in these maps, a crossing and a vessel of unknown kind, and many of the maps draw one vessel
    over the other where they cross, without any green. So the crossings of a record are crossings, but not all of
    them: `complete` is false. Nor are pixels that are both artery and vein to be learnt from.
    """
    every = photographs(folder / "images")
    kinds = partners(every, folder / "av")
    fields = partners(every, folder / "mask", lambda stem: f"{stem}_mask")
    return sources(every, dataset, _read, kinds=kinds, field=fields)


def _read(source: Source) -> Record:
    return replace(drawn(source), complete=False)
