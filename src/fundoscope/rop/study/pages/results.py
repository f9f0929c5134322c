"""The tables and figures of paper 000, with intervals, baselines and controls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fundoscope.networks.cost import measure_cost
from fundoscope.reports import ReportFigure, Section, Table
from fundoscope.reports.clinic_plots import confusions
from fundoscope.reports.plots import Curve, precision_recall, reliability, roc
from fundoscope.rop.recipes import STUDENT, UNDISTILLED, Arm
from fundoscope.rop.study.evaluate import Asked, Assessment
from fundoscope.rop.study.pages.cells import cells
from fundoscope.rop.study.questions import ROP
from fundoscope.rop.study.train import bare_network

_TITLES = {"rop": "Stage 1: normal or ROP", "treatment": "Stage 2: ROP that needs treatment or not"}
_TABLES = {
    "Discrimination and decisions": ("auc", "accuracy", "sensitivity", "specificity"),
    "What a positive answer is worth here": ("precision", "f1", "average_precision"),
    "Probabilities": ("brier", "ece", "calibration_slope", "calibration_intercept"),
}


def sections(found: Assessment, drawn: Path) -> list[Section]:
    """Networks, each question, and what might fool its reader."""
    return [
        _networks(found),
        *(_question(found, asked, drawn) for asked in found.asked),
        _controls(found),
        _int8(found),
    ]


def network_rows(found: Assessment) -> list[dict[str, Any]]:
    """Parameters and MACs of each arm's network, with the head and the size that they were counted with."""
    size = found.fits.recipe.standard.size
    rows = []
    for arm in found.arms:
        cost = measure_cost(bare_network(replace(found.fits.recipe, pretrained=False), arm), size)
        rows.append({
            "network": arm.name, "made of": arm.network, "parameters (M)": round(cost.parameters / 1e6, 2),
            "MACs (G)": round(cost.macs / 1e9, 3), "input": f"{size} x {size}", "head": "2 classes",
            "begins with": _beginning(found, arm), "learns from": arm.teacher or "labels",
        })  # fmt: skip
    return rows


def _beginning(found: Assessment, arm: Arm) -> str:
    recipe = found.fits.recipe
    own = arm.network in (recipe.teacher, recipe.student)
    if not arm.prepared or not recipe.pretrained:
        return "random weights"
    return "ImageNet, then simulated eyes" if recipe.rehearsal and own else "ImageNet"


def _networks(found: Assessment) -> Section:
    note = "Measured here; a multiply-accumulate (MAC) is two floating-point operations. Stage 2 begins with stage 1."
    return Section("Networks", paragraphs=(note,), tables=(Table(network_rows(found), "As table 5 of the paper"),))


def _question(found: Assessment, asked: Asked, drawn: Path) -> Section:
    rows = found.results(asked)
    tables = [
        Table(cells([{"grader": row["grader"], **{name: row[name] for name in part}} for row in rows]), caption)
        for caption, part in _TABLES.items()
    ]
    if len(asked.answers) > 1:
        against = f"Each network less the {asked.reference}, paired on the same photographs"
        tables.append(Table(cells(found.differences(asked)), against, reference=0))
    note = (
        f"Intervals: 95 %, {len(set(asked.groups.tolist()))} groups resampled 2000 times; with several seeds the mean over "
        "seeds. An interval of a difference that holds 0 cannot tell the two apart."
    )
    more = ("The nuisance baseline knows only file size, field shape, colour and sharpness: a network must beat it.",)
    return Section(
        _TITLES[asked.question.name], paragraphs=(note, *(more if asked.question.name == ROP else ())),
        tables=tables, figures=_figures(found, asked, drawn),
    )  # fmt: skip


def _figures(found: Assessment, asked: Asked, drawn: Path) -> tuple[ReportFigure, ...]:
    name = asked.question.name
    curves = [Curve(arm, asked.y, answers.p, asked.groups) for arm, answers in asked.answers.items()]
    curves += [Curve(base, asked.y, p, asked.groups) for base, p in list(found.baselines(asked).items())[:1]]
    pair = [arm for arm in (STUDENT, UNDISTILLED) if arm in asked.answers] or [asked.reference]
    called = [(arm, asked.y, (asked.answers[arm].p[0] >= asked.answers[arm].thresholds[0]).astype(int)) for arm in pair]
    mean = asked.ours.p.mean(axis=0)
    return (
        ReportFigure(roc(drawn / f"roc_{name}.png", curves), "ROC, out of fold; one line a seed"),
        ReportFigure(precision_recall(drawn / f"pr_{name}.png", curves), "Precision and recall, out of fold"),
        ReportFigure(
            confusions(drawn / f"confusion_{name}.png", called, asked.question.classes),
            "Decisions at each fold's own operating point, seed 0",
        ),
        ReportFigure(
            reliability(drawn / f"reliability_{name}.png", asked.y, mean),
            f"Calibration of the {asked.reference}'s mean over {found.fits.seeds} seeds",
        ),
    )


def _controls(found: Assessment) -> Section:
    text = (
        "The same networks on the same photographs, made alike in what is not disease. A grader that lived on a "
        "shortcut would fall to the nuisance baseline here."
    )
    return Section("Without the shortcuts", paragraphs=(text,), tables=(Table(cells(found.under_controls)),))


def _int8(found: Assessment) -> Section:
    text = (
        f"Each fold's {found.exported.name} exported, INT8 calibrated on its inner photographs, both run on its held-out "
        "ones (stage 1, seed 0). Inner photographs chose this network to leave in a bundle."
    )
    return Section("What INT8 costs", paragraphs=(text,), tables=(Table(cells(found.int8_rows)),))
