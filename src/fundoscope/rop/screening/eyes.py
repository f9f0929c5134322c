"""Several views of an eye taken together to one decision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fundoscope.findings import NOTHING_SEEN, Row, Status

EYE_COLUMNS = (
    "infant", "eye", "exam", "views", "views_graded", "views_refused", "views_failed", "p_rop", "rop", "p_tr",
    "treatment_requiring", "decision", "rule", "flag",
)  # fmt: skip

#: One suspicious view is enough: ROP is seen in part of the retina, and a view that misses it says nothing.
RULE = "ROP is suspected if any graded view is; an eye without a graded view is not graded"

#: How the decision of an eye reads, by its `rop`.
DECISIONS = {
    "yes": "ROP suspected",
    "no": NOTHING_SEEN,
    None: "not graded: photograph the eye again, or have it examined",
}


class ScreenedEyes:
    """The rows of all views of each eye, by (infant, eye, exam), in the order in which the eyes first appear."""

    def __init__(self) -> None:
        self._views: dict[tuple[str, str, str], list[Row]] = {}

    def add(self, infant: str | None, eye: str | None, exam: str | None, row: Row) -> None:
        """Add one view; a photograph of an unknown infant stands for itself, under its file's name."""
        key = (infant or f"(unknown: {row['file']})", eye or "", exam or "")
        self._views.setdefault(key, []).append(row)

    def rows(self) -> list[Row]:
        """One row an eye, in the columns of `EYE_COLUMNS`."""
        return [decide_eye(*key, views) for key, views in self._views.items()]


def decide_eye(infant: str, eye: str, exam: str, views: Sequence[Row]) -> Row:
    """The row of one eye: views counted by status, the highest probabilities, the decision, its rule, what is missing."""
    graded = [row for row in views if row["status"] == Status.OK]
    of_treatment = [row for row in graded if row["p_tr"] is not None]
    rop = _any_yes(row["rop"] for row in graded) if graded else None
    flags = ["infant unknown"] if infant.startswith("(unknown") else []
    flags += [] if eye else ["laterality missing: both eyes may be mixed in this row"]
    flags += dict.fromkeys(row["reason"] for row in graded if row["reason"])
    return {
        "infant": infant, "eye": eye, "exam": exam,
        "views": len(views),
        "views_graded": len(graded),
        "views_refused": sum(row["status"] == Status.REJECTED for row in views),
        "views_failed": sum(row["status"] == Status.FAILED for row in views),
        "p_rop": max((row["p_rop"] or 0.0 for row in graded), default=None),
        "rop": rop,
        "p_tr": max((row["p_tr"] for row in of_treatment), default=None),
        "treatment_requiring": _any_yes(row["treatment_requiring"] for row in of_treatment) if of_treatment else None,
        "decision": DECISIONS[rop],
        "rule": RULE,
        "flag": "; ".join(flags),
    }  # fmt: skip


def _any_yes(answers: Iterable[str | None]) -> str:
    return "yes" if "yes" in answers else "no"
