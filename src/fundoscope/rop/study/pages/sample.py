"""Whose photographs these are, how they were divided, and what the networks are shown of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fundoscope.evaluation.metrics import parse_numbers
from fundoscope.reports import Check, Picture, ReportFigure, Section, Table
from fundoscope.reports.clinic_plots import histograms
from fundoscope.rop.study.evaluate import Assessment
from fundoscope.rop.study.questions import TREATMENT

_SHOWN = 4  # photographs of each kind

#: Columns of a cohort that are drawn as histograms where it has them, and their units (paper 000, figure 6).
_MEASURED = {"gestational_age": "weeks", "birth_weight": "g"}


def sections(found: Assessment, drawn: Path) -> list[Section]:
    """Counts and checks, histograms, and pictures."""
    return [_folds(found, drawn), _enhanced(found), *_treatment(found)]


def _folds(found: Assessment, drawn: Path) -> Section:
    folds, groups, cohort = found.material.folds, found.material.groups, found.material.cohort
    return Section(
        "Photographs and folds",
        paragraphs=(f"Groups that are never parted: {groups.rule}.", *filter(None, [found.material.missing])),
        checks=(Check("every photograph is tested exactly once", True, folds.check_partition()),
                Check("no group stands in two parts of a fold", True, f"{len(groups)} groups")),
        tables=(Table(folds.table(cohort), "Counts by fold, part and class (as table 3 of the paper)"),),
        figures=_histograms(found, drawn),
    )  # fmt: skip


def _histograms(found: Assessment, drawn: Path) -> tuple[ReportFigure, ...]:
    cohort = found.material.cohort
    columns = {}
    for name, unit in _MEASURED.items():
        values = parse_numbers([record.extra.get(name, "") for record in cohort])
        if np.isfinite(values).any():
            columns[name.replace("_", " ")] = (values, unit)
    if not columns:
        return ()
    classes = [_kind(record.label, record.treatment_requiring) for record in cohort]
    return (ReportFigure(histograms(drawn / "infants.png", columns, classes), "Infants by class, a photograph each"),)


def _kind(label: str, treatment: bool | None) -> str:
    return label if treatment is None or label == "normal" else "ROP, treatment" if treatment else "ROP, no treatment"


def _enhanced(found: Assessment) -> Section:
    """ReportFigure 3 of the paper: before and after the contrast was evened."""
    squares, cohort = found.material.squares, found.material.cohort
    pictures = []
    for label in (0, 1):
        for row in np.flatnonzero(cohort.labels == label)[: _SHOWN // 2].tolist():
            pictures.append(
                Picture(squares.pixels[row], cohort[row].image, (cohort[row].label, "as the standard cuts it"))
            )
            pictures.append(Picture(squares.standard.enhance(squares.pixels[row]), cohort[row].image,
                                    (cohort[row].label, "contrast evened (CLAHE)")))  # fmt: skip
    return Section("What the networks see", pictures=pictures)


def _treatment(found: Assessment) -> list[Section]:
    """ReportFigure 11 of the paper: ROP that needs no treatment beside ROP that does."""
    if len(found.material.questions) < 2:
        return []
    question, cohort = found.material.question(TREATMENT), found.material.cohort
    pictures = [
        Picture(found.material.squares.pixels[row], cohort[row].image, (question.classes[label],))
        for label in (0, 1)
        for row in np.flatnonzero(question.labels == label)[:_SHOWN].tolist()
    ]
    return [Section("ROP without and with need of treatment", pictures=pictures)]
