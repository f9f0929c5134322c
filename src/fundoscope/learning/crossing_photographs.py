"""Photographs with their crossings marked, at the scale of `imaging.local_contrast`: turned, cut, and as a detector takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from fundoscope.datasets import PhotographRecord
from fundoscope.datasets.coco import CrossingBox, paper_side, scaled_side, vessels_at_crossing
from fundoscope.errors import UsageError
from fundoscope.evaluation.detection import Instances
from fundoscope.imaging import Pixels
from fundoscope.imaging.local_contrast import local_contrast, scale_to_diameter
from fundoscope.imaging.places import rescale_points
from fundoscope.learning.augment import Augment

Mask = NDArray[np.bool_]
Labels = Literal["paper", "scaled"]

_MARGIN = 40  # pixels around a patch that its local contrast is measured on, too


@dataclass(frozen=True, slots=True, eq=False)
class CrossingPhotograph:
    """A photograph: `pixels` (rows, columns, 3), uint8, RGB, and which of them lie `inside` the field (rows, columns);
    of each crossing its box, x1 y1 x2 y2 (n, 4), whole pixels, and in `parts` the mask of the vessels in that box,
    or None where no vessels are known. `scale` is how many of its pixels make one of the file's.
    """

    pixels: Pixels
    inside: Mask
    boxes: NDArray[np.int64]
    parts: tuple[Mask, ...] | None = None
    scale: float = 1.0

    @classmethod
    def from_record(cls, record: PhotographRecord, labels: Labels = "paper") -> CrossingPhotograph:
        """A record brought to one scale; labelled as in paper 002 (section 5.2), or with boxes `scaled` by the vein's
        width and the two vessels that meet. Raises `UsageError` unless the record knows all its crossings.
        """
        if record.crossings is None or not record.complete:
            raise UsageError(f"{record.name}: not all its crossings are known. Leave it out of training.")
        pixels, inside = scale_to_diameter(record.pixels)
        scale = pixels.shape[0] / record.field.shape[0]
        small = _rescaled(record, scale, inside)
        boxes, parts = [], []
        for number, at in enumerate(rescale_points(record.crossings, scale)):
            box = CrossingBox.around(at, _side(small, number, labels), (inside.shape[0], inside.shape[1]))
            boxes.append((box.col, box.row, box.col + box.cols, box.row + box.rows))
            parts.append(_part(small, at, box, labels))
        known = small.vessel is not None
        return cls(pixels, inside, np.array(boxes, np.int64).reshape(-1, 4), tuple(parts) if known else None, scale)

    @property
    def truth(self) -> Instances:
        """The crossings as what detections are compared with."""
        return Instances.true(self.boxes, self.masks)

    @property
    def masks(self) -> Mask | None:
        """(n, rows, columns), or None where no vessels are known."""
        if self.parts is None:
            return None
        masks = np.zeros((len(self.boxes), *self.inside.shape), bool)
        for mask, (x1, y1, x2, y2), part in zip(masks, self.boxes, self.parts, strict=True):
            mask[y1:y2, x1:x2] = part
        return masks

    @property
    def target(self) -> dict[str, Tensor]:
        """`boxes`, `labels` and, where known, `masks`, as `CrossingDetector` takes them."""
        boxes, masks = torch.from_numpy(self.boxes).float(), self.masks
        target = {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64)}
        return target if masks is None else {**target, "masks": torch.from_numpy(masks.astype(np.uint8))}

    @property
    def contrast(self) -> Tensor:
        """What the network sees, (3, rows, columns)."""
        return torch.from_numpy(local_contrast(self.pixels, self.inside))

    def mirrored(self) -> CrossingPhotograph:
        """Left for right."""
        boxes = self.boxes.copy()
        boxes[:, [0, 2]] = self.inside.shape[1] - self.boxes[:, [2, 0]]
        parts = None if self.parts is None else tuple(np.fliplr(part) for part in self.parts)
        pixels, inside = np.fliplr(self.pixels), np.fliplr(self.inside)
        return replace(self, pixels=pixels, inside=inside, boxes=boxes, parts=parts)

    def quarter_turned(self) -> CrossingPhotograph:
        """Turned by 90 degrees to the left."""
        x1, y1, x2, y2 = self.boxes.T
        columns = self.inside.shape[1]
        boxes = np.column_stack([y1, columns - x2, y2, columns - x1])
        parts = None if self.parts is None else tuple(np.rot90(part) for part in self.parts)
        return replace(self, pixels=np.rot90(self.pixels), inside=np.rot90(self.inside), boxes=boxes, parts=parts)

    def cut(self, row: int, column: int, rows: int, columns: int) -> CrossingPhotograph:
        """The window of so many rows and columns from a pixel on, black and outside the field where it goes beyond.

        The crossings whose middle lies in it are kept, their boxes as far as they do.
        """
        place, shape = np.array([column, row, column, row]), np.array([columns, rows, columns, rows])
        moved = self.boxes - place
        middles = moved[:, :2] + moved[:, 2:]  # twice the middle
        kept = np.flatnonzero(((middles >= 0) & (middles < 2 * shape[:2])).all(axis=1))
        boxes = moved[kept].clip(0, shape)
        parts = None
        if self.parts is not None:
            parts = tuple(_cut_part(self.parts[k], moved[k], box) for k, box in zip(kept, boxes, strict=True))
        pixels, inside = (_window(each, row, column, rows, columns) for each in (self.pixels, self.inside))
        return replace(self, pixels=pixels, inside=inside, boxes=boxes, parts=parts)

    def patch(
        self,
        row: int,
        column: int,
        side: int,
        camera: Callable[[CrossingPhotograph], CrossingPhotograph] = lambda around: around,
    ) -> tuple[Tensor, CrossingPhotograph]:
        """The window of `side` pixels around a pixel: what the network sees of it, (3, side, side), and what is in it.

        Local contrast is measured on some pixels around it, too; `camera` may change the colours before that.
        """
        row, column, wide = row - side // 2 - _MARGIN, column - side // 2 - _MARGIN, side + 2 * _MARGIN
        around = camera(self.cut(row, column, wide, wide))
        middle = slice(_MARGIN, _MARGIN + side)
        return around.contrast[:, middle, middle].contiguous(), around.cut(_MARGIN, _MARGIN, side, side)

    def augmented(self, augment: Augment, rng: Generator) -> CrossingPhotograph:
        """As another camera could have taken it: the colours, light and sharpness of `augment`, no geometry."""
        rows, columns = self.inside.shape
        side = max(rows, columns)  # `Augment` takes squares
        square = augment(_window(self.pixels, 0, 0, side, side), rng)
        return replace(self, pixels=square[:rows, :columns])


def _rescaled(record: PhotographRecord, scale: float, inside: Mask) -> PhotographRecord:
    """The record's masks and widths at this scale; its field is the photograph's own."""
    shape = (inside.shape[1], inside.shape[0])

    def resized(mask: Mask | None) -> Mask | None:
        if mask is None or scale == 1:
            return mask
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        return cv2.resize(mask.astype(np.uint8) * 255, shape, interpolation=method) > 127

    vessel, artery, vein = (resized(mask) for mask in (record.vessel, record.artery, record.vein))
    widths = None if record.vein_widths is None else record.vein_widths * scale
    return replace(record, field=inside, vessel=vessel, artery=artery, vein=vein, vein_widths=widths)


def _side(record: PhotographRecord, number: int, labels: Labels) -> int:
    if labels == "paper":
        return paper_side(1.0)
    return scaled_side(1.0, None if record.vein_widths is None else float(record.vein_widths[number]))


def _part(record: PhotographRecord, at: NDArray[np.float64], box: CrossingBox, labels: Labels) -> Mask:
    if record.vessel is None:
        return np.zeros((box.rows, box.cols), bool)
    return record.vessel[box.window] if labels == "paper" else vessels_at_crossing(record, at, box)["segmentation"]


def _cut_part(part: Mask, whole: NDArray[np.int64], box: NDArray[np.int64]) -> Mask:
    """What is left of the mask of a box that was cut."""
    x1, y1, x2, y2 = box - np.tile(whole[:2], 2)
    return part[y1:y2, x1:x2]


def _window(array: NDArray, row: int, column: int, rows: int, columns: int) -> NDArray:
    """Rows and columns of a picture, zero where it has none."""
    window = np.zeros((rows, columns, *array.shape[2:]), array.dtype)
    first, last = max(row, 0), min(row + rows, array.shape[0])
    left, right = max(column, 0), min(column + columns, array.shape[1])
    if first < last and left < right:
        window[first - row : last - row, left - column : right - column] = array[first:last, left:right]
    return window
