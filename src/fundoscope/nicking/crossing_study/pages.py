"""Step 5 of a study of crossings: the report. Reads study.json, split.json, results.json, the losses and the kept pictures.

Writes report.html and figures/. It computes nothing.
"""

from __future__ import annotations

import colorsys
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fundoscope.datasets import rle
from fundoscope.imaging import Pixels, read
from fundoscope.reports import StudyPage, write_study_report
from fundoscope.reports.plots import losses_by_step
from fundoscope.reports.study import Picture, ReportFigure, Section, Table
from fundoscope.studies import MANIFEST
from fundoscope.vessels import draw

HIT, MISS, ALARM = (0, 158, 115), (213, 94, 0), (240, 228, 66)  # Okabe and Ito (2008)
_LOSSES = ("total", "classifier", "box", "mask", "objectness", "rpn")


def write_report(folder: Path) -> Path:
    """Draw the report of an evaluated study into its folder; returns the path of report.html."""
    manifest, split, results = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in (MANIFEST, "split.json", "results.json")
    )
    recipe = manifest["recipe"]
    page = StudyPage(
        title="Where arteries cross veins: Mask R-CNN on photographs and patches",
        lead="Tested on photographs that took no part in training; the confidence that counts was chosen on inner photographs.",
        facts={
            **{f"photographs, {part}": len(names) for part, names in split.items()},
            "recipe": recipe["name"], "body": recipe["detector"]["body"], "maps of the pyramid": recipe["detector"]["maps"],
            "labels": recipe["labels"], "seeds": manifest["seeds"],
            "versions": ", ".join(f"{name} {version}" for name, version in manifest["versions"].items()),
        },
        commands=manifest["commands"],
        sections=[_figures_section(results), _losses_section(folder), _pictures_section(folder, results["shown"])],
    )  # fmt: skip
    report = folder / "report.html"
    write_study_report(report, page)
    return report


def _figures_section(results: dict[str, Any]) -> Section:
    tables = [
        Table(results["coco"], "COCO's figures: boxes (bbox) and masks (segm), all areas"),
        Table(results["detection"], "Whole photographs, both steps: hits within half a box, 95 % intervals by photograph"),
        Table(results["steps"], "AP50 and AP of the steps, mean over seeds: why patches differ from whole photographs"),
    ]  # fmt: skip
    if results["difference"]:
        tables.append(Table(results["difference"], "F1 of the pyramids, paired, mean over seeds"))
        tables.append(
            Table(results["pyramids"], "AP50 and AP of the pyramids, by the vein's width and the field's diameter")
        )
    note = (
        "One box without looking: a box of the inner photographs' mean size in the middle of each patch. Crossings lie up to a "
        "third of the side off the middle, so it shows that their place gives nothing away, and is no opponent for a detector."
    )
    return Section("How well crossings are found", [note], tables=tables)


def _losses_section(folder: Path) -> Section:
    drawn = folder / "figures"
    drawn.mkdir(exist_ok=True)
    figures = []
    for log in sorted((folder / "fits").glob("*/step_*/steps.csv")):
        detector, step = log.parts[-3:-1]
        if len(log.read_text(encoding="utf-8").splitlines()) > 1:
            curve = losses_by_step(drawn / f"{detector}-{step}.png", log, _LOSSES)
            figures.append(ReportFigure(curve, f"{detector}, {step}"))
    return Section("Losses", ["Means over ten steps each."], figures=figures)


def _pictures_section(folder: Path, shown: dict[str, Any]) -> Section:
    pictures = []
    for number, found in enumerate(shown["photographs"], start=1):
        pixels = read(folder / "detections" / "pictures" / f"{number:02d}.png").pixels
        hits = sum(found["hits"])
        counts = f"{hits} hits, {len(found['missed'])} missed, {len(found['hits']) - hits} false alarms"
        pictures.append(Picture(colour_instances(pixels, found), found["name"], [f"{len(found['boxes'])} found"]))
        pictures.append(Picture(mark_hits_and_misses(pixels, found), found["name"], [counts]))
    note = (
        f"{shown['detector']}, after the first step, from its chosen confidence on. Left: each crossing's box and mask in a colour "
        "of its own. Right: hits green, misses red rings, false alarms yellow."
    )
    return Section("Photographs of the test part", [note], pictures=pictures)


def colour_instances(pixels: Pixels, found: dict[str, Any]) -> Pixels:
    """A photograph with the box and the mask of each detection in a colour of its own; `found` as results.json has it."""
    picture = np.array(pixels)
    for number, box in enumerate(found["boxes"]):
        hue = (number * 0.381966) % 1  # the golden section keeps neighbours apart
        red, green, blue = (round(255 * value) for value in colorsys.hsv_to_rgb(hue, 0.85, 1.0))
        if found["masks"] is not None:
            picture = draw.tinted(picture, rle.decode(found["masks"][number]), (red, green, blue), 0.7)
        _draw_box(picture, box, (red, green, blue))
    return picture


def mark_hits_and_misses(pixels: Pixels, found: dict[str, Any]) -> Pixels:
    """A photograph with hits, misses and false alarms marked; `found` as results.json has it."""
    picture = np.array(pixels)
    for box, hit in zip(found["boxes"], found["hits"], strict=True):
        _draw_box(picture, box, HIT if hit else ALARM)
    for place in found["missed"]:
        draw.ring(picture, np.array(place), 11, MISS)
    return picture


def _draw_box(picture: Pixels, box: list[float], colour: tuple[int, int, int]) -> None:
    x1, y1, x2, y2 = (round(v) for v in box)
    cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), colour, 1)
