"""DRIVE (Staal 2004, IEEE TMI 23:501) as handed out: `training/` or `test/` with `images/ mask/ 1st_manual/`."""

from __future__ import annotations

from pathlib import Path

from fundoscope.datasets.drawn_maps import read_drawn
from fundoscope.datasets.files import list_photographs, make_sources, match_by_name
from fundoscope.datasets.record import PhotographSource


def drive_sources(folder: Path, dataset: str) -> list[PhotographSource]:
    """The photographs of one part with their fields, and the vessels of the first observer where the part holds them: the test
    part is also distributed without. Arteries, veins and crossings are unknown.
    """
    photographs = list_photographs(folder / "images")
    files = {"field": match_by_name(photographs, folder / "mask", lambda stem: f"{stem}_mask")}
    if (folder / "1st_manual").is_dir():
        files["vessel"] = match_by_name(
            photographs, folder / "1st_manual", lambda stem: f"{stem.partition('_')[0]}_manual1"
        )
    return make_sources(photographs, dataset, read_drawn, **files)
