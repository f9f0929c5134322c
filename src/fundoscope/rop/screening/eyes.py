"""Several views of an eye taken together to one decision, by the rule of the bundle's card."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from fundoscope.bundles.card import EyeDecision
from fundoscope.evaluation.decisions import EyeRule, EyeViews
from fundoscope.findings import NOTHING_SEEN, Row, Status

EYE_COLUMNS = (
    "infant", "eye", "exam", "views", "views_graded", "views_refused", "views_failed", "p_rop", "rop", "p_tr",
    "treatment_requiring", "decision", "rule", "flag",
)  # fmt: skip

#: What the vascular index adds at the end: its median over the eye's views, how many views were measured, and by how many points it is higher
#: than at the exam before.
VASCULAR_EYE_COLUMNS = ("vascular_index", "vascular_views", "vascular_change")

#: How the decision of an eye reads, by its `rop`.
DECISIONS = {
    "yes": "ROP suspected",
    "no": NOTHING_SEEN,
    None: "not graded: photograph the eye again, or have it examined",
}

EyeKey = tuple[str, str, str]


def eye_key(infant: str | None, eye: str | None, exam: str | None, file: str) -> EyeKey:
    """Whose eye a photograph shows, and when: the unit that is decided, in screening and in a study.

    A photograph of an unknown infant stands for itself, under the name of its file. Without a laterality both eyes of an
    infant are one unit.
    """
    return (infant or f"(unknown: {file})", eye or "", exam or "")


class ScreenedEyes:
    """The rows of all views of each eye, by `eye_key`, in the order in which the eyes first appear."""

    def __init__(self, decision: EyeDecision, vascular: bool = False) -> None:
        self._decision = decision
        self._vascular = vascular
        self._views: dict[EyeKey, list[Row]] = {}

    def add(self, infant: str | None, eye: str | None, exam: str | None, row: Row) -> None:
        """Add one view by its row of the results table."""
        self._views.setdefault(eye_key(infant, eye, exam, row["file"]), []).append(row)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of an eye's row."""
        return (*EYE_COLUMNS, *VASCULAR_EYE_COLUMNS) if self._vascular else EYE_COLUMNS

    def rows(self) -> list[Row]:
        """One row an eye, in `columns`."""
        rows = {key: decide_eye(key, views, self._decision) for key, views in self._views.items()}
        if self._vascular:
            for key, trend in follow_vessels_over_exams(self._views).items():
                witnesses = dict.fromkeys(filter(None, (view["witnesses"] for view in self._views[key])))
                rows[key] |= trend | {"flag": "; ".join(filter(None, [rows[key]["flag"], *witnesses]))}
        return list(rows.values())


def decide_eye(key: EyeKey, views: Sequence[Row], decision: EyeDecision) -> Row:
    """The row of one eye: views counted by status, its probability and decision by the card's rule, what is missing.

    Whether treatment is required is said of a suspected eye only: yes if any of its views says so.
    """
    infant, eye, exam = key
    graded = [row for row in views if row["status"] == Status.OK]
    rule = EyeRule(decision.views, decision.operating_point.threshold)
    p_rop = None
    if graded:
        one_eye = EyeViews.from_keys([key] * len(graded))
        p_rop = float(rule.probabilities([row["p_rop"] or 0.0 for row in graded], [True] * len(graded), one_eye)[0])
    rop = None if p_rop is None else _yes_or_no(rule.suspects(p_rop))
    of_treatment = [row for row in graded if row["p_tr"] is not None] if rop == "yes" else []
    flags = ["infant unknown"] if infant.startswith("(unknown") else []
    flags += [] if eye else ["laterality missing: both eyes may be mixed in this row"]
    if rop == "no" and (alone := sum(row["rop"] == "yes" for row in graded)):
        flags.append(f"ROP is suspected in {alone} of {len(graded)} views by itself: look at it")
    flags += dict.fromkeys(row["reason"] for row in graded if row["reason"])
    return {
        "infant": infant, "eye": eye, "exam": exam,
        "views": len(views),
        "views_graded": len(graded),
        "views_refused": sum(row["status"] == Status.REJECTED for row in views),
        "views_failed": sum(row["status"] == Status.FAILED for row in views),
        "p_rop": p_rop,
        "rop": rop,
        "p_tr": max((row["p_tr"] for row in of_treatment), default=None),
        "treatment_requiring": _any_yes(row["treatment_requiring"] for row in of_treatment) if of_treatment else None,
        "decision": DECISIONS[rop],
        "rule": decision.words,
        "flag": "; ".join(flags),
    }  # fmt: skip


def follow_vessels_over_exams(views: Mapping[EyeKey, Sequence[Row]]) -> dict[EyeKey, Row]:
    """For each eye at each exam its `VASCULAR_EYE_COLUMNS`; None where no view was measured.

    Exams are put in order as numbers where all of an eye's are numbers, else as text, as dates such as 2024-03-05 are. An eye of an unknown
    infant, or side, or exam has no exam before.
    """
    found: dict[EyeKey, Row] = {}
    for key, rows in views.items():
        known = [row["vascular_index"] for row in rows if row["vascular_index"] is not None]
        index = round(statistics.median(known), 1) if known else None
        found[key] = dict(zip(VASCULAR_EYE_COLUMNS, (index, len(known), None), strict=True))
    exams: dict[tuple[str, str], list[EyeKey]] = {}
    for key in found:
        infant, eye, exam = key
        if eye and exam and not infant.startswith("(unknown"):
            exams.setdefault((infant, eye), []).append(key)
    for keys in exams.values():
        numbers = all(key[2].isdecimal() for key in keys)
        keys.sort(key=lambda key: (int(key[2]) if numbers else 0, key[2]))
        measured = [key for key in keys if found[key]["vascular_index"] is not None]
        for before, now in pairwise(measured):
            found[now]["vascular_change"] = round(found[now]["vascular_index"] - found[before]["vascular_index"], 1)
    return found


def _yes_or_no(answer: object) -> str:
    return "yes" if answer else "no"


def _any_yes(answers: Iterable[str | None]) -> str:
    return _yes_or_no("yes" in answers)
