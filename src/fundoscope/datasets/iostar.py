"""IOSTAR's vessel set as its makers hand it out (Zhang 2016, IEEE TMI 35:2631): `image/ GT/`, and `mask/ AV_GT/`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fundoscope.datasets.drawn_maps import read_drawn
from fundoscope.datasets.files import list_photographs, make_sources, match_by_name
from fundoscope.datasets.points import point_files, read_points
from fundoscope.datasets.record import PhotographRecord, PhotographSource

_FOLDERS = {"vessel": ("GT", "_GT"), "artery_vein": ("AV_GT", "_AV"), "field": ("mask", "_Mask")}


def iostar_sources(folder: Path, dataset: str) -> list[PhotographSource]:
    """The photographs, 1024 px wide, with vessels and, as far as their folders are there, arteries, veins and field.

    Points are read from `<photograph>_JunctionsPos.mat` below `folder`. Those of the 565 px release are in another
    frame, and are refused: they go with the photographs of their own release, in the layout `junctions`.
    """
    photographs = list_photographs(folder / "image")
    files = {
        kind: match_by_name(photographs, folder / name, lambda stem, end=end: stem + end)
        for kind, (name, end) in _FOLDERS.items()
        if (folder / name).is_dir()
    }
    return make_sources(photographs, dataset, _read, points=point_files(photographs, folder, may_lack=True), **files)


def _read(source: PhotographSource) -> PhotographRecord:
    record = replace(read_drawn(source), complete=False)  # the maps need not draw each crossing in a colour of its own
    if "points" not in source.files:
        return record
    points = read_points(source.files["points"], record.field)
    return replace(record, artery_widths=None, vein_widths=None, complete=True, **points)
