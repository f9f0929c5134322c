"""Pictures of a report of nicking: crossings boxed by grade on their photograph, a patch's vessels, its attention map.

The colours of the grades are Okabe and Ito's (2008), told apart by all; the number beside a box leads to its crossing.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.findings import NickingFinding
from fundoscope.imaging import Pixels
from fundoscope.reports.overlay import overlay
from fundoscope.vessels import draw

#: Of grades 0 to 3; what was not graded is grey.
COLOURS = ((0, 158, 115), (240, 228, 66), (230, 159, 0), (213, 94, 0))
UNGRADED = (190, 190, 190)

SIDE = 1000  # pixels of the longer side of a photograph in a report
_LARGER = 2.0  # times a small photograph is enlarged at most, so that boxes do not hide it
_REACH = 2.5  # vein widths from a crossing to the sides of its box
_LEAST = 12  # pixels of the picture: a smaller box hides its crossing
_EDGE, _THICK = (20, 20, 20), (2, 2, 3, 4)  # a dark edge stands off the retina; worse grades are drawn thicker
_FONT, _SIZE, _ROOM = cv2.FONT_HERSHEY_SIMPLEX, 0.45, 3  # of a tag; pixels around its number
_GROUND = 0.55  # of the patch's brightness, behind its vessels


Box = tuple[int, int, int, int]  # left, top, width, height in pixels of the picture


def draw_boxes(pixels: Pixels, crossings: Sequence[NickingFinding]) -> tuple[Pixels, list[Box]]:
    """The photograph, its longer side `SIDE` pixels, with a numbered box at each crossing, worse grades above; and the boxes.

    One that a reader has added has a number below 0: -1 is drawn as +1.
    """
    share = min(_LARGER, SIDE / max(pixels.shape[:2]))
    size = (round(pixels.shape[1] * share), round(pixels.shape[0] * share))
    method = cv2.INTER_AREA if share < 1 else cv2.INTER_CUBIC
    picture = np.array(cv2.resize(pixels, size, interpolation=method), np.uint8)  # our own: it is drawn on
    boxes = [_box(one, share) for one in crossings]
    pairs = sorted(zip(crossings, boxes, strict=True), key=lambda pair: -1 if pair[0].grade is None else pair[0].grade)
    for one, box in pairs:
        _frame(picture, box, one.grade)
    tags: list[Box] = []
    for one, box in reversed(pairs):
        tags.append(_tag(picture, box, one, tags))
    return picture, boxes


def _box(one: NickingFinding, share: float) -> Box:
    assert one.row is not None and one.col is not None
    reach = max(_LEAST, round(_REACH * (one.vein_width_px or 0.0) * share))
    x, y = (round((at + 0.5) * share - 0.5) for at in (one.col, one.row))
    return x - reach, y - reach, 2 * reach, 2 * reach


def _colour(grade: int | None) -> tuple[int, int, int]:
    return UNGRADED if grade is None else COLOURS[grade]


def _frame(picture: Pixels, box: Box, grade: int | None) -> None:
    x, y, width, height = box
    thick = _THICK[grade or 0]
    for tint, line in ((_EDGE, thick + 2), (_colour(grade), thick)):
        cv2.rectangle(picture, (x, y), (x + width, y + height), tint, line)


def _tag(picture: Pixels, box: Box, one: NickingFinding, tags: Sequence[Box]) -> Box:
    """Draw the crossing's number at the corner of its box where it hides the least of other `tags`; returns its place."""
    number = str(one.crossing) if one.crossing is None or one.crossing > 0 else f"+{-one.crossing}"
    (long, high), _ = cv2.getTextSize(number, _FONT, _SIZE, 1)
    width, height = long + 2 * _ROOM, high + 2 * _ROOM
    x, y, across, down = box
    corners = [(left, top) for left in (x + across, x - width) for top in (y - height, y + down)]
    most = (picture.shape[1] - width - 1, picture.shape[0] - height - 1)
    places = [(min(max(left, 0), most[0]), min(max(top, 0), most[1]), width, height) for left, top in corners]
    place = min(places, key=lambda each: sum(_common(each, other) for other in tags))
    left, top = place[:2]
    for tint, line in ((_colour(one.grade), -1), (_EDGE, 1)):
        cv2.rectangle(picture, (left, top), (left + width, top + height), tint, line)
    cv2.putText(picture, number, (left + _ROOM, top + _ROOM + high), _FONT, _SIZE, (0, 0, 0), 1, cv2.LINE_AA)
    return place


def _common(one: Box, other: Box) -> int:
    """Pixels that two boxes share."""
    sides = [min(one[k] + one[k + 2], other[k] + other[k + 2]) - max(one[k], other[k]) for k in (0, 1)]
    return max(sides[0], 0) * max(sides[1], 0)


def draw_vessels(pixels: Pixels, maps: NDArray[np.uint8]) -> Pixels:
    """A patch (s, s, 3) in grey with its arteries in red and its veins in blue.

    `maps` (s, s, 3) are the probabilities of vessel, artery and vein, 0 to 255.
    """
    vessel, artery, vein = (plane[..., None] / 255 for plane in np.moveaxis(maps.astype(np.float32), 2, 0))
    colour = (artery * np.array(draw.ARTERY) + vein * np.array(draw.VEIN)) / np.maximum(artery + vein, 0.05)
    share = vessel * np.minimum(artery + vein, 1)
    grey = _GROUND * pixels[..., 1:2].astype(np.float32)
    return np.ascontiguousarray(np.clip((1 - share) * grey + share * colour, 0, 255).astype(np.uint8))


def draw_attention(pixels: Pixels, attention: NDArray[np.float32]) -> Pixels:
    """The patch with its attention map (h, w) laid over it, scaled by the map's own maximum."""
    return overlay(pixels, attention, max(float(attention.max()), 1e-9))
