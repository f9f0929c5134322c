"""Measure the maps of the shipped nicking bundle on photographs that it has never seen, for docs/results/crossings.csv.

    python benchmarks/crossing_maps.py --data ../shared/data [--bundle nicking]

DRIVE test with RITE's maps, and IOSTAR's last 6 photographs. `asked` is what we set out to reach.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fundoscope.bundles.read_nicking import NickingBundle, open_nicking_bundle
from fundoscope.datasets import PhotographRecord, open_dataset
from fundoscope.evaluation import results_table
from fundoscope.imaging import Prepared
from fundoscope.nicking.crossing_study.map_figures import measure_maps
from fundoscope.nicking.crossing_study.map_settings import MapsAndTruth
from fundoscope.nicking.grading.vessel_maps import map_photograph
from fundoscope.nicking.recipes.shipped import read_shipped_recipe

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results" / "crossings.csv"

ASKED = {
    "vessels, Dice": 0.82,
    "artery or vein right, by pixel": 0.92,
    "artery or vein right, after the vote": 0.94,
    "crossings of wide vessels, f1": 0.80,
}
ASKED_F1 = {"DRIVE test": 0.75, "IOSTAR, other 6": 0.60}  # IOSTAR's points know no arteries and veins


def maps_of(bundle: NickingBundle, record: PhotographRecord) -> MapsAndTruth:
    mapped = map_photograph(Prepared.read(record.pixels), bundle)
    return MapsAndTruth.from_maps(record, mapped.maps, mapped.inside, mapped.scale)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds drive_av and iostar")
    parser.add_argument("--bundle", default="nicking", help="name of a shipped bundle, or a bundle's folder")
    given = parser.parse_args()
    bundle = open_nicking_bundle(given.bundle)
    rows = []
    for tested in read_shipped_recipe("nicking").tested:
        known = open_dataset(given.data / tested.folder)[tested.first : tested.last]
        for what, value in measure_maps([maps_of(bundle, record) for record in known], bundle.card.crossings).items():
            asked = ASKED_F1[tested.name] if what == "crossings, f1" else ASKED.get(what)
            rows.append({"on": tested.name, "what": what, "value": value, "asked": asked})
    for row in results_table(rows, RESULTS):
        print("  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
