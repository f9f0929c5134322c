"""The report of a study: what was run, what it found, what to beware of, in one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fundoscope.evaluation import Difference, Estimate
from fundoscope.evaluation.figures import Curve, confusion, learning_curve, precision_recall, reliability, roc
from fundoscope.reports import Check, Figure, Picture, Section, StudyPage, Table, write_study_report
from fundoscope.reports import Estimate as Cell
from fundoscope.rop.assess import Assessment
from fundoscope.rop.fitting import Task, epochs_of

_GALLERY = 8  # photographs shown of those that were graded most wrongly


def write_report(found: Assessment, folder: Path, stamps: Sequence[str]) -> Path:
    """Draw the figures into `folder`/figures and write `folder`/report.html; returns its path."""
    drawn = folder / "figures"
    drawn.mkdir(exist_ok=True)
    manifest = found.study.manifest
    sections = [
        _sample(found), _results(found, drawn), _controls(found), _int8(found), _learning(found, drawn), _errors(found),
    ]  # fmt: skip
    page = StudyPage(
        title="Retinopathy of prematurity: normal against ROP",
        lead="Out-of-fold figures: every photograph was graded by networks that never saw it, nor any of its group; "
             "stopping, temperature and threshold were settled on inner photographs.",
        stamps=tuple(stamps),
        facts={
            "recipe": ", ".join(f"{recipe.name} ({recipe.network})" for recipe in found.recipes),
            "folds": len(found.pairs), "seeds": found.seeds, "photographs": len(found.labels),
            "data (SHA-256)": manifest["cohort_sha256"],
            "versions": ", ".join(f"{name} {version}" for name, version in manifest["versions"].items()),
        },
        commands=manifest["commands"],
        sections=sections,
    )  # fmt: skip
    report = folder / "report.html"
    write_study_report(report, page)
    return report


def _sample(found: Assessment) -> Section:
    folds, groups = found.material.folds, found.material.groups
    return Section(
        "Photographs and folds",
        paragraphs=(f"Groups that are never parted: {groups.rule}.",),
        checks=(Check("every photograph is tested exactly once", True, folds.check_partition()),
                Check("no group stands in two parts of a fold", True, f"{len(groups)} groups")),
        tables=(Table(folds.table(found.material.cohort), "Counts by fold, part and class"),),
    )  # fmt: skip


def _results(found: Assessment, drawn: Path) -> Section:
    y, groups, seeds = found.labels, found.groups, found.seeds
    curves = [Curve(recipe.network, y, found.answers(recipe).p, groups) for recipe in found.recipes]
    curves.append(Curve("nuisance baseline", y, found.nuisance, groups))
    ours = found.ours
    called = ours.p[0] >= ours.thresholds[0]
    mean = ours.p.mean(axis=0)
    figures = (
        Figure(roc(drawn / "roc.png", curves), "ROC, out of fold; one line a seed"),
        Figure(precision_recall(drawn / "pr.png", curves), "Precision and recall, out of fold"),
        Figure(
            confusion(drawn / "confusion.png", y, called.astype(int)),
            "Decisions at each fold's own operating point, seed 0",
        ),
        Figure(reliability(drawn / "reliability.png", y, mean), f"Calibration of the mean over {seeds} seeds"),
    )
    named = ("auc", "sensitivity", "specificity", "accuracy", "precision", "f1", "average_precision", "brier", "ece",
             "calibration_slope", "calibration_intercept")  # fmt: skip
    rows = found.results
    tables = [Table(_cells([{"grader": row["grader"], **{name: row[name] for name in part}} for row in rows]), caption)
              for part, caption in ((named[:6], "Discrimination and decisions"), (named[6:], "Probabilities"))]  # fmt: skip
    if len(found.recipes) > 1:
        tables.append(Table(_cells(found.between_networks), "Networks, paired on the same photographs", reference=0))
    note = (
        f"Intervals: 95 %, {len(set(groups.tolist()))} groups resampled 2000 times; with several seeds the mean over seeds. "
        "The nuisance baseline knows only file size, field shape, colour and sharpness: a network must beat it."
    )
    return Section("Results", paragraphs=(note,), tables=tables, figures=figures)


def _controls(found: Assessment) -> Section:
    text = (
        "The same networks on the same photographs, made alike in what is not disease. A grader that lived on a "
        "shortcut would fall to the nuisance baseline here."
    )
    return Section("Without the shortcuts", paragraphs=(text,), tables=(Table(_cells(found.under_controls)),))


def _int8(found: Assessment) -> Section:
    text = "Each fold's network exported, INT8 calibrated on its inner photographs, both run on its held-out ones (seed 0)."
    return Section("What INT8 costs", paragraphs=(text,), tables=(Table(_cells(found.int8_rows)),))


def _learning(found: Assessment, drawn: Path) -> Section:
    fold = found.material.folds.folds[0]
    task = Task(found.recipes[0], 0, fold)
    curve = learning_curve(drawn / "learning.png", epochs_of(task, found.study))
    return Section("Learning", figures=(Figure(curve, f"{task.step}: loss in training and on inner photographs"),))


def _errors(found: Assessment) -> Section:
    mean = found.ours.p.mean(axis=0)
    wrong = np.argsort(-np.abs(mean - found.labels))[:_GALLERY]
    cohort = found.material.cohort
    pictures = [Picture(found.material.squares.pixels[row], cohort[row].image, (cohort[row].label, f"p(ROP) {mean[row]:.2f}"))
                for row in wrong.tolist()]  # fmt: skip
    return Section("Most wrongly graded", paragraphs=("Look at these first.",), pictures=pictures)


def _cells(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: _cell(value) for name, value in row.items()} for row in rows]


def _cell(value: Any) -> Any:
    estimate = value.estimate if isinstance(value, Difference) else value
    if not isinstance(estimate, Estimate):
        return round(value, 4) if isinstance(value, float) else value
    ends = (None, None) if np.isnan(estimate.low) else (estimate.low, estimate.high)
    return None if np.isnan(estimate.value) else Cell(estimate.value, *ends, estimate.n)
