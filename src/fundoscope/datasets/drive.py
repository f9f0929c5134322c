"""DRIVE (Staal 2004, IEEE TMI 23:501) as handed out: `training/` or `test/` with `images/ mask/ 1st_manual/`."""

from __future__ import annotations

from pathlib import Path

from fundoscope.datasets.drawn_maps import drawn
from fundoscope.datasets.files import partners, photographs, sources
from fundoscope.datasets.record import Source


def drive(folder: Path, dataset: str) -> list[Source]:
    """The photographs of one part, with their field, and with the vessels of the first observer where it holds them:
    the test part is also handed out without. Arteries, veins and crossings are not known here.
    """
    every = photographs(folder / "images")
    files = {"field": partners(every, folder / "mask", lambda stem: f"{stem}_mask")}
    if (folder / "1st_manual").is_dir():
        files["vessel"] = partners(every, folder / "1st_manual", lambda stem: f"{stem.partition('_')[0]}_manual1")
    return sources(every, dataset, drawn, **files)
