"""Make the shipped ROP grader: `make weights-rop`.

It runs the study of src/fundoscope/rop/recipes/shipped.toml: recipe `lite` on the RetCam photographs of HVDROPDB, the
teacher, the student that it teaches, and the same student alone, each after pretraining on simulated infants; then one
network on all photographs and a second stage learnt from simulated eyes. The bundle goes to src/fundoscope/shipped/rop, the
tables to docs/results/retcam. It goes on where it was cut off.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fundoscope.cli.console import Console
from fundoscope.rop.study.ship import ship


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds hvdropdb_retcam")
    parser.add_argument("--out", type=Path, required=True, help="folder of the study; it is resumed")
    given = parser.parse_args()
    print(ship(given.data, given.out, Console()))


if __name__ == "__main__":
    main()
