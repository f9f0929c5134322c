"""LES-AV (Orlando 2018, MICCAI): `images/ vessel-segmentations/ arteries-and-veins/`, and fields in `masks/`; or, as some
copies have it, `images/ av/ mask/`.
"""

from __future__ import annotations

from pathlib import Path

from fundoscope.datasets.drawn_maps import read_drawn
from fundoscope.datasets.files import list_photographs, make_sources, match_by_name
from fundoscope.datasets.record import PhotographSource


def les_av_sources(folder: Path, dataset: str) -> list[PhotographSource]:
    """The photographs with arteries and veins, and with vessels where these lie apart (else they are all that the maps
    draw); the field of view is found where there is no folder of masks.
    """
    photographs = list_photographs(folder / "images")
    maps, fields = (("av", "mask"), ("arteries-and-veins", "masks"))[(folder / "arteries-and-veins").is_dir()]
    files = {"artery_vein": match_by_name(photographs, folder / maps)}
    if (folder / "vessel-segmentations").is_dir():
        files["vessel"] = match_by_name(photographs, folder / "vessel-segmentations")
    if (folder / fields).is_dir():
        files["field"] = match_by_name(photographs, folder / fields, lambda stem: f"{stem}_mask")
    return make_sources(photographs, dataset, read_drawn, **files)
