"""The audit as a page that opens offline, with each pair side by side, and as a table."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fundoscope.cohort.auditing import Audit, AuditProblem, ProblemKind
from fundoscope.cohort.fingerprints import apply_turn
from fundoscope.cohort.sheet import write_sheet
from fundoscope.cohort.table import Cohort
from fundoscope.errors import OutputError, PhotographError, counted, printable
from fundoscope.imaging import read

COLUMNS = ("kind", "similarity", "turn", "row", "image", "label", "infant", "detail", "problem")

_SHOWN = 300  # problems with pictures; the table has all
_SIDE = 260  # pixels of a thumbnail
_PICTURES = 8  # thumbnails of one problem

_PAIRS = frozenset({ProblemKind.SAME_FILE, ProblemKind.SAME_PIXELS, ProblemKind.NEAR_DUPLICATE, ProblemKind.SAME_EYE})
_WHAT_TO_DO = {
    ProblemKind.MISSING: "Correct the path in the table, or remove the row.",
    ProblemKind.UNREADABLE: "Export the photograph again, or remove the row.",
    ProblemKind.TWO_LABELS: "Look at both, keep the right label, remove the other row.",
    ProblemKind.TWO_INFANTS: "Find out whose eye it is, and write the same infant in both rows.",
    ProblemKind.TWO_SPELLINGS: "If they are one infant, write it alike in all rows; else give names that differ more.",
    ProblemKind.TWO_EXAM_SPELLINGS: "If they are one exam, write it alike in all rows; else give names that differ more.",
    ProblemKind.INFANT_SPLIT: "Make the folds anew: all photographs of an infant belong to one part.",
    ProblemKind.LIKENESS_SPLIT: "Make the folds anew with this audit, which keeps them together.",
    ProblemKind.SAME_FILE: "Keep one of them.",
    ProblemKind.SAME_PIXELS: "Keep one of them.",
    ProblemKind.NEAR_DUPLICATE: "Keep one of them, or give both the same infant.",
    ProblemKind.SAME_EYE: "Give both the same infant; without that column the folds keep them together.",
}


def write_audit_page(audit: Audit, out_dir: str | Path) -> Path:
    """Write `audit.html` and `problems.csv` into a folder, which is made where it is missing; returns the page's path.

    Raises `OutputError` where the folder cannot be written.
    """
    folder = Path(out_dir)
    page = folder / "audit.html"
    html = _html(audit)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_sheet(folder / "problems.csv", COLUMNS, [[row[c] for c in COLUMNS] for row in _problem_rows(audit)])
        page.write_text(html, encoding="utf-8", errors="replace")
    except OSError as error:
        raise OutputError(folder, error) from error
    return page


def _problem_rows(audit: Audit) -> Iterator[dict[str, Any]]:
    """A row for each photograph of each problem; `problem` counts from 1, `row` as a spreadsheet does."""
    for number, problem in enumerate(audit.problems, 1):
        paired = problem.similarity is not None
        for record in (audit.cohort[row] for row in problem.rows):
            yield {
                "kind": problem.kind.value,
                "similarity": f"{problem.similarity:.3f}" if paired else "",
                "turn": problem.turn_in_words if paired else "",
                "row": record.line,
                "image": record.image,
                "label": record.label,
                "infant": record.infant or "",
                "detail": problem.detail,
                "problem": number,
            }


def _html(audit: Audit) -> str:
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    environment.filters["printable"] = printable
    sections = []
    left = _SHOWN
    for kind, count in audit.counts.items():
        shown = [p for p in audit.problems if p.kind is kind][:left]
        left -= len(shown)
        cards = [_card(audit.cohort, problem) for problem in shown]
        tone = "pair" if kind in _PAIRS else "grave"
        sections.append({"kind": kind.value, "count": count, "todo": _WHAT_TO_DO[kind], "tone": tone, "cards": cards})
    values = {"audit": audit, "sections": sections, "headline": _headline(audit), "shown": _SHOWN}
    return environment.get_template("audit.html.j2").render(**values)


def _headline(audit: Audit) -> str:
    """One sentence on how many photographs were looked at, and what was found."""
    cohort = audit.cohort
    infants = f"of {counted(len({r.infant for r in cohort}), 'infant')}" if cohort.has_infants else "of unknown infants"
    looked_at = f"{counted(len(cohort), 'photograph')} {infants}"
    if audit.clean:
        return f"Nothing was found in {looked_at}."
    return f"{counted(len(audit.problems), 'problem')} found; {len(audit.paths)} of {looked_at} are concerned."


def _card(cohort: Cohort, problem: AuditProblem) -> dict[str, Any]:
    pictures = [
        {
            "record": cohort[row],
            "data": _thumbnail(cohort[row].path, problem.turn if at == 1 else 0),
            "note": problem.turn_in_words if at == 1 and problem.turn else "",
        }
        for at, row in enumerate(problem.rows[:_PICTURES])
    ]
    return {"problem": problem, "pictures": pictures, "more": len(problem.rows) - len(pictures)}


def _thumbnail(path: Path, turn: int) -> str:
    """A JPEG as base64, blank where the photograph cannot be read."""
    try:
        pixels = read(path).pixels
    except PhotographError:
        return ""
    scale = _SIDE / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    upright = np.ascontiguousarray(apply_turn(small, turn)[..., ::-1])
    _, data = cv2.imencode(".jpg", upright, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return base64.b64encode(data.tobytes()).decode("ascii")
