"""What the shipped grader says of ordinary eyes: DRIVE's test photographs and IOSTAR's other six.

    python benchmarks/ordinary_eyes.py --data ../shared/data [--bundle nicking] [--out runs/ordinary-eyes]

Most of their veins are not nicked, and nobody has graded them, so only the share of crossings graded 2 or 3 can be judged:
asked at most 5 % of the confident crossings. Each of those is shown in OUT/<set>/report.html (research data: never commit
it). Writes docs/results/ordinary_eyes.csv.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from fundoscope.datasets import Dataset, open_dataset
from fundoscope.evaluation import results_table
from fundoscope.evaluation.metrics import Estimate, clopper_pearson
from fundoscope.findings import NickingFinding
from fundoscope.nicking.grading.grader import NickingGrader
from fundoscope.nicking.grading.outputs import grade_all

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "ordinary_eyes.csv"


def told(name: str, findings: list[NickingFinding]) -> dict[str, object]:
    """Counts by grade, and the share graded 2 or 3 of those that were graded."""
    crossings = [f for f in findings if f.crossing is not None]
    graded = Counter(f.grade for f in crossings if f.grade is not None)
    n, high = sum(graded.values()), graded[2] + graded[3]
    low, top = clopper_pearson(high, n) if n else (float("nan"), float("nan"))
    return {
        "on": name, "photographs": len({f.file for f in findings}), "refused": sum(f.status != "ok" for f in findings),
        "crossings": len(crossings), "graded": n, **{f"grade_{g}": graded[g] for g in range(4)},
        "share_2_or_3": Estimate(high / n if n else float("nan"), low, top, n, high, n), "asked_at_most": 0.05,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds drive_av and iostar")
    parser.add_argument("--bundle", default="nicking")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "ordinary-eyes")
    given = parser.parse_args()
    grader = NickingGrader.open(given.bundle)
    sets: dict[str, Dataset] = {
        "DRIVE test": open_dataset(given.data / "drive_av/test"), "IOSTAR, other 6": open_dataset(given.data / "iostar")[10:],
    }  # fmt: skip
    rows = []
    for name, known in sets.items():
        named = [(str(source.path), source.path) for source in known.sources]
        out = given.out / name.replace(", ", "-").replace(" ", "-")
        rows.append(told(name, [f for graded in grade_all(grader, named, out, False) for f in graded.findings]))
    for row in results_table(rows, RESULTS):
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
