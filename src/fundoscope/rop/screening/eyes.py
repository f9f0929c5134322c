"""Several views of an eye to one decision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fundoscope.findings import NOTHING_SEEN, RopFinding, Status

EYE_COLUMNS = (
    "infant", "eye", "exam", "views", "views_graded", "views_refused", "views_failed", "p_rop", "rop", "p_tr",
    "treatment_requiring", "decision", "rule", "flag",
)  # fmt: skip

#: One suspicious view is enough: ROP is seen in part of the retina, and a view that misses it says nothing.
RULE = "ROP is suspected if any graded view is; an eye without a graded view is not graded"

Key = tuple[str, str, str]


@dataclass
class _Views:
    findings: list[RopFinding] = field(default_factory=list)

    def count(self, status: Status) -> int:
        return sum(finding.status is status for finding in self.findings)


class Eyes:
    """Gathers findings by (infant, eye, exam), in the order in which the eyes first appear."""

    def __init__(self) -> None:
        self._views: dict[Key, _Views] = {}

    def add(self, infant: str | None, eye: str | None, exam: str | None, finding: RopFinding) -> None:
        """Count one view; a photograph of an unknown infant stands for itself, under its file's name."""
        key = (infant or f"(unknown: {finding.file})", eye or "", exam or "")
        self._views.setdefault(key, _Views()).findings.append(finding)

    def rows(self) -> list[dict[str, Any]]:
        """One row an eye, in the columns of `EYE_COLUMNS`."""
        return [_row(key, views) for key, views in self._views.items()]


def _row(key: Key, views: _Views) -> dict[str, Any]:
    infant, eye, exam = key
    graded = [finding for finding in views.findings if finding.status is Status.OK]
    p_rop = max((finding.p_rop or 0.0 for finding in graded), default=None)
    rop = any(finding.rop for finding in graded) if graded else None
    asked = [finding for finding in graded if finding.p_tr is not None]
    p_tr = max((finding.p_tr or 0.0 for finding in asked), default=None)
    requiring = any(finding.treatment_requiring for finding in asked) if asked else None
    return {
        "infant": infant, "eye": eye, "exam": exam, "views": len(views.findings), "views_graded": len(graded),
        "views_refused": views.count(Status.REJECTED), "views_failed": views.count(Status.FAILED),
        "p_rop": None if p_rop is None else round(p_rop, 4), "rop": _yes(rop),
        "p_tr": None if p_tr is None else round(p_tr, 4), "treatment_requiring": _yes(requiring),
        "decision": _words(rop), "rule": RULE, "flag": _flag(infant, eye, graded),
    }  # fmt: skip


def _yes(answer: bool | None) -> str | None:
    return None if answer is None else "yes" if answer else "no"


def _words(rop: bool | None) -> str:
    if rop is None:
        return "not graded: photograph the eye again, or have it examined"
    return "ROP suspected" if rop else NOTHING_SEEN


def _flag(infant: str, eye: str, graded: list[RopFinding]) -> str:
    flags = ["infant unknown"] if infant.startswith("(unknown") else []
    flags += [] if eye else ["laterality missing: both eyes may be mixed in this row"]
    return "; ".join([*flags, *dict.fromkeys(finding.reason for finding in graded if finding.reason)])
