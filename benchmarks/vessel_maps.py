"""How well do vessel maps carry over to a camera that taught nothing? For docs/results/vessel_maps.csv.

    python benchmarks/vessel_maps.py RUN [RUN ...] --data photographs.zip [--bundle nicking]

Each RUN is a folder of `python -m fundoscope.nicking.crossing_study.vessel_maps --without CAMERA`, which counted on the
photographs of the cameras that it left out; `--data` is the pack of these photographs, or the data folder. Rows: teacher and
student, one pass and the mean over eight turns and mirrorings, and the shipped bundle where it has seen no photograph of the
camera, with the student's paired difference from it. Intervals (95 %) by photograph, in CHASE_DB1 by child. Beyond the field: six simulated
photographs that are cut flat above and below, as the network answers, before the tool blanks everything outside the field.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fundoscope.bundles.read_nicking import open_nicking_bundle
from fundoscope.evaluation import results_table
from fundoscope.evaluation.metrics import Estimate, bootstrap
from fundoscope.imaging.local_contrast import local_contrast
from fundoscope.nicking.crossing_study.map_counts import count_maps, dice
from fundoscope.nicking.crossing_study.map_photographs import MapPhotograph, read_photographs
from fundoscope.nicking.crossing_study.vessel_maps import COUNTS
from fundoscope.nicking.recipes.crossings import read_map_recipe

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results" / "vessel_maps.csv"
RATIOS = {"artery or vein right": ("right", "kinds"), "artery or vein right, under 3 px": ("thin_right", "thin")}

Row = dict[str, str]


def counted_rows(runs: Sequence[Path]) -> list[Row]:
    """The rows of all runs; the name of the network tells which run it is of."""
    rows = []
    for run in runs:
        with (run / "result" / COUNTS).open(newline="") as file:
            rows += [{**row, "run": run.name} for row in csv.DictReader(file)]
    return rows


def rows_of_bundle(name: str, photographs: Sequence[MapPhotograph], cameras: set[str]) -> Iterator[Row]:
    """The counts of a bundle, in one pass, on photographs of cameras of which it has seen none."""
    bundle = open_nicking_bundle(name)
    seen = {each.camera for each in photographs if each.name in bundle.card.photographs}
    for each in photographs:
        if each.camera in cameras - seen and not each.simulated:
            own = each.photograph
            maps = bundle.map_vessels(local_contrast(own.pixels, own.planes[..., 3] > 127))
            counts = count_maps(maps, own.planes, own.known, bundle.card.crossings.vessel_threshold)
            row = {"photograph": each.name, "camera": each.camera, "group": each.group, "simulated": "False"}
            row |= {"network": "today's bundle", "ways": "1", "run": name}
            yield row | {key: str(value) for key, value in counts.items()}


def figures_of(rows: Sequence[Row], others: Sequence[Row] = ()) -> dict[str, Estimate]:
    """Mean Dice and shares of these photographs; with `others`, of the same photographs, the paired difference from them."""
    others = sorted(others, key=lambda row: row["photograph"])
    rows = sorted(rows, key=lambda row: row["photograph"])
    signed = [(1.0, rows)] + ([(-1.0, others)] if others else [])
    figures: dict[str, Estimate] = {}
    keep = np.array([row["true"] != "" for row in rows])
    if keep.any():
        score = np.sum([[sign * _dice(row) for row in part if row["true"]] for sign, part in signed], axis=0)
        figures["vessels, Dice"] = bootstrap(
            lambda w: {"": (w @ score) / w.sum(axis=1)}, np.ones(len(score)), [r["group"] for r in rows if r["true"]]
        )[""]
    known = [row for row in rows if row["kinds"]]
    for what, (right, of) in RATIOS.items() if known else ():
        pairs = [
            (s, *(np.array([float(row[key]) for row in part if row["kinds"]]) for key in (right, of)))
            for s, part in signed
        ]
        figures[what] = bootstrap(
            lambda w, pairs=pairs: {"": np.sum([s * (w @ hit) / (w @ n) for s, hit, n in pairs], axis=0)},
            np.ones(len(known)), [row["group"] for row in known],
        )[""]  # fmt: skip
    return figures


def _dice(row: Row) -> float:
    return dice(float(row["both"]), float(row["found"]), float(row["true"]))


def table(rows: Sequence[Row]) -> Iterator[dict[str, object]]:
    """The rows of the table, camera by camera, STARE and CHASE_DB1 also together."""
    real = [row for row in rows if row["simulated"] == "False"]
    cameras = [(camera,) for camera in dict.fromkeys(row["camera"] for row in real)]
    together = [("stare", "chase")] if {("stare",), ("chase",)} <= set(cameras) else []
    for names in cameras + together:
        there = [row for row in real if row["camera"] in names]
        arms = dict.fromkeys((row["network"], row["ways"]) for row in there)
        of = {arm: [row for row in there if (row["network"], row["ways"]) == arm] for arm in arms}
        today = of.get(("today's bundle", "1"), [])
        for (network, ways), own in of.items():
            start = {"camera left out": " and ".join(names), "network": network, "ways": ways}
            for what, value in figures_of(own).items():
                yield {**start, "what": what, "value": value}
            if today and network == "student":
                for what, value in figures_of(own, today).items():
                    yield {**start, "what": f"{what}, less today's bundle", "value": value}
    for run in dict.fromkeys(row["run"] for row in rows):
        for network, ways in (("teacher", "8"), ("student", "1")):
            beyond = [
                float(row["beyond_most"])
                for row in rows
                if row["simulated"] == "True" and (row["run"], row["network"], row["ways"]) == (run, network, ways)
            ]
            if beyond:
                most = Estimate(max(beyond), np.nan, np.nan, len(beyond), len(beyond), len(beyond))
                start = {"camera left out": f"{run}, simulated, cut flat", "network": network, "ways": ways}
                yield {**start, "what": "highest vessel probability beyond the field", "value": most}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    parser.add_argument(
        "--data", type=Path, required=True, help="pack of the photographs, or folder of the public sets"
    )
    parser.add_argument("--recipe", default="usual")
    parser.add_argument("--bundle", default="nicking", help="name of a shipped bundle, or a bundle's folder")
    given = parser.parse_args()
    rows = counted_rows(given.runs)
    photographs, _ = read_photographs([given.data], read_map_recipe(given.recipe))
    cameras = {row["camera"] for row in rows if row["simulated"] == "False"}
    rows += list(rows_of_bundle(given.bundle, photographs, cameras))
    for row in results_table(list(table(rows)), RESULTS):
        print("  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
