"""Photographs with their crossings as boxes and masks, at one scale: turned, cut, and as a detector takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
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
from fundoscope.imaging.field import find_field
from fundoscope.imaging.local_contrast import DIAMETER, local_contrast
from fundoscope.imaging.places import rescale_points
from fundoscope.imaging.prepared import scale_whole
from fundoscope.learning.augment import Augment

Mask = NDArray[np.bool_]
Labels = Literal["paper", "scaled"]

_MARGIN = 40  # pixels around a patch on which its local contrast is measured, too


@dataclass(frozen=True, slots=True, eq=False)
class CrossingPhotograph:
    """A photograph with all its crossings.

    `pixels` (rows, columns, 3) are uint8 RGB; `inside` (rows, columns) are those in the field. `boxes` (n, 4) are the
    crossings, x1 y1 x2 y2 in whole pixels; `parts` holds for each the mask of the vessels in its box, or is None where no
    vessels are known. `scale` is the number of these pixels that make one pixel of the file. `doubtful` (k, 4) are boxes of
    which the set does not say whether they hold a crossing, and `vein_widths` (n,) are in pixels of the field's diameter 540;
    nan where unknown.
    """

    pixels: Pixels
    inside: Mask
    boxes: NDArray[np.int64]
    parts: tuple[Mask, ...] | None = None
    scale: float = 1.0
    doubtful: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 4), np.int64))
    vein_widths: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        if len(self.vein_widths) != len(self.boxes):
            object.__setattr__(self, "vein_widths", np.full(len(self.boxes), np.nan))

    @classmethod
    def from_record(
        cls, record: PhotographRecord, labels: Labels = "paper", diameter: int = DIAMETER
    ) -> CrossingPhotograph:
        """The photograph of a record, its field brought to `diameter` pixels, with its crossings labelled.

        Labels are `paper`: boxes of one size with all vessels in them (paper 002, section 5.2); or `scaled`: boxes
        scaled to the vein's width with the two vessels that meet. Raises `UsageError` unless the record knows all its
        crossings.
        """
        if record.crossings is None or not record.complete:
            raise UsageError(f"{record.name}: not all its crossings are known. Leave it out of training.")
        photograph = record.pixels
        pixels, inside = scale_whole(photograph, find_field(photograph), diameter)
        scale, of_drive = pixels.shape[0] / record.field.shape[0], diameter / DIAMETER
        small, shape = _rescaled(record, scale, inside), (inside.shape[0], inside.shape[1])
        boxes, parts = [], []
        for number, at in enumerate(rescale_points(record.crossings, scale)):
            box = CrossingBox.around(at, _side(small, number, labels, of_drive), shape)
            boxes.append(_corners(box))
            parts.append(_part(small, at, box, labels))
        places = [] if record.doubtful is None else rescale_points(record.doubtful, scale)
        doubtful = [_corners(CrossingBox.around(at, paper_side(of_drive), shape)) for at in places]
        return cls(
            pixels, inside, np.array(boxes, np.int64).reshape(-1, 4), None if small.vessel is None else tuple(parts), scale,
            np.array(doubtful, np.int64).reshape(-1, 4),
            np.full(len(boxes), np.nan) if small.vein_widths is None else small.vein_widths / of_drive,
        )  # fmt: skip

    @property
    def truth(self) -> Instances:
        """The crossings in the form with which detections are compared."""
        return Instances.true(self.boxes, self.masks)

    @property
    def masks(self) -> Mask | None:
        """The mask of each crossing in the whole photograph, (n, rows, columns), or None where no vessels are known."""
        if self.parts is None:
            return None
        masks = np.zeros((len(self.boxes), *self.inside.shape), bool)
        for mask, (x1, y1, x2, y2), part in zip(masks, self.boxes, self.parts, strict=True):
            mask[y1:y2, x1:x2] = part
        return masks

    @property
    def target(self) -> dict[str, Tensor]:
        """The target of `CrossingDetector`: `boxes`, `labels` and, where known, `masks`."""
        boxes, masks = torch.from_numpy(self.boxes).float(), self.masks
        target = {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64)}
        return target if masks is None else {**target, "masks": torch.from_numpy(masks.astype(np.uint8))}

    @property
    def contrast(self) -> Tensor:
        """Local contrast, the input of the detector, (3, rows, columns)."""
        return torch.from_numpy(local_contrast(self.pixels, self.inside))

    def mirrored(self) -> CrossingPhotograph:
        """The photograph mirrored, left for right."""
        columns = self.inside.shape[1]
        boxes, doubtful = (
            np.column_stack([columns - x2, y1, columns - x1, y2]) for x1, y1, x2, y2 in (self.boxes.T, self.doubtful.T)
        )
        parts = None if self.parts is None else tuple(np.fliplr(part) for part in self.parts)
        pixels, inside = np.fliplr(self.pixels), np.fliplr(self.inside)
        return replace(self, pixels=pixels, inside=inside, boxes=boxes, parts=parts, doubtful=doubtful)

    def quarter_turned(self) -> CrossingPhotograph:
        """The photograph rotated by 90 degrees to the left."""
        columns = self.inside.shape[1]
        boxes, doubtful = (
            np.column_stack([y1, columns - x2, y2, columns - x1]) for x1, y1, x2, y2 in (self.boxes.T, self.doubtful.T)
        )
        parts = None if self.parts is None else tuple(np.rot90(part) for part in self.parts)
        pixels, inside = np.rot90(self.pixels), np.rot90(self.inside)
        return replace(self, pixels=pixels, inside=inside, boxes=boxes, parts=parts, doubtful=doubtful)

    def cut(self, row: int, column: int, rows: int, columns: int) -> CrossingPhotograph:
        """The window of `rows` x `columns` whose first pixel is (`row`, `column`); black and outside the field beyond.

        It keeps the crossings whose middle lies in it; their boxes are clipped to it.
        """
        place, shape = np.array([column, row, column, row]), np.array([columns, rows, columns, rows])
        moved, doubtful = self.boxes - place, self.doubtful - place
        kept, still_doubtful = (
            np.flatnonzero(((middles >= 0) & (middles < 2 * shape[:2])).all(axis=1))
            for middles in (each[:, :2] + each[:, 2:] for each in (moved, doubtful))  # twice the middle
        )
        boxes = moved[kept].clip(0, shape)
        parts = None
        if self.parts is not None:
            parts = tuple(_cut_part(self.parts[k], moved[k], box) for k, box in zip(kept, boxes, strict=True))
        pixels, inside = (_window(each, row, column, rows, columns) for each in (self.pixels, self.inside))
        return replace(
            self, pixels=pixels, inside=inside, boxes=boxes, parts=parts,
            doubtful=doubtful[still_doubtful].clip(0, shape), vein_widths=self.vein_widths[kept],
        )  # fmt: skip

    def patch(
        self,
        row: int,
        column: int,
        side: int,
        camera: Callable[[CrossingPhotograph], CrossingPhotograph] = lambda around: around,
    ) -> tuple[Tensor, CrossingPhotograph]:
        """The window of `side` pixels around a pixel: its local contrast (3, side, side), and the window itself.

        Local contrast is measured on a margin around the window, too; `camera` may change the colours before that.
        """
        row, column, wide = row - side // 2 - _MARGIN, column - side // 2 - _MARGIN, side + 2 * _MARGIN
        around = camera(self.cut(row, column, wide, wide))
        middle = slice(_MARGIN, _MARGIN + side)
        return around.contrast[:, middle, middle].contiguous(), around.cut(_MARGIN, _MARGIN, side, side)

    def augmented(self, augment: Augment, rng: Generator) -> CrossingPhotograph:
        """The photograph with colours, light and sharpness drawn by `augment`; its geometry stays."""
        rows, columns = self.inside.shape
        side = max(rows, columns)  # `Augment` takes squares
        square = augment(_window(self.pixels, 0, 0, side, side), rng)
        return replace(self, pixels=square[:rows, :columns])


def _rescaled(record: PhotographRecord, scale: float, inside: Mask) -> PhotographRecord:
    """The record with masks and widths at this scale and the field `inside`."""
    shape = (inside.shape[1], inside.shape[0])

    def resized(mask: Mask | None) -> Mask | None:
        if mask is None or scale == 1:
            return mask
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        return cv2.resize(mask.astype(np.uint8) * 255, shape, interpolation=method) > 127

    vessel, artery, vein = (resized(mask) for mask in (record.vessel, record.artery, record.vein))
    widths = None if record.vein_widths is None else record.vein_widths * scale
    return replace(record, field=inside, vessel=vessel, artery=artery, vein=vein, vein_widths=widths)


def _side(record: PhotographRecord, number: int, labels: Labels, of_drive: float) -> int:
    if labels == "paper":
        return paper_side(of_drive)
    return scaled_side(of_drive, None if record.vein_widths is None else float(record.vein_widths[number]))


def _corners(box: CrossingBox) -> tuple[int, int, int, int]:
    return box.col, box.row, box.col + box.cols, box.row + box.rows


def _part(record: PhotographRecord, at: NDArray[np.float64], box: CrossingBox, labels: Labels) -> Mask:
    if record.vessel is None:
        return np.zeros((box.rows, box.cols), bool)
    return record.vessel[box.window] if labels == "paper" else vessels_at_crossing(record, at, box)["segmentation"]


def _cut_part(part: Mask, whole: NDArray[np.int64], box: NDArray[np.int64]) -> Mask:
    """The part of a box's mask that is left after the box `whole` was clipped to `box`."""
    x1, y1, x2, y2 = box - np.tile(whole[:2], 2)
    return part[y1:y2, x1:x2]


def _window(array: NDArray, row: int, column: int, rows: int, columns: int) -> NDArray:
    """A window of a picture, zero beyond its edges."""
    window = np.zeros((rows, columns, *array.shape[2:]), array.dtype)
    first, last = max(row, 0), min(row + rows, array.shape[0])
    left, right = max(column, 0), min(column + columns, array.shape[1])
    if first < last and left < right:
        window[first - row : last - row, left - column : right - column] = array[first:last, left:right]
    return window
