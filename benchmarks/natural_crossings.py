"""How the shipped grader grades natural crossings, of eyes without known nicking: DRIVE's test photographs and IOSTAR's other six.

    python benchmarks/natural_crossings.py --data ../shared/data [--bundle nicking] [--out runs/natural-crossings]

Most of their veins are not nicked, and nobody has graded them, so only the share of crossings graded 2 or 3 can be judged:
at most 5 % of the confident crossings. Crossings of one eye are not independent, so intervals resample photographs; of
fewer than ten the shares by photograph stand there instead. Most grades are the networks' alone, since the vein could not
be measured: the share stands there once more for the crossings that were measured on both sides. Each crossing graded 2 or 3 is shown in OUT/<set>/report.html (research data: never commit
it). Writes docs/results/natural_crossings.csv.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from fundoscope.datasets import Dataset, open_dataset
from fundoscope.evaluation import results_table
from fundoscope.evaluation.metrics import estimate_share
from fundoscope.findings import Mention, Row
from fundoscope.nicking.grading.grader import NickingGrader
from fundoscope.runs import run

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "natural_crossings.csv"


def counts_by_grade(name: str, findings: list[Row]) -> dict[str, object]:
    """Counts by grade, and the share graded 2 or 3 of those that were graded, and of those of them that were measured on
    both sides; intervals by photograph.
    """
    crossings = [row for row in findings if row["crossing"] is not None]
    graded = [row for row in crossings if row["grade"] is not None]
    measured = [row for row in graded if None not in (row["narrowing_1"], row["narrowing_2"])]
    counts = Counter(row["grade"] for row in graded)
    share, share_measured = (
        estimate_share([row["grade"] >= 2 for row in own], [row["file"] for row in own]) for own in (graded, measured)
    )
    return {
        "data": name, "photographs": len({row["file"] for row in findings}), "refused": sum(row["status"] != "ok" for row in findings),
        "crossings": len(crossings), "graded": len(graded), **{f"grade_{g}": counts[g] for g in range(4)},
        "required_at_most": 0.05, "share_2_or_3": share, "measured_on_both_sides": share_measured,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds drive_av and iostar")
    parser.add_argument("--bundle", default="nicking")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "natural-crossings")
    given = parser.parse_args()
    grader = NickingGrader.open(given.bundle)
    sets: dict[str, Dataset] = {
        "DRIVE test": open_dataset(given.data / "drive_av/test"), "IOSTAR, other 6": open_dataset(given.data / "iostar")[10:],
    }  # fmt: skip
    rows = []
    for name, known in sets.items():
        photographs = [Mention(str(source.path)) for source in known.sources]
        out = given.out / name.replace(", ", "-").replace(" ", "-")
        run(grader, photographs, out, replace=True)
        rows.append(counts_by_grade(name, json.loads((out / "results.json").read_text())["rows"]))
    for row in results_table(rows, RESULTS):
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
