"""Peak memory of `fundoscope rop evaluate` against the number of photographs, all of them different.

    python benchmarks/external_memory.py [--photographs 250 1000] [--side 200] [--folder runs/external-memory]

Simulated infants, one photograph each: the audit and the rest of the evaluation, each in a process of its own, whose peak
resident memory the system tells. Writes docs/results/external_memory.csv; ten minutes on one
core, most of them to draw the eyes.
"""

from __future__ import annotations

import argparse
import csv
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "external_memory.csv"
SEED = 19


def cut(table: Path, photographs: int) -> Path:
    """The table's first rows, in a table beside it."""
    lines = table.read_text(encoding="utf-8").splitlines()[: photographs + 1]
    short = table.with_name(f"first-{photographs}.csv")
    short.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return short


def work(step: str, table: Path, out: Path) -> None:
    """One step, in this process."""
    from fundoscope.bundles import open_bundle
    from fundoscope.bundles.training_hashes import read_training_hashes
    from fundoscope.cli.console import Console
    from fundoscope.cohort import Cohort, audit
    from fundoscope.processors import share_processors
    from fundoscope.rop.external.predict import CohortPredictor
    from fundoscope.rop.external.run import ExternalOptions, evaluate_bundle
    from fundoscope.rop.study.questions import rop_question

    if step == "audit":
        audit(Cohort.read(table))
    elif step == "grading":
        bundle, cohort = open_bundle("rop"), Cohort.read(table)
        share_processors(1)
        out.mkdir(parents=True)
        hashes = read_training_hashes(bundle.folder, bundle.card)
        CohortPredictor(bundle, [rop_question(cohort)], hashes).write(cohort, out, Console(quiet=True))
    else:
        evaluate_bundle(ExternalOptions(table, "rop", out), Console(quiet=True))


def measured(step: str, table: Path, out: Path) -> dict[str, object]:
    """Peak memory and seconds of one step, in a process of its own."""
    shutil.rmtree(out, ignore_errors=True)
    start = time.perf_counter()
    command = [sys.executable, __file__, "--work", step, str(table), str(out)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return {"step": step, "peak MB": int(done.stdout), "seconds": round(time.perf_counter() - start)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, nargs="+", default=[250, 1000])
    parser.add_argument("--side", type=int, default=200, help="pixels of the longer side")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "external-memory")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work[0], Path(given.work[1]), Path(given.work[2]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    from fundoscope.simulate import write_infants

    eyes = given.folder / f"eyes-{max(given.photographs)}-{given.side}"
    if not (eyes / "cohort.csv").exists():
        shutil.rmtree(eyes, ignore_errors=True)
        write_infants(max(given.photographs), eyes, SEED, workers=1, size=given.side)
    rows = []
    for photographs in given.photographs:
        table = cut(eyes / "cohort.csv", photographs)
        for step in ("audit", "grading", "all of rop evaluate"):
            rows.append(
                {"photographs": photographs, "pixels": given.side} | measured(step, table, given.folder / "out")
            )
            print(*rows[-1].values(), flush=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
