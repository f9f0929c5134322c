"""Whether a patch file of `nicking cut-patches` leads to what its photograph leads to: pixels, vessel maps, the tool's answer.

    fundoscope nicking cut-patches LES-AV/images DRIVE/training/images --per-photograph 3 --out patches
    python benchmarks/cut_patches.py patches/patches.csv

Each crossing is graded twice, in its photograph and from its file, by the shipped bundle. The pixels are compared over the patch
of a photograph, which lies in the middle of the file; the maps, which are made anew from the file, in the inputs of the
networks. Photographs are resampled for intervals. Writes docs/results/cut_patches.csv.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from fundoscope.evaluation import results_table
from fundoscope.evaluation.metrics import estimate_share
from fundoscope.nicking.grade_study.patch_table import PatchRow, read_patch_table
from fundoscope.nicking.grading.grader import NickingGrader
from fundoscope.nicking.reading.tool_grades import known_scale

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results" / "cut_patches.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="patches.csv of cut-patches, its photographs where they were")
    given = parser.parse_args()
    grader = NickingGrader.open("nicking")
    by_photograph: dict[str, list[PatchRow]] = defaultdict(list)
    for row in read_patch_table(given.table):
        by_photograph[row.photograph].append(row)
    groups, grey, maps, answers = [], [], [], []
    for photograph, rows in by_photograph.items():
        grading = grader.grade_photograph(photograph, photograph)
        places = np.array([crossing.place for crossing in grading.crossings])
        for row in rows:
            whole = grading.grades[int(np.argmin(np.hypot(*(places - row.place).T)))]
            from_file = grader.grade_patch(row.path, row.path.name, known_scale(row)).grade
            patch = from_file.patch
            edge = (patch.side - whole.patch.side) // 2
            middle = patch.pixels[edge : edge + whole.patch.side, edge : edge + whole.patch.side].astype(int)
            grey.append(int(np.abs(middle - whole.patch.pixels).max()))
            maps.append(float(np.abs(patch.inputs[1] - whole.patch.inputs[1]).mean() / 2))
            answers.append((whole.grade, from_file.grade))
            groups.append(photograph)
    both = [k for k, pair in enumerate(answers) if None not in pair]
    row = {
        "grey_levels_apart_at_most": max(grey),
        "maps_apart": float(np.mean(maps)),
        "graded_in_photograph": sum(one is not None for one, _ in answers),
        "graded_from_file": sum(other is not None for _, other in answers),
        "same_answer": estimate_share([one == other for one, other in answers], groups),
        "same_grade_where_both": estimate_share(
            [answers[k][0] == answers[k][1] for k in both], [groups[k] for k in both]
        ),
    }
    for found in results_table([row], RESULTS):
        print("  ".join(f"{key} {value}" for key, value in found.items()))


if __name__ == "__main__":
    main()
