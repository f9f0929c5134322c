"""The page of an archive: what was read, what came of it, what could not be graded and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fundoscope.languages import gettext as _
from fundoscope.reports.page import RESEARCH_USE, render, shell


def archive_page(manifest: Mapping[str, Any], parts: int, done: Mapping[str, Any], kept: int, seconds: float) -> bytes:
    """The page as UTF-8.

    `done` holds `photographs`, `rows`, `counts` and `reasons` of all parts together; `kept` photographs were done before this run,
    which took `seconds`.
    """
    reasons = sorted(done["reasons"].items(), key=lambda item: (-item[1], item[0]))
    worked = done["photographs"] - kept
    title = _("Archive: {command}").format(command=manifest["grader"])
    return render(
        "archive.html.j2", page=shell([RESEARCH_USE]), title=title, manifest=manifest, parts=parts, done=done, kept=kept,
        seconds=seconds, worked=worked, reasons=reasons, rate=worked / seconds if seconds else 0.0,
    )  # fmt: skip
