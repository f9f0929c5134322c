"""What paper 000 lacks: the two stages in a row, whole infants, thresholds, abstention, subgroups, predictive values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fundoscope.evaluation.decisions import (
    Cascade,
    InnerPredictions,
    choose_band,
    coverage_risk,
    decision_curve,
    operating_rows,
    predictive_values,
    score_cascade,
)
from fundoscope.evaluation.metrics import cut_into_bands, results_table, subgroup_rows
from fundoscope.reports import ReportFigure, Section, Table
from fundoscope.reports.clinic_plots import coverage, decision
from fundoscope.rop.study.evaluate import Asked, Assessment
from fundoscope.rop.study.pages.cells import cells
from fundoscope.rop.study.shuffled_labels import shuffle_control
from fundoscope.rop.study.units import answers_by_unit, told, units_of

#: Columns that make subgroups, cut as neonatologists do (paper 000 names none).
_CUTS = {"birth_weight": ((1000, 1500), "g"), "gestational_age": ((28, 32), "weeks")}
_NAMED = ("camera", "site", "device", "sex", "ethnicity")
_MOST_ERRORS = 0.05


def sections(found: Assessment, drawn: Path) -> list[Section]:
    """Units and cascade, operating points, abstention, subgroups, and the control with shuffled labels."""
    return [
        _units(found), *_cascade(found), _operating(found), _abstention(found, drawn), *_subgroups(found),
        *_predictive(found), *_shuffled(found),
    ]  # fmt: skip


def _tables(found: Assessment) -> Path:
    return found.fits.study.folder / "tables"


def unit_rows(found: Assessment) -> tuple[list[dict[str, Any]], list[str]]:
    """Stage 1 of the reference by photograph, eye, exam and infant; and which rules the folds chose."""
    asked, rows, rules = found.first, [], []
    for name, views in units_of(found.material.cohort).items():
        answers = answers_by_unit(found.fits, found.arm(asked.reference), asked.question, views)
        unit = Asked(
            asked.question, views.first, views.any_positive(asked.question.labels), found.groups[views.first], {}, ""
        )
        rows.append({"unit": name, **unit.estimates(answers.p, answers.thresholds)})
        rules.append(f"{name}: {told(answers.rules)}")
    return rows, rules


def _units(found: Assessment) -> Section:
    rows, rules = unit_rows(found)
    results_table(rows, _tables(found) / "units_rop.csv")
    kept = ("unit", "auc", "sensitivity", "specificity", "accuracy")
    text = (
        "A unit has ROP if any of its views has. How views become one probability (the highest, the second highest, the "
        "mean) was chosen by each fold on its inner units, and so was the threshold. Chosen: " + "; ".join(rules) + "."
    )
    table = Table(cells([{name: row[name] for name in kept} for row in rows]))
    return Section("By photograph, eye, exam and infant", paragraphs=(text,), tables=(table,))


def cascade_rows(found: Assessment) -> list[dict[str, Any]]:
    """Both stages of the reference in a row, by each unit."""
    first, second = found.material.questions
    arm, rows = found.arm(found.first.reference), []
    for name, views in units_of(found.material.cohort).items():
        one, two = (answers_by_unit(found.fits, arm, question, views) for question in (first, second))
        cascade = Cascade(one.p, two.p, one.thresholds, two.thresholds)
        truth = views.any_positive(second.labels == 1), views.any_positive(first.labels)
        scored = score_cascade(*truth, cascade, found.groups[views.first])
        rows += [{"unit": name, **row} for row in scored]
    return rows


def _cascade(found: Assessment) -> list[Section]:
    if len(found.material.questions) < 2:
        return []
    rows = cascade_rows(found)
    results_table(rows, _tables(found) / "cascade.csv")
    text = (
        "The two stages as the one grader that they are: called is what stage 1 calls ROP and stage 2 calls "
        "treatment-requiring. The paper scores its stages apart; if its stages missed independently, .9456 x .9516 = .900 "
        "of the treatment-requiring would be found."
    )
    return [Section("The cascade, end to end", paragraphs=(text,), tables=(Table(cells(rows)),))]


def _inner(found: Assessment, asked: Asked) -> list[InnerPredictions]:
    """What each fit knew when it chose its threshold, on the question's own photographs."""
    place = np.full(len(found.groups), -1)
    place[asked.rows] = np.arange(len(asked.rows))
    known = []
    for inner in found.fits.inner(found.arm(asked.reference), asked.question):
        keep = place[inner.rows] >= 0
        tested = place[np.array(inner.task.fold.test)]
        y = asked.question.labels[inner.rows[keep]]
        known.append(InnerPredictions(y, inner.p[keep], tested[tested >= 0], inner.task.seed))
    return known


def _operating(found: Assessment) -> Section:
    tables = []
    for asked in found.asked:
        rows = operating_rows(_inner(found, asked), asked.y, asked.ours.p, asked.groups)
        results_table(rows, _tables(found) / f"operating_points_{asked.question.name}.csv")
        tables.append(Table(cells(rows), f"{asked.question.classes[1]}, by the {asked.reference}"))
    text = "Each threshold was chosen on inner photographs for a target sensitivity; beside it what it reached outside."
    return Section("Operating points", paragraphs=(text,), tables=tables)


def _abstention(found: Assessment, drawn: Path) -> Section:
    figures, told_bands = [], []
    for asked in found.asked:
        name, ours = asked.question.name, asked.ours
        mean, threshold = ours.p.mean(axis=0), ours.thresholds.mean(axis=0)
        curves = {asked.reference: coverage_risk(asked.y, mean, threshold)}
        figures.append(
            ReportFigure(coverage(drawn / f"coverage_{name}.png", curves), f"{name}: errors among those answered")
        )
        benefit = {asked.reference: decision_curve(asked.y, mean)}
        figures.append(
            ReportFigure(decision(drawn / f"decision_{name}.png", benefit), f"{name}: net benefit of acting on it")
        )
        told_bands.append(f"{name}: {_kept(found, asked)}")
    text = (
        'A grader that may say "cannot grade": each fit\'s band of doubt around its threshold was the narrowest that left '
        f"at most {_MOST_ERRORS:.0%} errors on its inner photographs. Outside: " + "; ".join(told_bands) + "."
    )
    return Section("Abstention, and what acting on the answer is worth", paragraphs=(text,), figures=figures)


def _kept(found: Assessment, asked: Asked) -> str:
    """How many photographs the folds' bands leave, and how many of these are wrong."""
    answered = wrong = total = 0
    for inner in _inner(found, asked):
        rows = np.asarray(inner.rows, np.int64)
        p, threshold = asked.ours.p[inner.run, rows], float(asked.ours.thresholds[inner.run, rows[0]])
        kept = ~choose_band(inner.y, inner.p, min(max(threshold, 1e-6), 1 - 1e-6), _MOST_ERRORS).abstains(p)
        total, answered = total + len(rows), answered + int(kept.sum())
        wrong += int(((p >= threshold) != asked.y[rows])[kept].sum())
    return f"{answered} of {total} answered (all seeds), {wrong} of these wrong"


def _subgroups(found: Assessment) -> list[Section]:
    asked, cohort = found.first, found.material.cohort
    rows = []
    for column in (*_CUTS, *_NAMED):
        values: list[str] = [record.extra.get(column, "") for record in cohort]
        if not any(values):
            continue
        values = cut_into_bands(values, *_CUTS[column]) if column in _CUTS else values
        rows += subgroup_rows(asked.y, asked.ours.p, asked.ours.thresholds, asked.groups, column, values)
    if not rows:
        return []
    results_table(rows, _tables(found) / "subgroups.csv")
    return [Section("Subgroups", tables=(Table(cells(rows), f"Stage 1 by the {asked.reference}"),))]


def _predictive(found: Assessment) -> list[Section]:
    if not found.prevalences:
        return []
    asked = found.first
    rows = predictive_values(asked.y, asked.ours.p, asked.ours.thresholds, found.prevalences, asked.groups)
    results_table(rows, _tables(found) / "predictive_values.csv")
    text = "By Bayes' rule from the sensitivity and specificity found here, at shares of ill eyes that were asked for."
    return [Section("Predictive values", paragraphs=(text,), tables=(Table(cells(rows)),))]


def _shuffled(found: Assessment) -> list[Section]:
    if not found.shuffles:
        return []
    control = shuffle_control(found.material, found.shuffles)
    text = "A tiny network, trained on these folds with labels shuffled over the groups. Anything but chance is a leak."
    return [Section("Shuffled labels", paragraphs=(text, control.text))]
