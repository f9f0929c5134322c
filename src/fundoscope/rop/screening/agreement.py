"""`fundoscope cohort agreement`: how far two readers of infants' photographs agree, and the tool with each of them. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from fundoscope.cohort.columns import LABELS
from fundoscope.cohort.label_readings import READERS, LabelReading
from fundoscope.errors import PhotographError, counted, list_names
from fundoscope.evaluation.metrics import Readings, settle
from fundoscope.findings import Finding, RopFinding, Status
from fundoscope.imaging import Prepared
from fundoscope.outputs import save_picture
from fundoscope.reports.agreement import AgreementAnswer
from fundoscope.rop.screening.grader import RopGrader
from fundoscope.runs.engines import grade_isolated
from fundoscope.studies import Progress

TOOL = "tool"
PAIRS = (READERS, (READERS[0], TOOL), (READERS[1], TOOL), ("label", TOOL))
_SHOWN = 640  # pixels of a photograph on the page
_NO_PICTURE = (240, 320, 3)


def ask_screener(rows: Sequence[LabelReading], grader: RopGrader, progress: Progress) -> list[RopFinding]:
    """What the tool says of each photograph; what it refuses or cannot read has no answer, and says why."""
    followed: Iterable[LabelReading] = progress.follow(rows, len(rows), "photographs screened by the tool")
    findings: list[Finding] = [grade_isolated(grader, row.path, row.image).findings[0] for row in followed]
    return [finding for finding in findings if isinstance(finding, RopFinding)]


def describe_label_agreement(
    rows: Sequence[LabelReading], findings: Sequence[RopFinding] | None, how: str, table: Path, command: str
) -> AgreementAnswer:
    """The answer of the command, before it is written; `findings` are None where the tool was not asked, `how` says of which
    bundle they are.
    """
    has_infants = rows[0].infant is not None
    groups = [row.infant or row.image for row in rows]
    given: dict[str, list[int | None]] = {name: [row.readers[k] for row in rows] for k, name in enumerate(READERS)}
    given["label"] = [settle(*row.readers, row.settled) for row in rows]
    if findings is not None:
        given[TOOL] = [None if each.rop is None else int(each.rop) for each in findings]
    readings = Readings(LABELS, groups, given)
    found = [readings.measure(*pair) for pair in PAIRS if set(pair) <= set(given)]
    unread = [each.file for each in findings or () if each.status is not Status.OK]
    warnings = [
        *([] if has_infants else ["infants are not told apart, so intervals take each photograph for an infant's only one and are too narrow where it is not"]),
        *([f"left out of the tool's figures, since it refused or could not read them: {list_names(unread)}"] if unread else []),
    ]  # fmt: skip
    lead = (
        f"Two readers labelled {counted(len(rows), 'photograph')}"
        + (f" of {counted(len(set(groups)), 'infant')}" if has_infants else "")
        + ". A reader is no truth: where the readers differ, so may the tool from both."
    )
    described = [{"image": row.image, "infant": row.infant} for row in rows]
    return AgreementAnswer(
        "How far readers and tool agree on ROP", lead, "photograph", "infant" if has_infants else "photograph", readings,
        [each for each in found if each is not None], described, lambda k, path: _draw(rows[k], path),
        {"table": table, "tool": how}, command, [] if has_infants else ["Images assumed independent"], warnings,
    )  # fmt: skip


def _draw(row: LabelReading, path: Path) -> None:
    """Write a photograph, at most `_SHOWN` pixels wide; a grey field with a word where it cannot be read."""
    try:
        pixels = Prepared.read(row.path, row.image).pixels
    except PhotographError:
        pixels = np.full(_NO_PICTURE, 128, np.uint8)
        cv2.putText(pixels, "cannot be read", (30, 125), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 255, 255), 2)
    scale = min(1.0, _SHOWN / max(pixels.shape[:2]))
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    save_picture(path, cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
