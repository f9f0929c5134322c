"""RITE (Hu 2013, MICCAI): DRIVE with arteries and veins, `training/` or `test/` with `images/ av/ vessel/`.

Its vessels are DRIVE's second observer's in the test part, and a changed first observer's in the training part.
"""

from __future__ import annotations

from pathlib import Path

from fundoscope.datasets.drawn_maps import drawn
from fundoscope.datasets.files import partners, photographs, sources
from fundoscope.datasets.record import Source


def rite(folder: Path, dataset: str) -> list[Source]:
    """The photographs of one part; the field of view is DRIVE's where a folder `mask/` was put beside the others."""
    every = photographs(folder / "images")
    files = {"kinds": partners(every, folder / "av"), "vessel": partners(every, folder / "vessel")}
    if (folder / "mask").is_dir():
        files["field"] = partners(every, folder / "mask", lambda stem: f"{stem}_mask")
    return sources(every, dataset, drawn, **files)
