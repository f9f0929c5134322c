"""What the second question costs: each photograph screened with and without it, one right after the other.

    python benchmarks/two_stage_speed.py [--photographs N] [--rounds 5]

Simulated 640x480 photographs, file to decision on one thread, by the shipped bundle; each round asks every photograph one
question and both, in an order that alternates. A ratio is that of one photograph in one round, so what else the machine does
falls on both sides; printed and written to docs/results/two_stage_speed.csv with its quartiles, over all photographs and over
those that are asked both questions.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

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
    graders = [RopGrader(bundle, allow_simulated=both, threads=1) for both in (False, True)]
    pairs: list[tuple[float, float]] = []
    asked: list[bool] = []
    with tempfile.TemporaryDirectory() as folder:
        table = write_infants(given.photographs, Path(folder) / "eyes", seed=7, workers=2)
        paths = sorted((table.parent / "images").iterdir())
        for turn in range(given.rounds + 1):
            for number, path in enumerate(paths):
                ms, second = [0.0, 0.0], False
                for which in (0, 1) if (turn + number) % 2 else (1, 0):
                    start = time.perf_counter()
                    (finding,) = graders[which].screen([path])
                    ms[which], second = 1000 * (time.perf_counter() - start), second or finding.p_tr is not None
                if turn:  # the first round warms up
                    pairs.append((ms[0], ms[1]))
                    asked.append(second)
    rows = []
    for what, kept in (
        ("all", pairs),
        ("asked both questions", [p for p, both in zip(pairs, asked, strict=True) if both]),
    ):
        ratios = [two / one for one, two in kept]
        low, middle, high = quantiles(ratios, n=4)
        rows.append({
            "photographs": what, "one_stage_ms": round(median(one for one, _ in kept), 2),
            "two_stages_ms": round(median(two for _, two in kept), 2), "ratio": round(middle, 3),
            "ratio_quartile_1": round(low, 3), "ratio_quartile_3": round(high, 3),
            "n": len(kept) // given.rounds, "rounds": given.rounds,
        })  # fmt: skip
    results_table(rows, RESULTS)
    for row in rows:
        print("  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
