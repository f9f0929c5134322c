"""Make the ROP graders that ship: `make weights-rop`, `make weights-nano`.

It runs the study of src/fundoscope/rop/recipes/shipped.toml: recipe `robust` on the RetCam and Neo photographs of HVDROPDB, the
teacher, the student that it teaches, and the same student alone, each after pretraining on simulated infants; each of them on one
camera and tested on the other; then one network on all photographs and a second stage learnt from simulated eyes. It goes on
where it was cut off, fit by fit, and inside a fit at its last whole epoch. What it makes stays in the folder given by --out.
With --bundle nano it is the study of shipped_nano.toml: the small grader, recipe `nano`, which learns from the shipped one.

    python benchmarks/weights_rop.py --install --out DIR    once its figures were read: the bundle goes to
                                                            src/fundoscope/shipped/rop, the tables to docs/results/both_cameras
    python benchmarks/weights_rop.py --card-only        the card alone, as this version writes cards; nothing is trained
    python benchmarks/weights_rop.py --hashes-only --data DIR    the hashes of the training photographs; nothing is trained
    python benchmarks/weights_rop.py --likeness-only --data DIR  what the training photographs look like; nothing is trained
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fundoscope.cli.console import Console
from fundoscope.rop.study.ship import (
    SHIPPED_STUDIES,
    add_shipped_hashes,
    add_shipped_likeness,
    install_shipped_study,
    make_shipped_study,
    rewrite_shipped_card,
)
from fundoscope.runs.workers import WorkEngine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", choices=SHIPPED_STUDIES, default="rop", help="which grader is made or installed")
    parser.add_argument("--data", type=Path, help="folder that holds hvdropdb_retcam and hvdropdb_neo")
    parser.add_argument("--out", type=Path, help="folder of the study; it is resumed")
    parser.add_argument(
        "--workers", type=int, default=1, help="fits beside each other, an equal share of the threads each"
    )
    parser.add_argument(
        "--install", action="store_true", help="ship the bundle of the finished study; nothing is trained"
    )
    parser.add_argument("--card-only", action="store_true", help="write the card of the shipped bundle anew")
    parser.add_argument("--hashes-only", action="store_true", help="write the bundle's hashes of its photographs anew")
    parser.add_argument("--likeness-only", action="store_true", help="write what these photographs look like anew")
    given = parser.parse_args()
    if given.card_only:
        print(rewrite_shipped_card().eye_decision.words)
        return
    if given.hashes_only:
        if given.data is None:
            parser.error("--data is needed to hash the photographs")
        print(f"{add_shipped_hashes(given.data).name}: hashes written")
        return
    if given.likeness_only:
        if given.data is None:
            parser.error("--data is needed to measure the photographs")
        print(f"{add_shipped_likeness(given.data).name}: likeness written")
        return
    if given.install:
        if given.out is None:
            parser.error("--out is needed: the folder of the finished study")
        print(install_shipped_study(given.out, name=given.bundle))
        return
    if given.data is None or given.out is None:
        parser.error("--data and --out are needed to train")
    print(make_shipped_study(given.data, given.out, Console(), given.bundle, WorkEngine(workers=given.workers)))


if __name__ == "__main__":
    main()
