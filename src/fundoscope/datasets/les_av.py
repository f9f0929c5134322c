"""LES-AV (Orlando 2018, MICCAI): `images/ vessel-segmentations/ arteries-and-veins/`, and fields in `masks/`."""

from __future__ import annotations

from pathlib import Path

from fundoscope.datasets.drawn_maps import drawn
from fundoscope.datasets.files import partners, photographs, sources
from fundoscope.datasets.record import Source


def les_av(folder: Path, dataset: str) -> list[Source]:
    """The photographs with vessels, arteries and veins; the field of view is found where there is no `masks/`."""
    every = photographs(folder / "images")
    files = {
        "vessel": partners(every, folder / "vessel-segmentations"),
        "kinds": partners(every, folder / "arteries-and-veins"),
    }
    if (folder / "masks").is_dir():
        files["field"] = partners(every, folder / "masks", lambda stem: f"{stem}_mask")
    return sources(every, dataset, drawn, **files)
