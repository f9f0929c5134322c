"""Average precision and recall as the COCO challenge defines them (Lin 2014, ECCV), for boxes and for masks.

faster-coco-eval computes them, and agrees with the challenge's own program, whose lines `coco_lines` imitates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fundoscope.datasets.coco import CATEGORY
from fundoscope.errors import UsageError, need
from fundoscope.evaluation.detection.matching import Instances

OverlapKind = Literal["bbox", "segm"]

_MOST = (1, 10, 100)  # detections of a photograph that count
_AREAS = ("small", "medium", "large")  # up to 32x32 pixels, up to 96x96, above

#: The twelve figures: precision or recall, and at which overlaps, areas and numbers of detections.
_ROWS = (
    ("Precision", "0.50:0.95", "all", 100), ("Precision", "0.50", "all", 100), ("Precision", "0.75", "all", 100),
    *(("Precision", "0.50:0.95", area, 100) for area in _AREAS),
    *(("Recall", "0.50:0.95", "all", most) for most in _MOST),
    *(("Recall", "0.50:0.95", area, 100) for area in _AREAS),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CocoScores:
    """COCO's twelve figures in its order; -1 where there is no true object of that area."""

    kind: OverlapKind
    values: tuple[float, ...]
    photographs: int
    truths: int

    @property
    def ap(self) -> float:
        """Average precision, the mean over overlaps (intersection over union) of 0.50, 0.55, ... 0.95."""
        return self.values[0]

    @property
    def ap50(self) -> float:
        """Average precision at an overlap of 0.50."""
        return self.values[1]

    @property
    def ap75(self) -> float:
        """Average precision at an overlap of 0.75."""
        return self.values[2]


def coco_scores(truths: Sequence[Instances], found: Sequence[Instances], kind: OverlapKind = "bbox") -> CocoScores:
    """The figures over photographs, given in the same order; `bbox` compares boxes, `segm` masks.

    Raises `UsageError` where a mask is wanted and not there, `MissingExtraError` without faster-coco-eval.
    """
    need("faster_coco_eval", what="COCO's figures", extra="train")
    from faster_coco_eval import COCO, COCOeval_faster

    if len(truths) != len(found) or not truths:
        raise UsageError(f"{len(found)} answers stand beside {len(truths)} photographs. Give one for each, and some.")
    images: list[dict[str, int]] = []
    for number, each in enumerate(truths, start=1):
        # COCO needs the size of a photograph for masks only
        size = {} if each.masks is None else {"height": each.masks.shape[1], "width": each.masks.shape[2]}
        images.append({"id": number, **size})
    marked, answers = _annotations(truths, kind), _annotations(found, kind)
    printed: list[str] = []  # the library would write to standard output
    truth = COCO({"images": images, "annotations": marked, "categories": [CATEGORY]}, print_function=printed.append)
    judge = COCOeval_faster(truth, truth.loadRes(answers), kind, print_function=printed.append)
    judge.run()
    return CocoScores(kind, tuple(float(value) for value in judge.stats[: len(_ROWS)]), len(truths), len(marked))


def coco_lines(scores: CocoScores) -> list[str]:
    """The figures as COCO prints them: a heading and twelve lines."""
    lines = [f"IoU metric: {scores.kind}"]
    for (what, overlap, area, most), value in zip(_ROWS, scores.values, strict=True):
        title = f"{'Average ' + what:<18} ({'AP' if what == 'Precision' else 'AR'})"
        lines.append(f" {title} @[ IoU={overlap:<9} | area={area:>6s} | maxDets={most:>3d} ] = {value:0.3f}")
    return lines


def _annotations(photographs: Sequence[Instances], kind: OverlapKind) -> list[dict[str, Any]]:
    """COCO's entry of each instance; instances and photographs are numbered from 1."""
    entries: list[dict[str, Any]] = []
    for image, each in enumerate(photographs, start=1):
        shapes = _boxes(each) if kind == "bbox" else _masks(each, image)
        for shape, score in zip(shapes, each.scores, strict=True):
            common = {"id": len(entries) + 1, "image_id": image, "category_id": CATEGORY["id"], "iscrowd": 0}
            entries.append({**common, **shape, "score": float(score)})
    return entries


def _boxes(each: Instances) -> list[dict[str, Any]]:
    sides = each.boxes[:, 2:] - each.boxes[:, :2]
    boxes = np.hstack([each.boxes[:, :2], sides]).tolist()
    return [{"bbox": box, "area": box[2] * box[3]} for box in boxes]


def _masks(each: Instances, image: int) -> list[dict[str, Any]]:
    from faster_coco_eval import mask

    if each.masks is None:
        raise UsageError(f"Photograph {image} has no masks. Leave it out of both lists, or ask for kind='bbox'.")
    codes = mask.encode(np.asfortranarray(each.masks.transpose(1, 2, 0), np.uint8))
    return [{"segmentation": code, "area": float(area)} for code, area in zip(codes, mask.area(codes), strict=True)]
