"""Several views of an eye taken together to one decision, by the rule of the bundle's card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fundoscope.bundles.card import EyeDecision
from fundoscope.evaluation.decisions import EyeRule, EyeViews
from fundoscope.findings import NOTHING_SEEN, Row, Status

EYE_COLUMNS = (
    "infant", "eye", "exam", "views", "views_graded", "views_refused", "views_failed", "p_rop", "rop", "p_tr",
    "treatment_requiring", "decision", "rule", "flag",
)  # fmt: skip

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

    def __init__(self, decision: EyeDecision) -> None:
        self._decision = decision
        self._views: dict[EyeKey, list[Row]] = {}

    def add(self, infant: str | None, eye: str | None, exam: str | None, row: Row) -> None:
        """Add one view by its row of the results table."""
        self._views.setdefault(eye_key(infant, eye, exam, row["file"]), []).append(row)

    def rows(self) -> list[Row]:
        """One row an eye, in the columns of `EYE_COLUMNS`."""
        return [decide_eye(key, views, self._decision) for key, views in self._views.items()]


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


def _yes_or_no(answer: object) -> str:
    return "yes" if answer else "no"


def _any_yes(answers: Iterable[str | None]) -> str:
    return _yes_or_no("yes" in answers)
