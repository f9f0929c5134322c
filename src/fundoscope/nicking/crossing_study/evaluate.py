"""Step 4 of a study of crossings: the figures. Reads study.json and detections/, writes results.json and tables/.

No torch and no pages. The confidence from which on a detection counts is chosen on the inner photographs. Boxes are scored on all photographs,
masks on those whose vessels are known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from fundoscope.datasets import rle
from fundoscope.errors import StudyError
from fundoscope.evaluation.detection import (
    HIT_RADIUS,
    DetectionOutcome,
    DetectionPoint,
    Instances,
    best_f1,
    coco_lines,
    coco_scores,
    detection_estimates,
    f1_difference,
    match_detections,
    near_any,
    score_instances,
)
from fundoscope.evaluation.metrics import results_table
from fundoscope.nicking.crossing_study.detections import (
    DETECTIONS,
    STEPS,
    PhotographDetections,
    arm_name,
    read_detections,
)
from fundoscope.nicking.crossing_study.pyramid_figures import WHERE, compare_pyramids, compare_steps
from fundoscope.studies import MANIFEST, write_json

#: What the detector is called that looks at nothing.
BLIND = "one box without looking"
RESULTS_FILE = "results.json"
_SHOWN = 6  # photographs of the test part that the report shows

Detections = list[PhotographDetections]


def evaluate_study(folder: Path) -> dict[str, Any]:
    """The figures of the study in a folder whose detections are there; also written as results.json and tables/."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    truth = {path.stem: read_detections(path) for path in sorted((folder / DETECTIONS / "truth").glob("*.jsonl"))}
    found = {
        (pyramid, seed, step): _read_found(folder, truth, pyramid, seed, step)
        for pyramid, seed, step in product(manifest["pyramids"], range(manifest["seeds"]), STEPS)
    }
    side = manifest["recipe"]["test_patches"]["side"]
    blind = blind_boxes(truth["patches"], side, mean_box(truth["inner"]))
    coco, lines = coco_rows(BLIND, "", "patches", truth["patches"], blind)
    detection: list[dict[str, object]] = []
    outcomes: dict[tuple[int, str], list[list[DetectionOutcome]]] = {}
    points: dict[tuple[int, str], list[DetectionPoint]] = {}
    for (pyramid, seed, step), own in found.items():
        for part, on in WHERE.items():
            more_rows, more_lines = coco_rows(pyramid, seed, f"{on}, step {step}", truth[part], own[part])
            coco, lines = coco + more_rows, lines + more_lines
        point = best_f1(score_photographs(own["inner"], truth["inner"]))
        scored = score_photographs(own["test"], truth["test"])
        for dataset, rows in rows_by_set(truth["test"]).items():
            about = {"detector": pyramid, "seed": seed, "step": step, "set": dataset, "confidence": point.threshold}
            detection.append({**about, **detection_estimates([scored[k] for k in rows], point.threshold)})
        outcomes.setdefault((step, pyramid), []).append(scored)
        points.setdefault((step, pyramid), []).append(point)

    first, *others = manifest["pyramids"]
    shown = (first, 0, STEPS[0])
    tables = folder / "tables"
    tables.mkdir(exist_ok=True)
    (tables / "coco.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    differences = [f1_difference_row(outcomes, points, step, first, other) for step in STEPS for other in others]
    bounds = manifest["recipe"]["test_photographs"]["width_bounds"]
    results = {
        "coco": results_table(coco, tables / "coco.csv"),
        "detection": results_table(detection, tables / "detection.csv"),
        "difference": results_table(differences, tables / "difference.csv") if differences else [],
        "pyramids": results_table(compare_pyramids(truth, found, bounds), tables / "pyramids.csv") if others else [],
        "steps": results_table(compare_steps(truth, found), tables / "steps.csv"),
        "shown": describe_pictures(
            f"{first}, seed 0", found[shown]["test"], truth["test"], points[STEPS[0], first][0].threshold
        ),
    }
    write_json(folder / RESULTS_FILE, results)
    return results


def _read_found(
    folder: Path, truth: Mapping[str, Detections], pyramid: str, seed: int, step: int
) -> dict[str, Detections]:
    """What a detector found in each part, without what it found at doubtful places only."""
    own = folder / DETECTIONS / arm_name(pyramid, seed) / f"step_{step}"
    read = {part: read_detections(own / f"{part}.jsonl") for part in truth}
    return {part: [leave_out_doubtful(*pair) for pair in zip(read[part], truth[part], strict=True)] for part in truth}


def leave_out_doubtful(found: PhotographDetections, truth: PhotographDetections) -> PhotographDetections:
    """The detections without those that hit no crossing and lie at a doubtful place: they are neither right nor wrong."""
    seen, radius = found.instances, HIT_RADIUS * truth.scale
    hit = match_detections(seen.centres, seen.scores, truth.instances.centres, radius) >= 0
    kept = hit | ~near_any(seen.centres, truth.doubtful, radius)
    masks = None if seen.masks is None else seen.masks[kept]
    return replace(found, instances=Instances(seen.boxes[kept], seen.scores[kept], masks))


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
    return [score_instances(a.instances, b.instances, HIT_RADIUS * b.scale) for a, b in zip(found, truth, strict=True)]


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
    outcomes: Mapping[tuple[int, str], list[list[DetectionOutcome]]],
    points: Mapping[tuple[int, str], list[DetectionPoint]],
    step: int,
    first: str,
    second: str,
) -> dict[str, object]:
    """F1 of the first pyramid less the second's after a step, paired by photograph, mean over seeds, each seed at its own
    confidence, the one that its own inner photographs chose; photographs and seeds are resampled.
    """
    own = [[point.threshold for point in points[step, pyramid]] for pyramid in (first, second)]
    difference = f1_difference(outcomes[step, first], outcomes[step, second], (own[0], own[1]), (first, second))
    about = {"what": f"F1, {first} less {second}", "step": step, "seeds": len(own[0])}
    return {**about, "difference": difference.estimate}


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
