"""Marked junctions (Abbasi-Sureshjani 2016, ISBI): `images/`, and `<photograph>_JunctionsPos.mat` in any folder below.

IOSTAR's photographs of this release are 565 pixels wide, cut to the field with a black margin; the points are in that frame.
Where the originals lie in `images_1024/`, and vessels drawn in their frame at any size in `vessel_512/` (`GT_<number>`, for
some photographs only), the vessels are transformed to the frame of the points.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.datasets.drawn_maps import read_mask
from fundoscope.datasets.files import list_photographs, make_sources, match_by_name
from fundoscope.datasets.points import point_files, read_points
from fundoscope.datasets.record import Mask, PhotographRecord, PhotographSource
from fundoscope.errors import PhotographError
from fundoscope.imaging import Pixels, find_field, read

_ALIKE = 0.98  # correlation of a photograph with its original laid over it; the right ones reach 0.999


def junctions_sources(folder: Path, dataset: str) -> list[PhotographSource]:
    """The photographs with crossings, bifurcations and endpoints, and with vessels where these were drawn. Arteries and veins
    are not distinguished.
    """
    photographs = list_photographs(folder / "images")
    files = {"points": point_files(photographs, folder)}
    if (folder / "vessel_512").is_dir():
        files["vessel"] = match_by_name(photographs, folder / "vessel_512", _drawing_name, may_lack=True)
        files["original"] = match_by_name(photographs, folder / "images_1024")
    return make_sources(photographs, dataset, _read, **files)


def _drawing_name(stem: str) -> str:
    return f"GT_{stem.rpartition('_')[2]}"


def _read(source: PhotographSource) -> PhotographRecord:
    pixels = read(source.path).pixels
    field = find_field(pixels).mask()
    points = read_points(source.files["points"], field)
    vessel = _transform_vessels(source, pixels) if "vessel" in source.files else None
    return source.record(field, vessel=vessel, **points)


def _transform_vessels(source: PhotographSource, pixels: Pixels) -> Mask:
    """The vessels drawn in the original's frame, transformed to the photograph's."""
    original, mask = read(source.files["original"]).pixels, read_mask(source.files["vessel"])
    to_original = _register(source, pixels, original)
    step = mask.shape[1] / original.shape[1]
    to_drawing = np.column_stack([to_original[:, :2], to_original[:, 2] + 0.5]) * step - [0, 0, 0.5]  # pixel centres
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (pixels.shape[1], pixels.shape[0])
    return cv2.warpAffine(mask.astype(np.float32), to_drawing, size, flags=flags) > 0.5


def _register(source: PhotographSource, pixels: Pixels, original: Pixels) -> NDArray[np.float64]:
    """The affine map (2, 3) from (column, row) of a photograph to its original: aligned by their fields, then refined to the
    highest correlation (Evangelidis 2008, IEEE TPAMI 30:1858). Raises `PhotographError` where the two differ.
    """
    here, there = find_field(pixels), find_field(original)
    zoom = there.radius / here.radius
    start = np.array([[zoom, 0, there.column - zoom * here.column], [0, zoom, there.row - zoom * here.row]], np.float32)
    pair = [cv2.GaussianBlur(p[..., 1], (0, 0), sigma) for p, sigma in ((pixels, 1.0), (original, zoom))]
    everywhere = np.full(original.shape[:2], 255, np.uint8)
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-6)
    try:
        similarity, found = cv2.findTransformECC(*pair, start, cv2.MOTION_AFFINE, stop, everywhere, 5)
    except cv2.error:  # it does not converge where the two have nothing in common
        similarity, found = 0.0, start
    if similarity < _ALIKE:
        cause = f"does not show what {source.path.name} shows (correlation {similarity:.2f})"
        raise PhotographError(str(source.files["original"]), cause, "Copy the set again, whole.")
    return np.asarray(found, float)
