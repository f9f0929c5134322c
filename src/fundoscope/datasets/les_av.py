"""LES-AV (Orlando 2018, MICCAI): `images/ vessel-segmentations/ arteries-and-veins/`, and fields in `masks/`."""

from __future__ import annotations

from pathlib import Path

from fundoscope.datasets.drawn_maps import read_drawn
from fundoscope.datasets.files import list_photographs, make_sources, match_by_name
from fundoscope.datasets.record import PhotographSource


def les_av_sources(folder: Path, dataset: str) -> list[PhotographSource]:
    """The photographs with vessels, arteries and veins; the field of view is found where there is no `masks/`."""
    photographs = list_photographs(folder / "images")
    files = {
        "vessel": match_by_name(photographs, folder / "vessel-segmentations"),
        "artery_vein": match_by_name(photographs, folder / "arteries-and-veins"),
    }
    if (folder / "masks").is_dir():
        files["field"] = match_by_name(photographs, folder / "masks", lambda stem: f"{stem}_mask")
    return make_sources(photographs, dataset, read_drawn, **files)
