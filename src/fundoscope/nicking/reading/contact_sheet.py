"""The page that readers grade from: every patch with its number, and the rule of the four grades. It computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fundoscope.errors import counted
from fundoscope.reports import ReportFigure, Section, StudyPage, write_study_report
from fundoscope.vessels.grade_rule import SPAN

_ON_A_SHEET = 48  # patches under one heading

#: How a crossing is graded, in the words that both readers are given (the shares are those of `vessels.grade_rule`).
RULE = (
    "Judge the vein, the wider and darker of the two vessels, within one of its widths of the artery's edge, against the same vein "
    "2 to 4 widths away from the crossing, on each side of the artery alone. A vein that fades loses as much as one that gets thinner.",
    "0: as broad and as dark beside the artery as farther out, on both sides (a loss under a seventh cannot be seen with certainty). "
    "1: it tapers slightly on at least one side, and its worse side keeps about two thirds or more. "
    "2: clearly narrowed or faded on one side, by more than a third and up to a gap. "
    "3: narrowed by two fifths or more on both sides: an hourglass, or lost on both sides.",
    "Leave the cell blank where it cannot be read: no artery crosses a vein in the middle, or the vein's edges cannot be made out 2 to "
    "4 widths away. These grades are a rule of this program; there is no clinical scale of four grades to take instead.",
)


def write_contact_sheet(path: Path, tiles: Sequence[tuple[int, Path]]) -> None:
    """Write the page of the numbered tiles, whose files lie there."""
    sections = [
        Section(
            f"{part[0][0]} to {part[-1][0]}" if len(part) > 1 else str(part[0][0]),
            figures=[ReportFigure(tile, str(number), f"crossing {number}") for number, tile in part],
        )
        for part in (tiles[start : start + _ON_A_SHEET] for start in range(0, len(tiles), _ON_A_SHEET))
    ]
    page = StudyPage(
        title=f"{counted(len(tiles), 'crossing')} to be graded by two readers",
        lead=f"Each square spans about {SPAN:g} widths of its vein: left in its own colours, right with red, green and blue stretched "
        "apart. Write your grades beside these numbers in patches.csv, one reader in reader_1, the other in reader_2, without "
        "looking at each other's. Crossings come in an order drawn by chance; the tool's grades are not shown.",
        sections=[Section("How to grade", RULE), *sections],
    )
    write_study_report(path, page)
