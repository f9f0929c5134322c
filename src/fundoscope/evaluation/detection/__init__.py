"""How well crossings are found, and whether activation maps lie where the disease is.

`matching` pairs detections with true crossings and gives precision, recall and F1 with intervals; `coco` gives the twelve
figures of the COCO challenge, `average_precision` two of them under weights of the photographs, and `paired` the differences
of detectors; `pointing` gives the share of an activation map that lies on a structure, beside chance.
"""

from fundoscope.evaluation.detection.average_precision import OverlapOutcome, OverlapRuns, match_overlaps
from fundoscope.evaluation.detection.coco import CocoScores, OverlapKind, coco_lines, coco_scores
from fundoscope.evaluation.detection.matching import (
    HIT_RADIUS,
    DetectionOutcome,
    DetectionPoint,
    Instances,
    PrecisionRecall,
    best_f1,
    best_worst_f1,
    detection_estimates,
    f1_difference,
    match_detections,
    near_any,
    precision_recall,
    score_instances,
    score_points,
)
from fundoscope.evaluation.detection.paired import paired_differences
from fundoscope.evaluation.detection.pointing import Pointing, pointing, pointing_summary

__all__ = [
    "HIT_RADIUS",
    "CocoScores",
    "DetectionOutcome",
    "DetectionPoint",
    "Instances",
    "OverlapKind",
    "OverlapOutcome",
    "OverlapRuns",
    "Pointing",
    "PrecisionRecall",
    "best_f1",
    "best_worst_f1",
    "coco_lines",
    "coco_scores",
    "detection_estimates",
    "f1_difference",
    "match_detections",
    "match_overlaps",
    "near_any",
    "paired_differences",
    "pointing",
    "pointing_summary",
    "precision_recall",
    "score_instances",
    "score_points",
]
