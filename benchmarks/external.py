"""External validation of the shipped ROP grader on the camera that it never saw: the Neo photographs of HVDROPDB.

    python benchmarks/external.py [--data ../shared/data] [--photographs hvdropdb_neo] [--bundle rop] [--results external_neo]

It is `fundoscope cohort from-folders` and `fundoscope rop evaluate --images-are-independent --prevalence 0.06,0.43`: the
infants are unknown, and photographs of one eye, which the audit finds, stay together in the intervals. The tables go to
docs/results/external_neo; about two minutes on one idle core.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from fundoscope.cli.console import Console
from fundoscope.cohort import Cohort
from fundoscope.rop.external.run import ExternalOptions, evaluate_bundle

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FUNDOSCOPE_DATA", ROOT.parent / "shared" / "data"))
PREVALENCES = (0.06, 0.43)  # as docs/how-to/train-on-your-photographs.md has them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds the photographs' folder")
    parser.add_argument("--photographs", default="hvdropdb_neo", help="folder within it, holding normal/ and rop/")
    parser.add_argument("--bundle", default="rop")
    parser.add_argument("--results", default="external_neo", help="folder of docs/results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table, out = Path(folder) / f"{given.photographs}.csv", Path(folder) / "out"
        Cohort.from_folders(given.data / given.photographs).write(table)
        evaluate_bundle(ExternalOptions(table, given.bundle, out, True, PREVALENCES), Console())
        results = ROOT / "docs" / "results" / given.results
        shutil.rmtree(results, ignore_errors=True)
        unneeded = shutil.ignore_patterns("curves.csv", "photographs.csv")  # a point of a curve and a photograph a row
        shutil.copytree(out / "tables", results, ignore=unneeded)
    print(f"tables: {results}")


if __name__ == "__main__":
    main()
