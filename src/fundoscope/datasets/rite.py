"""RITE (Hu 2013, MICCAI): DRIVE with arteries and veins, `training/` or `test/` with `images/ av/ vessel/`.

Its vessels are DRIVE's second observer's in the test part, and a changed first observer's in the training part.
"""

from __future__ import annotations

from pathlib import Path

from fundoscope.datasets.drawn_maps import read_drawn
from fundoscope.datasets.files import list_photographs, make_sources, match_by_name
from fundoscope.datasets.record import PhotographSource


def rite_sources(folder: Path, dataset: str) -> list[PhotographSource]:
    """The photographs of one part with vessels, arteries and veins; the field is DRIVE's where its folder `mask/` was added."""
    photographs = list_photographs(folder / "images")
    files = {
        "artery_vein": match_by_name(photographs, folder / "av"),
        "vessel": match_by_name(photographs, folder / "vessel"),
    }
    if (folder / "mask").is_dir():
        files["field"] = match_by_name(photographs, folder / "mask", lambda stem: f"{stem}_mask")
    return make_sources(photographs, dataset, read_drawn, **files)
