"""The report of a study of crossings: figures as COCO gives them, curves, and photographs with what was found."""

from __future__ import annotations

import colorsys
from pathlib import Path

import cv2
import numpy as np

from fundoscope.evaluation.detection import Instances, match_detections
from fundoscope.evaluation.metrics import results_table
from fundoscope.imaging import Pixels
from fundoscope.nicking.crossing_study.run import Found, Shown
from fundoscope.reports import StudyPage, write_study_report
from fundoscope.reports.plots import losses_by_step
from fundoscope.reports.study import Picture, ReportFigure, Section, Table
from fundoscope.vessels import draw

HIT, MISS, ALARM = (0, 158, 115), (213, 94, 0), (240, 228, 66)  # Okabe and Ito (2008)
_LOSSES = ("total", "classifier", "box", "mask", "objectness", "rpn")
_SHOWN = 6  # photographs


def write_report(found: Found, folder: Path) -> Path:
    """Draw the figures into `folder`/figures and write `folder`/report.html; returns its path."""
    drawn = folder / "figures"
    drawn.mkdir(exist_ok=True)
    study = found.study
    manifest, names = study.study.manifest, study.split.names
    page = StudyPage(
        title="Where arteries cross veins: Mask R-CNN on photographs and patches",
        lead="Tested on photographs that took no part in training; the confidence that counts was chosen on inner photographs.",
        facts={
            **{f"photographs, {part}": len(each) for part, each in names.items()},
            "body": study.options.detector.body, "maps of the pyramid": study.options.detector.maps,
            "labels": study.options.labels, "seeds": study.options.seeds,
            "versions": ", ".join(f"{name} {version}" for name, version in manifest["versions"].items()),
        },
        commands=manifest["commands"],
        sections=[_scores(found), _curves(found, drawn), _photographs(found)],
    )  # fmt: skip
    report = folder / "report.html"
    write_study_report(report, page)
    return report


def _scores(found: Found) -> Section:
    apart = found.difference()
    tables = [
        Table(results_table(found.coco), "COCO's figures: boxes (bbox) and masks (segm), all areas"),
        Table(results_table(found.detection), "Whole photographs, first step: hits within half a box, 95 % intervals by photograph"),
        *([Table(results_table([apart]), "Paired difference, mean over seeds")] if apart else []),
    ]  # fmt: skip
    told = "The centre box is the trivial detector of patches: a box of the paper's size in the middle of each."
    return Section("How well crossings are found", [told], tables=tables)


def _curves(found: Found, drawn: Path) -> Section:
    logs = sorted((found.study.study.folder / "fits").glob("*/step_*/steps.csv"))
    figures = [
        ReportFigure(losses_by_step(drawn / f"{log.parts[-3]}-{log.parts[-2]}.png", log, _LOSSES), f"{log.parts[-3]}, {log.parts[-2]}")
        for log in logs
        if len(log.read_text().splitlines()) > 1
    ]  # fmt: skip
    return Section("Losses", ["Means over ten steps each."], figures=figures)


def _photographs(found: Found) -> Section:
    (pyramid, seed), answers = next(iter(found.answers.items()))
    least = found.points[pyramid][0].threshold
    pictures = []
    for shown, answer in list(zip(found.study.tested, answers, strict=True))[:_SHOWN]:
        sure = surer(answer, least)
        pictures.append(Picture(coloured(shown.pixels, sure), shown.name, [f"{len(sure.boxes)} found"]))
        judged, counts = hits_and_misses(shown, sure)
        pictures.append(Picture(judged, shown.name, [counts]))
    told = (
        f"{pyramid}, seed {seed}, after the first step, from its chosen confidence on. Left: each crossing's box and mask in a colour "
        "of its own. Right: hits green, misses red rings, false alarms yellow."
    )
    return Section("Photographs of the test part", [told], pictures=pictures)


def surer(found: Instances, least: float) -> Instances:
    """The instances of at least that confidence."""
    kept = found.scores >= least
    return Instances(found.boxes[kept], found.scores[kept], None if found.masks is None else found.masks[kept])


def coloured(pixels: Pixels, found: Instances) -> Pixels:
    """A photograph with the box and the mask of each instance in a colour of its own."""
    picture = np.ascontiguousarray(pixels)
    for number, box in enumerate(found.boxes):
        hue = (number * 0.381966) % 1  # the golden section keeps neighbours apart
        red, green, blue = (round(255 * value) for value in colorsys.hsv_to_rgb(hue, 0.85, 1.0))
        if found.masks is not None:
            picture = draw.tinted(picture, found.masks[number], (red, green, blue), 0.7)
        _box(picture, box, (red, green, blue))
    return picture


def hits_and_misses(shown: Shown, found: Instances) -> tuple[Pixels, str]:
    """A photograph with hits, misses and false alarms, and how many there are of each."""
    picture = np.array(shown.pixels)
    of = match_detections(found.centres, found.scores, shown.truth.centres)
    for box, crossing in zip(found.boxes, of, strict=True):
        _box(picture, box, HIT if crossing >= 0 else ALARM)
    missed = sorted(set(range(len(shown.truth.boxes))) - set(of.tolist()))
    for number in missed:
        draw.ring(picture, shown.truth.centres[number], 11, MISS)
    hits = int((of >= 0).sum())
    return picture, f"{hits} hits, {len(missed)} missed, {len(of) - hits} false alarms"


def _box(picture: Pixels, box: np.ndarray, colour: tuple[int, int, int]) -> None:
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), colour, 1)
