"""Step 4 of a study of crossings: the figures. Reads study.json and detections/, writes results.json and tables/.

No torch and no pages. The confidence from which on a detection counts is chosen on the inner photographs. Boxes are scored on all photographs,
masks on those whose vessels are known.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from fundoscope.datasets import rle
from fundoscope.errors import StudyError
from fundoscope.evaluation.detection import (
    DetectionOutcome,
    DetectionPoint,
    Instances,
    best_f1,
    coco_lines,
    coco_scores,
    detection_estimates,
    f1_difference,
    match_detections,
    score_instances,
)
from fundoscope.evaluation.metrics import results_table
from fundoscope.nicking.crossing_study.detections import PhotographDetections, read_detections
from fundoscope.studies import MANIFEST, write_json

#: What the detector is called that looks at nothing.
BLIND = "one box without looking"
RESULTS_FILE = "results.json"
_SHOWN = 6  # photographs of the test part that the report shows

Detections = list[PhotographDetections]


def evaluate_study(folder: Path) -> dict[str, Any]:
    """The figures of the study in a folder whose detections are there; also written as results.json and tables/."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    parts = ("inner", "test", "patches")
    truth = {part: read_detections(folder / "detections" / "truth" / f"{part}.jsonl") for part in parts}
    side = manifest["recipe"]["test_patches"]["side"]
    blind = blind_boxes(truth["patches"], side, mean_box(truth["inner"]))
    coco, lines = coco_rows(BLIND, "", "patches", truth["patches"], blind)
    detection: list[dict[str, object]] = []
    outcomes: dict[str, list[list[DetectionOutcome]]] = {}
    points: dict[str, list[DetectionPoint]] = {}
    shown: dict[str, Any] = {}
    for pyramid, seed in product(manifest["pyramids"], range(manifest["seeds"])):
        found = {part: read_detections(folder / "detections" / f"{pyramid}-{seed}" / f"{part}.jsonl") for part in parts}
        for on, part in (("whole photographs, step 1", "test"), ("patches, last step", "patches")):
            more_rows, more_lines = coco_rows(pyramid, seed, on, truth[part], found[part])
            coco, lines = coco + more_rows, lines + more_lines
        point = best_f1(score_photographs(found["inner"], truth["inner"]))
        scored = score_photographs(found["test"], truth["test"])
        for dataset, rows in rows_by_set(truth["test"]).items():
            about = {"detector": pyramid, "seed": seed, "set": dataset, "confidence": point.threshold}
            detection.append({**about, **detection_estimates([scored[k] for k in rows], point.threshold)})
        outcomes.setdefault(pyramid, []).append(scored)
        points.setdefault(pyramid, []).append(point)
        shown = shown or describe_pictures(f"{pyramid}, seed {seed}", found["test"], truth["test"], point.threshold)

    tables = folder / "tables"
    tables.mkdir(exist_ok=True)
    (tables / "coco.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    results = {
        "coco": results_table(coco, tables / "coco.csv"),
        "detection": results_table(detection, tables / "detection.csv"),
        "difference": [],
        "shown": shown,
    }
    if len(outcomes) > 1:
        results["difference"] = results_table([f1_difference_row(outcomes, points)], tables / "difference.csv")
    write_json(folder / RESULTS_FILE, results)
    return results


def coco_rows(
    detector: str, seed: object, on: str, truth: Detections, found: Detections
) -> tuple[list[dict[str, object]], list[str]]:
    """COCO's figures (Lin 2014) of boxes and of masks, and the same as lines that COCO prints.

    There is a row for each set, and where there are several, for all.
    """
    rows: list[dict[str, object]] = []
    lines: list[str] = []
    for (dataset, numbers), kind in product(rows_by_set(truth).items(), ("bbox", "segm")):
        known = [k for k in numbers if kind == "bbox" or truth[k].instances.masks is not None]
        if known:
            scores = coco_scores([truth[k].instances for k in known], [found[k].instances for k in known], kind)
            rows.append({
                "detector": detector, "seed": seed, "on": on, "set": dataset, "kind": scores.kind,
                "photographs": scores.photographs, "crossings": scores.truths,
                "ap": scores.ap, "ap50": scores.ap50, "ap75": scores.ap75,
                "ar1": scores.values[6], "ar10": scores.values[7], "ar100": scores.values[8],
            })  # fmt: skip
            lines += [f"{detector} {seed}, {on}, {dataset}", *coco_lines(scores)]
    return rows, lines


def score_photographs(found: Detections, truth: Detections) -> list[DetectionOutcome]:
    """Hits and misses in each photograph."""
    return [score_instances(a.instances, b.instances) for a, b in zip(found, truth, strict=True)]


def rows_by_set(photographs: Detections) -> dict[str, list[int]]:
    """The numbers of the photographs of each set, and, where there are several sets, of all."""
    sets: dict[str, list[int]] = {}
    for number, each in enumerate(photographs):
        sets.setdefault(each.dataset, []).append(number)
    return sets if len(sets) == 1 else {**sets, "all": list(range(len(photographs)))}


def mean_box(photographs: Detections) -> tuple[float, float]:
    """Mean height and width of the boxes of photographs, pixels; `StudyError` where they have none."""
    boxes = np.concatenate([each.instances.boxes for each in photographs] or [np.zeros((0, 4))])
    if not len(boxes):
        raise StudyError(
            "The inner photographs hold no crossing, so no box can be of their size. Give more photographs."
        )
    return float(np.mean(boxes[:, 3] - boxes[:, 1])), float(np.mean(boxes[:, 2] - boxes[:, 0]))


def blind_boxes(patches: Detections, side: int, size: tuple[float, float]) -> Detections:
    """What can be answered without looking at patches of `side` pixels: one box of that height and width, all of it vessel.

    It stands in the middle, the mean place of a crossing. But crossings lie up to a third of the side from it, evenly, so
    any one place is hit rarely: this row shows that the patches' own layout gives nothing away. It is no opponent.
    """
    middle, half = side / 2, np.array(size) / 2
    (top, left), (bottom, right) = middle - half, middle + half
    mask = np.zeros((1, side, side), bool)
    mask[0, round(top) : round(bottom), round(left) : round(right)] = True
    centre = Instances(np.array([[left, top, right, bottom]]), np.ones(1), mask)
    return [PhotographDetections(each.name, each.dataset, centre) for each in patches]


def f1_difference_row(
    outcomes: dict[str, list[list[DetectionOutcome]]], points: dict[str, list[DetectionPoint]]
) -> dict[str, object]:
    """F1 of the first pyramid less the second's, paired by photograph, mean over seeds, each seed at its own confidence,
    the one that its own inner photographs chose; photographs and seeds are resampled.
    """
    first, second = list(outcomes)[:2]
    own = tuple([point.threshold for point in points[pyramid]] for pyramid in (first, second))
    difference = f1_difference(outcomes[first], outcomes[second], (own[0], own[1]), (first, second))
    return {"what": f"F1, {first} less {second}", "seeds": len(outcomes[first]), "difference": difference.estimate}


def describe_pictures(detector: str, found: Detections, truth: Detections, threshold: float) -> dict[str, Any]:
    """The detections of the first test photographs, each a hit or a false alarm, and the crossings that were missed."""
    photographs = []
    for own, true in list(zip(found, truth, strict=True))[:_SHOWN]:
        kept = own.instances.scores >= threshold
        boxes, scores = own.instances.boxes[kept], own.instances.scores[kept]
        masks = None if own.instances.masks is None else own.instances.masks[kept]
        matches = match_detections(Instances(boxes, scores).centres, scores, true.instances.centres)
        missed = sorted(set(range(len(true.instances.boxes))) - set(matches.tolist()))
        photographs.append({
            "name": own.name,
            "boxes": boxes.tolist(),
            "masks": None if masks is None else [rle.encode(mask, (0, 0), mask.shape) for mask in masks],
            "hits": (matches >= 0).tolist(),
            "missed": true.instances.centres[missed].tolist(),
        })  # fmt: skip
    return {"detector": detector, "photographs": photographs}
