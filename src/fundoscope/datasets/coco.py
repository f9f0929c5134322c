"""Labels of crossings for detectors, in COCO's form: those of the paper's section 5.2, and better ones beside them.

The paper puts a box of 20 x 20 pixels around each crossing and takes all vessel pixels in it as the mask, which then includes
other vessels in the box and cuts a wide vein off. The better labels scale the box with the vein, and keep only the two vessels
that cross.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from fundoscope.datasets import rle
from fundoscope.datasets.record import Dataset, Mask, PhotographRecord, Points
from fundoscope.errors import UsageError
from fundoscope.outputs import answer_folder

SIDE = 20  # pixels at DRIVE's scale: the paper's box
SPAN = 6  # vein widths: the artery, about 0.75 of one, and more than two and a half of the vein on each side of it
CATEGORY = {"id": 1, "name": "CrossPos", "supercategory": ""}
COLUMNS = (
    "image", "dataset", "group", "crossing", "row", "col", "artery_width_px", "vein_width_px", "wide", "has_mask",
    "side", "side_scaled",
)  # fmt: skip

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CrossingBox:
    """A box around a crossing: pixels `row` to `row + rows - 1` and `col` to `col + cols - 1`."""

    row: int
    col: int
    rows: int
    cols: int

    @classmethod
    def around(cls, at: Points, side: int, shape: tuple[int, int]) -> CrossingBox:
        """The square of `side` pixels whose centre is nearest to `at` (row, column), cut to an image of `shape`."""
        low = np.floor(at + 1 - side / 2).astype(int)
        first, last = np.clip([low, low + side], 0, shape)
        return cls(int(first[0]), int(first[1]), int(last[0] - first[0]), int(last[1] - first[1]))

    @property
    def window(self) -> tuple[slice, slice]:
        """The slices that cut the box out of an array (rows, columns)."""
        return slice(self.row, self.row + self.rows), slice(self.col, self.col + self.cols)

    def runs(self, part: Mask, shape: tuple[int, int]) -> Json:
        """Run lengths of a photograph's mask (`shape`) that is `part` inside the box and empty elsewhere."""
        return rle.encode(part, (self.row, self.col), shape)


@dataclass(slots=True)
class CocoLabels:
    """The content of a COCO file, to which photographs and crossings are added; ids count from 1."""

    description: str
    images: list[Json] = field(default_factory=list)
    annotations: list[Json] = field(default_factory=list)

    def add_image(self, file_name: str, record: PhotographRecord) -> None:
        """Add a photograph."""
        rows, columns = record.field.shape
        image = {"id": len(self.images) + 1, "file_name": file_name, "height": rows, "width": columns}
        self.images.append(image | {"dataset": record.dataset, "group": record.group})

    def add(self, box: CrossingBox, parts: dict[str, Mask], **more: Any) -> None:
        """Add a crossing of the last photograph; `parts` are masks in the box, its own under `segmentation`."""
        image = self.images[-1]
        shape = image["height"], image["width"]
        kept = {name: box.runs(part, shape) for name, part in parts.items() if part.any()}
        self.annotations.append(
            {
                "id": len(self.annotations) + 1, "image_id": image["id"], "category_id": CATEGORY["id"], "iscrowd": 0,
                "bbox": [box.col, box.row, box.cols, box.rows], "area": box.rows * box.cols,
                "has_mask": "segmentation" in kept, **more, **kept,
            }
        )  # fmt: skip

    def write(self, path: Path, without: list[str]) -> None:
        """Write the file in one step; `without` names the photographs whose crossings are not known."""
        info = {"description": self.description, "photographs_without_known_crossings": without}
        whole = {"info": info, "categories": [CATEGORY], "images": self.images, "annotations": self.annotations}
        beside = path.with_name(path.name + ".part")
        beside.write_text(json.dumps(whole, separators=(",", ":")) + "\n", encoding="utf-8")
        beside.replace(path)


def paper_side(scale: float) -> int:
    """The side of the paper's boxes in pixels: 20 at DRIVE's scale, and so on DRIVE and IOSTAR, the paper's sets."""
    return round(SIDE * scale)


def scaled_side(scale: float, vein_width: float | None = None) -> int:
    """The side of the scaled boxes in pixels: 6 times the vein's width where it is known, and at least the paper's side."""
    return round(max(SIDE * scale, SPAN * (vein_width or 0.0)))


def vessels_at_crossing(record: PhotographRecord, at: Points, box: CrossingBox) -> dict[str, Mask]:
    """Masks in the box of the vessels that cross at `at` (row, column): both under `segmentation`, and where the record has them
    `artery` and `vein`. Empty where the record has no vessels.
    """
    here = at - (box.row, box.col)
    if record.artery is not None and record.vein is not None:
        artery, vein = (_nearest_part(mask[box.window], here) for mask in (record.artery, record.vein))
        return {"segmentation": artery | vein, "artery": artery, "vein": vein}
    return {} if record.vessel is None else {"segmentation": _nearest_part(record.vessel[box.window], here)}


def _nearest_part(mask: Mask, at: Points) -> Mask:
    """The 8-connected part of a mask that comes nearest to a place (row, column)."""
    if not mask.any():
        return mask
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    rows, columns = np.nonzero(mask)
    k = int(np.argmin((rows - at[0]) ** 2 + (columns - at[1]) ** 2))
    return labels == labels[rows[k], columns[k]]


def write_labels(dataset: Dataset, out: str | Path) -> Path:
    """Write the labels of all crossings into the folder `out`; returns the path of `crossings.json`.

    crossings.json          the paper's: boxes of 20 x 20, their area, and the vessel pixels inside
    crossings_scaled.json   ours: boxes by the vein's width, and the two vessels that meet
    masks/<name>.png        the paper's masks in one picture: 0, or the crossing's number, from 1; later ones on top
    labels.csv              a row a crossing

    `segmentation` is a run-length code, and is missing, with `has_mask` false, where no vessel is drawn. Photographs
    whose crossings are not all known are in none of the files but named in `info`. Raises `UsageError` where that is
    all of them, or where `out` holds labels already.
    """
    out = Path(out)
    if (out / "crossings.json").exists():
        raise UsageError(f"{out} already holds labels. Give another folder with --out, or remove it.")
    answers = ("crossings.json", "crossings_scaled.json", "labels.csv", "masks")
    with answer_folder(out, "nicking make-labels", answers, [source.path for source in dataset.sources]) as part:
        _write_all(dataset, part)
    return out / "crossings.json"


def _write_all(dataset: Dataset, out: Path) -> None:
    paper = CocoLabels("Crossings with boxes of 20 x 20 and the vessel pixels in them")
    ours = CocoLabels("Crossings with boxes by the vein's width and the two vessels that meet")
    rows: list[Json] = []
    without = []
    for record in dataset:
        if record.crossings is None or not record.complete:
            without.append(record.name)
            continue
        for labels in (paper, ours):
            labels.add_image(record.path.relative_to(dataset.folder).as_posix(), record)
        rows += _label(record, record.crossings, paper, ours)
        _write_picture(record, record.crossings, out / "masks" / f"{record.name}.png")
    if not paper.images:
        cause = f"the layout '{dataset.layout}' does not say where all crossings are"
        raise UsageError(f"{dataset.folder}: {cause}. Label RITE, LES-AV, marked junctions or simulated eyes.")
    _write_table(rows, out / "labels.csv")
    ours.write(out / "crossings_scaled.json", without)
    paper.write(out / "crossings.json", without)


def _label(record: PhotographRecord, crossings: Points, paper: CocoLabels, ours: CocoLabels) -> Iterator[Json]:
    """Both labels of each crossing of a record, and its row of the table."""
    scale, shape, wide = record.scale, record.field.shape, record.wide
    name = {"image": paper.images[-1]["file_name"], "dataset": record.dataset, "group": record.group}
    for number, at in enumerate(crossings, 1):
        facts = {
            "row": _rounded(at[0]), "col": _rounded(at[1]), "artery_width_px": _at(record.artery_widths, number),
            "vein_width_px": _at(record.vein_widths, number), "wide": None if wide is None else bool(wide[number - 1]),
        }  # fmt: skip
        sides = paper_side(scale), scaled_side(scale, facts["vein_width_px"])
        box, wider = (CrossingBox.around(at, side, (shape[0], shape[1])) for side in sides)
        inside = {} if record.vessel is None else {"segmentation": record.vessel[box.window]}
        paper.add(box, inside, number=number)
        ours.add(wider, vessels_at_crossing(record, at, wider), number=number, **facts)
        mask = {"has_mask": paper.annotations[-1]["has_mask"], "side": sides[0], "side_scaled": sides[1]}
        yield name | {"crossing": number} | facts | mask


def _rounded(value: float) -> float:
    return round(float(value), 2)


def _at(widths: Points | None, number: int) -> float | None:
    return None if widths is None else _rounded(widths[number - 1])


def _write_picture(record: PhotographRecord, crossings: Points, path: Path) -> None:
    rows, columns = record.field.shape
    numbers = np.zeros((rows, columns), np.uint16 if len(crossings) > 255 else np.uint8)
    if record.vessel is not None:
        side = paper_side(record.scale)
        for number, at in enumerate(crossings, 1):
            window = CrossingBox.around(at, side, (rows, columns)).window
            numbers[window][record.vessel[window]] = number
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numbers).save(path)


def _write_table(rows: list[Json], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
