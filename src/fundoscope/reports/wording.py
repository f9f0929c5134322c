"""The words of a screening report: of its header, and of each photograph and each eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fundoscope.findings import NOTHING_SEEN, RopFinding, Status, VascularFinding
from fundoscope.languages import current_language, gettext_noop, ngettext, translate_kept
from fundoscope.languages import gettext as _
from fundoscope.reports import page

TITLE = gettext_noop("Retinopathy of prematurity: screening report")
SUSPECTED = gettext_noop("ROP suspected: have an ophthalmologist examine this eye")
TREATMENT_SUSPECTED = gettext_noop(
    "Treatment-requiring ROP suspected: have an ophthalmologist examine this eye without delay"
)
NO_TREATMENT_SEEN = gettext_noop("no treatment-requiring ROP seen in this view; this excludes nothing")
DISCLAIMER = gettext_noop(
    "No medical device: a photograph shows part of a retina, "
    "and every infant at risk is examined by an ophthalmologist."
)
SIMULATED_TEXT = gettext_noop(
    "What is said here of treatment-requiring ROP was learnt from simulated eyes only. "
    "It was never tested on an infant."
)

_ADVICE = {
    "refused": gettext_noop("Photograph this eye again, or have it examined. A refusal is no negative result."),
    "failed": gettext_noop("Check the file and screen it again. Nothing is known of this eye."),
}
_DECISIONS = {
    "suspected": SUSPECTED,
    "unseen": NOTHING_SEEN,  # never a bare "no"
    "refused": gettext_noop("Refused, not graded"),
    "failed": gettext_noop("Could not be read"),
}
_OUTCOMES = {
    "suspected": gettext_noop("ROP suspected"),
    "refused": _DECISIONS["refused"],
    "failed": _DECISIONS["failed"],
}
_DECISION_COLUMNS = ("rop", "decision")  # columns of an eye that may hold its decision, the plainer one first
_YES, _NO = ("yes", "True"), ("no", "False")
_EYE_HEADS = {
    "p_rop": gettext_noop("probability"),
    "decision": gettext_noop("taken together"),
    "rop": gettext_noop("taken together"),
    "infant": gettext_noop("infant"),
    "eye": gettext_noop("eye"),
    "exam": gettext_noop("exam"),
    "views": gettext_noop("views"),
    "views_graded": gettext_noop("views graded"),
    "views_refused": gettext_noop("views refused"),
    "views_failed": gettext_noop("views failed"),
    "vascular_index": gettext_noop("vascular index"),
    "vascular_views": gettext_noop("views measured"),
    "vascular_change": gettext_noop("since the exam before"),
}


@dataclass(frozen=True, slots=True)
class ReportedThreshold:
    """The probability from which on disease is suspected, the rule that chose it, and the data it was chosen on, in words."""

    threshold: float
    rule: str
    data: str


@dataclass(frozen=True, slots=True)
class ScreeningHeader:
    """Facts about the run at the head of a report, in words as the reader shall see them.

    `second_stage` shows what was found of treatment-requiring ROP, with `treatment_point` as its operating
    point; `simulated` stamps the page because that stage was learnt from simulated eyes.
    """

    bundle: str
    version: str
    trained_on: str
    never_tested_on: str
    operating_point: ReportedThreshold
    temperature: float
    date: str
    intended_use: str = ""
    program: str = ""
    simulated: bool = False
    second_stage: bool = False
    treatment_point: ReportedThreshold | None = None
    doubts: tuple[str, ...] = ()  # what speaks against using the bundle
    vascular_reference: str = (
        ""  # among which normal photographs the vascular index is a percentile; blank where it was not asked for
    )

    @property
    def stamps(self) -> list[str]:
        """The stamps at the top of the page and of each printed page."""
        return [page.SIMULATED, page.RESEARCH_USE] if self.simulated else [page.RESEARCH_USE]


def describe_counts(graded: int, suspected: int, refused: int, failed: int) -> str:
    """The headline: one sentence on how many photographs were graded, called and refused."""
    total = graded + refused + failed
    photographs = ngettext("{n} photograph", "{n} photographs", total).format(n=total)
    told = ngettext("Of {photographs}, {n} was graded", "Of {photographs}, {n} were graded", graded)
    told = told.format(photographs=photographs, n=graded)
    if graded:
        found = _(": ROP is suspected in {suspected}; in {unseen} none was seen, which excludes nothing")
        told += found.format(suspected=suspected, unseen=graded - suspected)
    left = ngettext("{n} was refused", "{n} were refused", refused) if refused else _("none was refused")
    told = _("{graded}; {refused}").format(graded=told, refused=left.format(n=refused))
    if failed:
        told += _(" and {n} could not be read").format(n=failed)
    return _("{sentence}.").format(sentence=told)


def describe_attention(
    number: int, file: str, status: Status, p: float | None, rop: bool | None, treatment: bool | None, reason: str
) -> tuple[tuple[int, float, int], dict[str, Any]] | None:
    """How grave a photograph's outcome is (the greater the graver) and its row of the table of those that need attention.

    None for a photograph in which nothing was seen.
    """
    kind = kind_of(status, rop)
    if kind == "unseen":
        return None
    outcome = _("Treatment-requiring ROP suspected") if treatment else _(_OUTCOMES[kind])
    rank = 3 if treatment else {"suspected": 2, "failed": 1, "refused": 0}[kind]
    values = {
        "kind": kind,
        "number": number,
        "file": page.printable(file),
        "outcome": outcome,
        "probability": "" if p is None else _shown(p, 0.5)[0],
        "reason": page.printable(translate_kept(reason)),
        "advice": _(_ADVICE[kind]) if kind in _ADVICE else _("Have an ophthalmologist examine this eye."),
    }
    return (rank, p or 0.0, -number), values


def kind_of(status: Status, rop: bool | None) -> str:
    """The kind under which a finding is counted and coloured: suspected, unseen, refused or failed."""
    if status is Status.FAILED:
        return "failed"
    if status is Status.REJECTED or rop is None:
        return "refused"
    return "suspected" if rop else "unseen"


def describe_photograph(
    finding: RopFinding, header: ScreeningHeader, original_size: tuple[int, int] | None
) -> dict[str, Any]:
    """The values that the template of a photograph's row shows; `original_size` is (rows, columns)."""
    kind = kind_of(finding.status, finding.rop)
    return {
        "kind": kind + (" ungraded" if kind in _ADVICE else ""),
        "p": finding.p_rop,
        "file": page.printable(finding.file),
        "reason": page.printable(translate_kept(finding.reason)),
        "decision": _(_DECISIONS[kind]),
        "advice": _(_ADVICE.get(kind, "")),
        "gauges": _gauges(finding, header),
        "details": _details(finding, original_size),
    }


def _gauges(finding: RopFinding, header: ScreeningHeader) -> list[dict[str, Any]]:
    shown = []
    if finding.p_rop is not None:
        shown.append(_gauge(_("Probability of ROP"), finding.p_rop, header.operating_point))
    if header.second_stage and finding.p_tr is not None:
        statement = {True: TREATMENT_SUSPECTED, False: NO_TREATMENT_SEEN, None: ""}[finding.treatment_requiring]
        gauge = _gauge(_("Treatment-requiring ROP"), finding.p_tr, header.treatment_point)
        shown.append(gauge | {"simulated": header.simulated, "statement": _(statement)})
    if finding.vascular is not None and finding.vascular.index is not None:
        shown.append(_vascular_gauge(finding.vascular, finding.vascular.index))
    if finding.quality is not None:
        verdict = _("gradable") if finding.status is Status.OK else _("not gradable")
        shown.append(_gauge(_("Quality"), finding.quality, None) | {"kind": "quality", "note": verdict})
    return shown


def _vascular_gauge(vascular: VascularFinding, index: float) -> dict[str, Any]:
    name, shown = _("Vascular index"), f"{index:.0f}"
    among = _("of 100 normal photographs, so many have narrower, straighter vessels around the disc")
    return _gauge(name, index / 100, None) | {
        "shown": shown,
        "note": among,
        "label": _("{name} {shown} of 100").format(name=name, shown=shown),
        "kind": "vascular",
        "statement": page.printable(translate_kept(vascular.witnesses)),
    }


def _gauge(name: str, value: float, point: ReportedThreshold | None) -> dict[str, Any]:
    threshold = None if point is None else point.threshold
    shown, mark = _shown(value, threshold)
    note = _("threshold {value}").format(value=mark) if mark else ""
    return {
        "name": name,
        "value": min(max(value, 0.0), 1.0),
        "shown": shown,
        "threshold": threshold,
        "note": note,
        "label": _("{name} {shown} of 1").format(name=name, shown=shown) + (f", {note}" if note else ""),
        "kind": "probability",
        "simulated": False,
        "statement": "",
    }


def _shown(value: float, threshold: float | None) -> tuple[str, str]:
    """Value and threshold with two digits, or four where two do not tell them apart; never a flat 0 or 1."""
    near = threshold is not None and abs(value - threshold) < 0.01
    digits = 4 if near else 2
    text = f"{value:.{digits}f}"
    if text == "0.00":
        text = _("below 0.01")
    elif text == "1.00" and threshold is not None:
        text = _("above 0.99")
    return text, "" if threshold is None else f"{threshold:.{digits}f}"


def _details(finding: RopFinding, original_size: tuple[int, int] | None) -> list[str]:
    size = (
        []
        if original_size is None
        else [_("{columns} × {rows} pixels").format(columns=original_size[1], rows=original_size[0])]
    )
    note = "" if finding.vascular is None else finding.vascular.note
    vessels = [_("vessels: {note}").format(note=page.printable(translate_kept(note)))] if note else []
    return [*size, _("{seconds:.2f} s").format(seconds=finding.seconds), *vessels]


def describe_bundle(header: ScreeningHeader) -> list[tuple[str, str]]:
    """The bundle and its limits as pairs of name and text."""
    point, second = header.operating_point, header.treatment_point
    pairs = [
        (_("Bundle"), f"{header.bundle} {header.version}"),
        (_("For"), header.intended_use),
        (_("Trained on"), header.trained_on),
        (_("Never tested on"), header.never_tested_on),
        (_("Threshold"), f"{point.threshold:.4g}: {point.rule}"),
        (_("Chosen on"), point.data),
        (_("Temperature"), _("{value:.4g} (the logits are divided by it)").format(value=header.temperature)),
    ]
    if header.second_stage and second is not None:
        text = _("{threshold:.4g}: {rule}, chosen on {data}").format(
            threshold=second.threshold, rule=second.rule, data=second.data
        )
        pairs.append((_("Threshold for treatment"), text))
    return [
        *((name, value) for name, value in pairs if value),
        (_("Use"), _("{stamp}. {disclaimer}").format(stamp=_(page.RESEARCH_USE), disclaimer=_(DISCLAIMER))),
    ]


def describe_eyes(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The values that the table of eyes shows: its columns, which of them are numbers, its rows, and the common rule."""
    order = ("suspected", "refused", "unseen")
    rows = sorted(rows, key=lambda row: order.index(_kind_of_eye(row)))  # what needs attention first
    hidden = {"rop"} if "decision" in rows[0] else set()
    rules = {row.get("rule") for row in rows}
    if len(rules) == 1:
        hidden.add("rule")
    names = [name for name in rows[0] if name not in hidden and any(not _blank(row.get(name)) for row in rows)]
    first = ("infant", "eye", "exam", *_DECISION_COLUMNS)  # whose eye, and the result
    names.sort(key=lambda name: first.index(name) if name in first else len(first))
    return {
        "names": names,
        "heads": [_(_EYE_HEADS[name]) if name in _EYE_HEADS else name.replace("_", " ") for name in names],
        "numeric": [name for name in names if all(page.is_number(row.get(name)) for row in rows)],
        "rule": rules.pop() if len(rules) == 1 else None,
        "rows": [{"kind": _kind_of_eye(row), "cells": [_eye_cell(name, row) for name in names]} for row in rows],
    }


def _eye_cell(name: str, row: Mapping[str, Any]) -> Any:
    value = row.get(name)
    if name in (*_DECISION_COLUMNS, "eye") and isinstance(value, str) and current_language() != "en":
        value = _(value)
    if name in _DECISION_COLUMNS and (_blank(value) or str(row.get(name)) in (*_YES, *_NO)):
        return {"suspected": _(SUSPECTED), "unseen": _(NOTHING_SEEN), "refused": _("not graded")}[_kind_of_eye(row)]
    return "—" if _blank(value) else value


def _kind_of_eye(row: Mapping[str, Any]) -> str:
    decision = next((str(row[name]) for name in _DECISION_COLUMNS if name in row), "")
    if decision in (*_YES, SUSPECTED):
        return "suspected"
    return "unseen" if decision in (*_NO, NOTHING_SEEN) else "refused"


def _blank(value: Any) -> bool:
    return value is None or value == ""
