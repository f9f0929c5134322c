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
from fundoscope.reports.plots import (
    PlottedCurve,
    draw_precision_recall,
    draw_roc,
    grade_confusion,
    learning_curve,
    line_style,
    styled_figure,
)
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
        lead="Every figure is of patches whose photographs took no part in training or choosing, with 95 % intervals by photograph, crossing and seed.",
        facts={
            "patches": ", ".join(f"{name} {n}" for name, n in study["patches"].items()),
            "recipe": study["recipe"]["name"], "folds": study["folds"], "upstream": ", ".join(study["upstream"]),
            "share of a stream's parameters transferred from the detector": _transferred(json.loads((folder / TRANSFERRED).read_text(encoding="utf-8"))),
            "versions": ", ".join(f"{name} {version}" for name, version in study["versions"].items()),
        },
        commands=study["commands"],
        sections=[
            _grades_section(folder, results), _coverage_section(folder, results["drawn"], study["recipe"]["calibration"]["coverage"]),
            _perturbed_section(folder, results["drawn"]), _losses_section(folder, results["graders"]), _explanations_section(folder),
        ],
    )  # fmt: skip
    write_study_report(folder / REPORT, page)
    return folder / REPORT


def _grades_section(folder: Path, results: Row) -> Section:
    drawn, figures = folder / "figures", _read_table(folder, "grades")
    by_name = {row["grader"]: row for row in figures}
    curves = {
        "roc": [
            PlottedCurve(_legend(by_name[arm], "AUC", "2_or_3_auc"), [curve["roc"]], curve["roc_band"] and tuple(curve["roc_band"]))
            for arm, curve in results["curves"].items()
        ],
        "precision_recall": [
            PlottedCurve(_legend(by_name[arm], "AP", "2_or_3_average_precision"), [curve["precision_recall"]])
            for arm, curve in results["curves"].items()
        ],
    }  # fmt: skip
    title = "grade 2 or 3 against 0 or 1"
    pictures = [
        ReportFigure(draw_roc(drawn / "roc.png", curves["roc"], title), f"ROC: {title}"),
        ReportFigure(
            draw_precision_recall(drawn / "pr.png", curves["precision_recall"], results["positive_share"], title),
            "Precision and recall",
        ),
    ]
    for grader in results["drawn"]:
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
    return Section(
        "How well patches are graded", [*filter(None, results["sentences"]), mix], tables=tables, figures=pictures
    )


def _coverage_section(folder: Path, drawn: list[str], coverage: float) -> Section:
    rule = (
        f"A fit grades a patch where the probability of its likeliest grade is at least the one that {coverage:.0%} of its inner patches "
        "reach. The curve grades the surest share of the tested patches instead, whatever that share is."
    )
    rows = [row for row in _read_table(folder, "coverage") if row["grader"] in drawn]
    path = draw_coverage(folder / "figures" / "coverage.png", rows)
    figure = ReportFigure(path, "Quadratic kappa and share of wrong grades by the share of patches that is graded")
    tables = [
        Table(rows, "By coverage"),
        Table(_of_drawn(folder, "by_width", drawn), "By the width of the vein, at the scale of the vessel maps"),
    ]
    return Section("Where nothing is said instead", [rule], tables=tables, figures=[figure])


def draw_coverage(path: Path, rows: list[Row]) -> Path:
    """Quadratic kappa (left) and the share of wrong grades (right) by coverage, a line a grader; rows as in coverage.csv."""
    with styled_figure(path, (9.0, 4.2)) as figure:
        for axes, name in zip(figure.subplots(1, 2), ("quadratic_kappa", "error"), strict=True):
            for index, grader in enumerate(dict.fromkeys(row["grader"] for row in rows)):
                points = [
                    (row["coverage"], row[name]) for row in rows if row["grader"] == grader and row[name] is not None
                ]
                axes.plot(*np.array(points, float).reshape(-1, 2).T, label=grader, **line_style(index))
            axes.set_xlabel("coverage: share of patches that is graded")
            axes.set_ylabel("quadratic kappa" if name == "quadratic_kappa" else "share of wrong grades")
        axes.legend(loc="best")
    return path


def _perturbed_section(folder: Path, drawn: list[str]) -> Section:
    tables = [
        Table(_of_drawn(folder, "shams", drawn), "Healthy veins told as 0, by sham"),
        Table(
            _of_drawn(folder, "perturbed", drawn),
            "Quadratic kappa with the grade of the unperturbed patch, and with the truth",
        ),
        Table(_of_drawn(folder, "exchanged", drawn), "Grades with the maps of artery and vein exchanged"),
    ]
    note = "covered: where the grader is confident, perturbed and unperturbed. Not drawn here, but in tables/: the other arms."
    return Section("Shams, perturbed patches, exchanged maps", [note], tables=tables)


def _of_drawn(folder: Path, name: str, drawn: list[str]) -> list[Row]:
    return [row for row in _read_table(folder, name) if row["grader"] in drawn]


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
        "Gradient-weighted class activation of each stream. over_chance is the share of its mass on the vein beside the artery, over "
        "that of the patch's area. Pictures: local contrast, maps, activation of both streams. A network that learnt shuffled "
        "grades points, too: only beside it does a figure mean something."
    )
    tables = [
        Table(_read_table(folder, "pointing"), "Activation on the vein's flanks, nicked patches"),
        Table(
            _read_table(folder, "deletion"), "Fall of the probability of a nick where a tenth of the input is blanked"
        ),
        Table(
            _read_table(folder, "activation_changes"), "Share of the activation that stays where the input is changed"
        ),
    ]
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
