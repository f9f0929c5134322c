"""What the second question costs: the same photographs screened with and without it, in turns.

    python benchmarks/two_stage_speed.py [--photographs N] [--rounds 5]

Simulated 640x480 photographs, file to decision, by the shipped bundle; each round screens all of them once without and
once with the second stage. Prints the ratio of the medians and writes docs/results/two_stage_speed.csv.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from fundoscope.bundles import open_bundle
from fundoscope.evaluation import results_table
from fundoscope.rop.screening.grader import RopGrader
from fundoscope.simulate import write_infants

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "two_stage_speed.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bundle", default="rop")
    given = parser.parse_args()
    bundle = open_bundle(given.bundle)
    if bundle.second is None:
        raise SystemExit(f"bundle '{given.bundle}' has one stage only.")
    arms = {"one stage": False, "two stages": True}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    with tempfile.TemporaryDirectory() as folder:
        table = write_infants(given.photographs, Path(folder) / "eyes", seed=7, workers=2)
        paths = sorted((table.parent / "images").iterdir())
        for turn in range(given.rounds + 1):
            for name, both in arms.items():
                grader = RopGrader(bundle, allow_simulated=both)
                start = time.perf_counter()
                asked = sum(finding.p_tr is not None for finding in grader.screen(paths))
                if turn:  # the first round warms up
                    seconds[name].append(1000 * (time.perf_counter() - start) / len(paths))
    rows = [{"what": name, "ms_a_photograph": round(median(each), 2), "least": round(min(each), 2),
             "most": round(max(each), 2), "photographs": len(paths), "asked": asked if both else 0}
            for (name, both), each in zip(arms.items(), seconds.values(), strict=True)]  # fmt: skip
    ratio = rows[1]["ms_a_photograph"] / rows[0]["ms_a_photograph"]
    rows.append({"what": "ratio", "ms_a_photograph": round(ratio, 3)})
    results_table(rows, RESULTS)
    for row in rows:
        print("  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
