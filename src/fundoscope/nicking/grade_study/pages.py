"""Step 8: the report of a study of grades, drawn from results.json, tables/ and explanations/. Nothing is computed here."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from fundoscope.imaging import read
from fundoscope.nicking.grade_study.prediction_table import EXPLANATIONS, REPORT, RESULTS, TABLES, TRANSFERRED
from fundoscope.reports import StudyPage, write_study_report
from fundoscope.reports.plots import PlottedCurve, draw_precision_recall, draw_roc, grade_confusion, learning_curve
from fundoscope.reports.study import Picture, ReportFigure, Section, Table
from fundoscope.studies import MANIFEST

_FIRST_FIT = "seed_0/fold_0/fit/epochs.csv"
_PATCH_WIDTH = 128 * 4  # pixels: a picture of four squares

Row = dict[str, Any]


def write_pages(folder: Path) -> Path:
    """Draw figures/ and write report.html of the study in `folder`; returns the report's path."""
    study, results = (json.loads((folder / name).read_text(encoding="utf-8")) for name in (MANIFEST, RESULTS))
    (folder / "figures").mkdir(exist_ok=True)
    page = StudyPage(
        title="How far the artery pinches the vein",
        lead="Every figure is of patches whose photographs took no part in training or choosing, with 95 % intervals by photograph.",
        facts={
            "patches": ", ".join(f"{name} {n}" for name, n in study["patches"].items()),
            "recipe": study["recipe"]["name"], "folds": study["folds"], "upstream": ", ".join(study["upstream"]),
            "share of a stream's parameters transferred from the detector": _transferred(json.loads((folder / TRANSFERRED).read_text(encoding="utf-8"))),
            "versions": ", ".join(f"{name} {version}" for name, version in study["versions"].items()),
        },
        commands=study["commands"],
        sections=[
            _grades_section(folder, results), _perturbed_section(folder, study["recipe"]["calibration"]["refused_share"]), _losses_section(folder, results["graders"]),
            _explanations_section(folder),
        ],
    )  # fmt: skip
    write_study_report(folder / REPORT, page)
    return folder / REPORT


def _grades_section(folder: Path, results: Row) -> Section:
    drawn, graders, figures = folder / "figures", results["graders"], _read_table(folder, "grades")
    curves = {
        "roc": [
            PlottedCurve(_legend(row, "AUC", "nicked_auc"), [curve["roc"]], curve["roc_band"] and tuple(curve["roc_band"]))
            for row, curve in zip(figures, results["curves"].values(), strict=True)
        ],
        "precision_recall": [
            PlottedCurve(_legend(row, "AP", "nicked_average_precision"), [curve["precision_recall"]])
            for row, curve in zip(figures, results["curves"].values(), strict=True)
        ],
    }  # fmt: skip
    title = "grade 0 against 1 to 3"
    pictures = [
        ReportFigure(draw_roc(drawn / "roc.png", curves["roc"], title), "ROC: nicked or not"),
        ReportFigure(
            draw_precision_recall(drawn / "pr.png", curves["precision_recall"], results["nicked_share"], title),
            "Precision and recall",
        ),
    ]
    for grader in graders:
        cells = np.array(results["confusion"][grader])
        path = grade_confusion(drawn / f"confusion_{grader}.png", cells, grader)
        pictures.append(ReportFigure(path, f"{grader}: truth by row, predicted grade by column"))
    tables = [
        Table(figures, "On the study's own patches, out of fold", strong=[0]),
        Table(_read_table(folder, "differences"), "Paired differences of quadratic kappa"),
        Table(_read_table(folder, "other_tables"), "On other patches"),
        Table(_read_table(folder, "detection"), "The second detection step on the patches, and a box that stands in the middle"),
    ]  # fmt: skip
    mix = "papers_mix: the same patches, weighed so that grades come as in the 90-patch set (48, 16, 14, 12)."
    return Section("How well patches are graded", [mix], tables=tables, figures=pictures)


def _perturbed_section(folder: Path, refused_share: float) -> Section:
    bound = f"{refused_share:.0%} of the inner patches, those of the lowest confidence, set the bound below which none is graded."
    tables = [
        Table(_read_table(folder, "shams"), "Of the patches that are graded at all"),
        Table(
            _read_table(folder, "perturbed"),
            "Quadratic kappa with the grade of the unperturbed patch, and with the truth",
        ),
    ]
    return Section("Shams, and patches perturbed in ways that leave the grade", [bound], tables=tables)


def _losses_section(folder: Path, graders: list[str]) -> Section:
    figures = []
    for grader in graders:
        log = folder / "fits" / grader / _FIRST_FIT
        if log.exists():
            path = folder / "figures" / f"losses_{grader}.png"
            learning_curve(path, log, ("train_loss", "inner_loss"), grader)
            figures.append(ReportFigure(path, f"{grader}, first fold: loss on training and inner patches"))
    return Section("Losses", figures=figures)


def _explanations_section(folder: Path) -> Section:
    text = (
        "Gradient-weighted class activation of each stream, in closed form. The score is the share of its mass on the vein "
        "beside the artery, over that of the patch's area. Pictures: patch, maps, activation of both streams."
    )
    tables = [Table(_read_table(folder, "pointing"), "Nicked patches")]
    pictures = [
        Picture(read(path).pixels, re.sub(r", \d+ ", ", ", path.stem), side=_PATCH_WIDTH)
        for path in sorted((folder / EXPLANATIONS).glob("*.png"))
    ]
    return Section("Where the networks look", [text], tables=tables, pictures=pictures)


def _transferred(shares: dict[str, dict[str, float]]) -> str:
    """Such as "published 92 % (even), 0 % (shipped)"."""
    lines = (f"{arm} {', '.join(f'{share:.0%} ({name})' for name, share in of.items())}" for arm, of in shares.items())
    return "; ".join(lines) or "none was asked for"


def _legend(row: Row, short: str, name: str) -> str:
    """Which grader it is, with a figure and its interval where it has one."""
    if row.get(f"{name}_low") is None:
        return f"{row['grader']}: {short} {row[name]}"
    return f"{row['grader']}: {short} {row[name]:.2f} ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"


def _read_table(folder: Path, name: str) -> list[Row]:
    """The rows of a table of tables/ with numbers as numbers; none where it was not written."""
    path = folder / TABLES / f"{name}.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: _parse_cell(cell) for key, cell in row.items()} for row in csv.DictReader(file)]


def _parse_cell(cell: str) -> Any:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell or None
