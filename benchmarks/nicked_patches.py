"""Draw the patches that graders of nicking are taught and measured on: `make nicked-patches`.

    python benchmarks/nicked_patches.py --data ../shared/data --out runs/nicked [--workers 2]

    drive, hrf              pinched and sham-warped crossings of DRIVE's training photographs and of HRF
    redrawn                 the same crossings by the second renderer, which nothing is trained on
    eyes                    crossings of simulated eyes

A folder each with patches.csv, a table of `fundoscope nicking study-grades`; eyes.csv holds the simulated ones together, and
real_even.csv, real_odd.csv, redrawn_odd.csv the real ones by the rank of their photograph: the half of the photographs
that an upstream network has seen only trains, the other is tested. They are cut from research data: never commit them. It goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from fundoscope.imaging import Pixels
from fundoscope.nicking.grade_study.nicked_patches import (
    LesionRecipe,
    write_nicked_patches,
    write_patch_table,
    write_simulated_patches,
)
from fundoscope.simulate.pinch import WarpPlan
from fundoscope.simulate.pinch.second_renderer import redraw
from fundoscope.vessels import MeasuredCrossing

SETS = {"drive": "drive_av/training", "hrf": "hrf_av"}
EYES = (("drive", 1130, range(3000, 3024)), ("hrf", 1400, range(3100, 3110)), ("iostar", 1024, range(3200, 3206)))
REDRAWN = tuple((grade, ("none",)) for grade in range(4))


def redrawn(pixels: Pixels, crossing: MeasuredCrossing, plan: WarpPlan) -> Pixels:
    """The plan's narrowing by the second renderer."""
    rng = np.random.default_rng(int(1e6 * abs(plan.jitter[0])))
    return redraw(pixels, crossing, plan.narrowing, plan.taper, rng)


def joined(tables: list[Path], out: Path, ranks: tuple[int, ...] = (0, 1), every: int = 1) -> None:
    """One table of several, beside their folders: photographs of even rank, odd, or both; of grade 0 each `every`-th patch."""
    rows = []
    for table in tables:
        with table.open(newline="", encoding="utf-8") as file:
            found = [
                {**row, "patch": f"{table.parent.relative_to(out.parent)}/{row['patch']}"}
                for row in csv.DictReader(file)
                if int(Path(row["patch"]).stem.split("_")[0]) % 2 in ranks
            ]
        ordinary = [row for row in found if row["grade"] == "0"]
        rows += [row for row in found if row["grade"] != "0"] + ordinary[::every]
    write_patch_table(out, rows)
    print(f"{out}: {len(rows)} patches of {len({row['photograph'] for row in rows})} photographs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds drive_av and hrf_av")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    out = given.out
    for table, how in (("real", LesionRecipe(seed=1)), ("redrawn", LesionRecipe(2, REDRAWN, redrawn))):
        parts = [
            write_nicked_patches(given.data / folder, out / table / name, how, given.workers)
            for name, folder in SETS.items()
        ]
        for half, rank in (("even", 0), ("odd", 1)):
            joined(parts, out / f"{table}_{half}.csv", (rank,))
    eyes = [
        write_simulated_patches(seeds, camera, size, out / "eyes" / camera, given.workers)
        for camera, size, seeds in EYES
    ]
    joined(eyes, out / "eyes.csv", every=4)


if __name__ == "__main__":
    main()
