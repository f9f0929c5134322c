"""100 natural crossings, graded by two readers who do not know each other's grades; the tool's agreement beside their own.

    python benchmarks/natural_reading.py --data ../shared/data --sheets SHEETS
    fundoscope nicking grade ../shared/data/drive_av/test/images ../shared/data/hrf_av/images --out runs/natural-reading
    python benchmarks/natural_reading.py --grades runs/natural-reading/results.csv

The first call draws contact sheets and, where there is no list yet, writes docs/results/natural_reading.csv with no grades
in it. The readers write theirs into `reader_1` and `reader_2`, a third pass writes `settled` where the two differ, and the
last call writes docs/results/natural_reading_agreement.csv. **Both readers build this tool, neither is a clinician.** So
what is measured is whether the tool sees what its builders see by the rule below, not whether it is right about patients.

The crossings are 50 of DRIVE's test photographs and 50 of HRF, drawn once from all candidates of
`nicking/recipes/chosen_crossings.csv`: from those that were left out as narrowed or blurred, too, or grades 1 to 3 would be
missing. The tiles show them shuffled, with no set, no name and no measurement, and with the contrast of
red, green and blue stretched apart.

The rule. The vein is judged within one of its widths of the artery's edge, against the same vein 2 to 4 widths away from the
crossing, on each side of the artery alone; of a vein that forks there, the branch that runs to the artery counts. What counts
is what can be seen: a vein that fades loses as much as one that gets thinner (half its contrast is half its width). The
shares are those of `vessels/grade_rule.py`; there is no clinical scale of four grades to take instead.

    0      the vein comes to the artery as broad and as dark as it is farther out, on both sides; a loss under a seventh (.15)
           cannot be seen with certainty and is 0
    1      the vein tapers slightly, at least on one side; its worse side keeps about two thirds or more (a loss of .15 to .36)
    2      the vein is clearly narrowed or faded on one side, by more than a third (.36) and up to a gap, and the other
           side does not make it 3
    3      the vein is narrowed by two fifths (.40) or more on both sides: an hourglass, or lost on both sides of the artery
    blank  cannot be read: the vein's edges cannot be made out 2 to 4 widths away on one of its sides, or no artery crosses
           a vein in the middle. A vein that is clear farther out and lost only beside the artery can be read: 2 or 3.

The tool's answer is the nearest crossing that it found within one width of the vein; where it found none, or gave no grade,
the crossing counts in coverage. Crossings of one photograph are not independent, so intervals resample photographs. HRF
taught the shipped networks; of DRIVE's test photographs they saw none.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fundoscope.cohort.sheet import SheetRow, read_sheet, write_sheet
from fundoscope.datasets import open_dataset
from fundoscope.evaluation import results_table
from fundoscope.evaluation.metrics import Readings, estimate_share, settle
from fundoscope.nicking.grade_study.chosen_crossings import (
    Candidate,
    ContactSheetLayout,
    draw_contact_sheets,
    read_candidates,
)
from fundoscope.nicking.grade_study.patch_table import parse_grade
from fundoscope.nicking.reading.tool_grades import CrossingPlace, match_results
from fundoscope.vessels.grade_rule import GRADES, SPAN

ROOT = Path(__file__).resolve().parent.parent
READING = ROOT / "docs" / "results" / "natural_reading.csv"
RESULTS = READING.with_name("natural_reading_agreement.csv")
COLUMNS = ("number", "photograph", "row", "column", "vein_px", "reader_1", "reader_2", "settled")
SETS = {"RITE test": "drive_av/test", "HRF": "hrf_av"}  # as the candidates name them, and their folders
PER_SET = 50
SEED = 18
LAYOUT = ContactSheetLayout(side=320, span=SPAN, across=4, down=3, each_colour=True)
PAIRS = (
    ("reader_1", "reader_2"), ("reader_1", "tool"), ("reader_2", "tool"), ("settled", "tool"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReadCrossing:
    """A crossing, its place and vein's width in pixels of the file, and the grade by each grader: None where there is none.

    `found` says whether the tool found it; None where the tool was not asked.
    """

    photograph: str
    row: float
    column: float
    vein_px: float
    grades: dict[str, int | None]
    found: bool | None = None


def draw_list(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The crossings to be read, shuffled and numbered from 1."""
    rng = np.random.default_rng(SEED)
    drawn = []
    for name in SETS:
        own = [each for each in candidates if each.photograph.startswith(f"{name}/")]
        drawn += [own[k] for k in rng.choice(len(own), PER_SET, replace=False)]
    return [replace(drawn[k], number=number) for number, k in enumerate(rng.permutation(len(drawn)), 1)]


def read_reading(path: Path) -> list[ReadCrossing]:
    """The list with the readers' grades. Where the readers agree their grade is the settled one, without a third pass.

    Raises `UsageError` for a grade other than 0 to 3 or blank.
    """
    crossings = []
    for row in read_sheet(path, COLUMNS):
        first, second, settled = (parse_grade(row, column) for column in ("reader_1", "reader_2", "settled"))
        grades = {"reader_1": first, "reader_2": second, "settled": settle(first, second, settled)}
        place = (float(row[column]) for column in ("row", "column", "vein_px"))
        crossings.append(ReadCrossing(row["photograph"], *place, grades))
    return crossings


def match_tool(crossings: Sequence[ReadCrossing], findings: Sequence[SheetRow]) -> list[ReadCrossing]:
    """The crossings with the grade `tool`: that of the nearest finding in the same photograph, within one vein width.

    Raises `UsageError` where a photograph was not given to the tool.
    """
    places = [CrossingPlace(each.photograph, each.row, each.column, each.vein_px) for each in crossings]
    return [
        replace(crossing, grades=crossing.grades | {"tool": tool.grade}, found=tool.found)
        for crossing, tool in zip(crossings, match_results(places, findings), strict=True)
    ]


def agreements(crossings: Sequence[ReadCrossing]) -> Iterator[dict[str, object]]:
    """A row for each pair of graders, in all crossings and in each set; pairs with nothing in common are left out."""
    for data in ("all", *SETS):
        listed = [each for each in crossings if data == "all" or each.photograph.startswith(f"{data}/")]
        graders = {name for pair in PAIRS for name in pair}
        given = {name: [each.grades.get(name) for each in listed] for name in graders}
        readings = Readings(tuple(map(str, range(GRADES))), [each.photograph for each in listed], given)
        for first, second in PAIRS:
            found = readings.measure(first, second)
            if found is None:
                continue
            asked = [each.found for each in listed if second == "tool"]
            both = [each for each in listed if None not in (each.grades.get(first), each.grades.get(second))]
            shares = {
                f"{name}_2_or_3": estimate_share(
                    [each.grades[grader] >= 2 for each in both], [each.photograph for each in both]
                )
                for name, grader in (("first", first), ("second", second))
            }
            yield {
                "data": data, "first": first, "second": second, "listed": len(listed), "found": sum(map(bool, asked)) if asked else None,
                "coverage": found.coverage, "quadratic_kappa": found.quadratic_kappa, "same_grade": found.same_class, **shares,
                "confusion": " | ".join(" ".join(map(str, row)) for row in found.counts),
            }  # fmt: skip


def draw_sheets(data: Path, out: Path) -> None:
    """Draw the contact sheets, and write the list without grades where there is none."""
    listed = draw_list(read_candidates())
    sources = {source.full_name: source for folder in SETS.values() for source in open_dataset(data / folder).sources}
    records = {name: sources[name].reader(sources[name]) for name in {each.photograph for each in listed}}
    for path in draw_contact_sheets(listed, records, out, LAYOUT):
        print(path)
    if not READING.exists():
        rows = ((e.number, e.photograph, e.row, e.column, e.vein_px, None, None, None) for e in listed)
        print(write_sheet(READING, COLUMNS, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds drive_av and hrf_av; needed for --sheets")
    parser.add_argument("--sheets", type=Path, help="draw contact sheets into this folder: never commit them")
    parser.add_argument("--grades", type=Path, nargs="+", default=[], help="results.csv of fundoscope nicking grade")
    given = parser.parse_args()
    if given.sheets:
        if given.data is None:
            parser.error("--sheets needs the photographs: give their folder by --data")
        draw_sheets(given.data, given.sheets)
        return
    crossings = read_reading(READING)
    if given.grades:
        crossings = match_tool(crossings, [row for path in given.grades for row in read_sheet(path, ("file", "grade"))])
    rows = [*agreements(crossings)]
    if not rows:
        parser.error(
            f"no two graders graded the same crossing: fill {READING.name}, or give the tool's grades by --grades"
        )
    for row in results_table(rows, RESULTS):
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
