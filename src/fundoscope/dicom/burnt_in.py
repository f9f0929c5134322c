"""Text that a camera or a gateway has burnt into a photograph: found, and blacked out.

Outside the field of view nothing of an eye is seen, so all of it is blacked out. Inside, text is sought as lines of three
or more small strokes of one colour, alike in height and beside each other, that stand out from the retina more than its
vessels do.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging import Field, Pixels, find_field

Box = tuple[int, int, int, int]  # first row, end row, first column, end column

_SIDE = 1600  # pixels of the longer side at which text is sought
_CONTRASTS = (
    50,
    110,
)  # of 255 that a stroke differs from what lies around it; by the larger one, letters that touch are parted
_ONE_COLOUR = 30  # of 255: largest standard deviation of the inner pixels of a stroke
_CORE = 12  # pixels inside a stroke from which on its colour can be told
_HEIGHTS = (5, 120)  # pixels of a letter, at that side
_ALIKE = 2.0  # times as high as its neighbour a letter is at most
_LETTERS = 3  # of which a line of text has at least so many
_RIM = 0.01  # of the field's radius beyond it that is left as it is: the camera's soft edge
_FAR = 0.04  # of the radius beyond the field from which on what is lit is no soft edge
_LIT = 48  # of 255: darker than this outside the field is noise


@dataclass(frozen=True, slots=True)
class BurntIn:
    """What was found in one picture: `boxes` of lines of text, whether something was lit outside the field, and whether a field was found."""

    boxes: tuple[Box, ...]
    outside: bool
    field_found: bool

    @property
    def any(self) -> bool:
        """Whether there is something that may be text."""
        return self.outside or bool(self.boxes)


def find_burnt_in(pixels: Pixels, field: Field | None = None) -> BurntIn:
    """Look for text in a photograph (rows, columns, 3), RGB; `field` where it was found already."""
    field = find_field(pixels) if field is None else field
    outside = False
    if field.found:
        dark = cv2.morphologyEx(pixels.max(2), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))  # single hot pixels are none
        outside = bool((dark[~field.mask(shrink=-_FAR)] >= _LIT).any())
    return BurntIn(tuple(find_lines(pixels)), outside, field.found)


def black_out(pixels: Pixels, found: BurntIn, field: Field | None = None) -> Pixels:
    """The photograph with all that lies outside its field, and every line of text, black."""
    field = find_field(pixels) if field is None else field
    made = pixels.copy()
    if field.found:
        made[~_wide_mask(field)] = 0
    for first, end, left, right in found.boxes:
        made[first:end, left:right] = 0
    return made


def _wide_mask(field: Field) -> NDArray[np.bool_]:
    return field.mask(shrink=-_RIM)


def find_lines(pixels: Pixels) -> list[Box]:
    """Boxes around lines of what may be text, in pixels of the photograph."""
    scale = min(1.0, _SIDE / max(pixels.shape[:2]))
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8) if scale < 1 else pixels
    letters = _letters(small)
    boxes = []
    for line in _lines(letters):
        top, left = line[:, 0].min(), line[:, 2].min()
        bottom, right = line[:, 1].max(), line[:, 3].max()
        margin = max(4, round(0.6 * (bottom - top)))  # dots, dashes and thin letters beside those that were found
        rows, columns = pixels.shape[:2]
        boxes.append((
            max(0, int((top - margin) / scale)), min(rows, int((bottom + margin) / scale) + 1),
            max(0, int((left - 2 * margin) / scale)), min(columns, int((right + 2 * margin) / scale) + 1),
        ))  # fmt: skip
    return boxes


def _letters(small: Pixels) -> NDArray[np.int64]:
    """Strokes that may be letters: first row, end row, first column, end column of each, (n, 4)."""
    size = max(21, 2 * (max(small.shape[:2]) // 60) + 1)
    found = []
    ground = cv2.medianBlur(small, size)
    for sign, contrast in (
        (sign, contrast) for sign in (1, -1) for contrast in _CONTRASTS
    ):  # lighter than the retina, darker
        strokes = ((sign * (small.astype(np.int16) - ground)).max(2) > contrast).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(strokes, connectivity=8)
        for label in range(1, min(count, 4000)):
            left, top, width, height, area = stats[label]
            if not _HEIGHTS[0] <= height <= _HEIGHTS[1] or width > 2.5 * height or area < 0.12 * width * height:
                continue
            inside = labels[top : top + height, left : left + width] == label
            core = cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0).astype(bool)
            colours = small[top : top + height, left : left + width][core]
            if len(colours) < _CORE or colours.std(0).max() <= _ONE_COLOUR:  # thin strokes are all edge
                found.append((top, top + height, left, left + width))
    return np.array(found, np.int64).reshape(-1, 4)


def _lines(letters: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Letters that stand beside each other, alike in height, three or more."""
    group = np.arange(len(letters))
    heights, middles = letters[:, 1] - letters[:, 0], (letters[:, 0] + letters[:, 1]) / 2
    for k in range(len(letters)):
        taller = np.maximum(heights, heights[k])
        level = abs(middles - middles[k]) < 0.5 * np.minimum(heights, heights[k])
        alike = taller <= _ALIKE * np.minimum(heights, heights[k])
        gap = np.maximum(letters[:, 2] - letters[k, 3], letters[k, 2] - letters[:, 3])
        near = level & alike & (gap < 1.6 * taller)
        joined = np.unique(group[near])
        group[np.isin(group, joined)] = joined.min()
    return [letters[group == one] for one in np.unique(group) if (group == one).sum() >= _LETTERS]
