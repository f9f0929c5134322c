"""Crossings of ordinary eyes as `nicking grade` finds them, taken as not nicked: patches to learn from.

The crossings that are pinched were chosen: clear of others, of vessels wide enough to be measured. What a grader meets in a
photograph is not: thin veins, tangles, places that are no crossing at all. Few of them are nicked in an ordinary eye, and those
that measure as narrowed are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fundoscope.bundles.read_nicking import NickingBundle
from fundoscope.imaging import Pixels, Prepared
from fundoscope.nicking.grade_study.nicked_patches import save_wide_patch, write_patch_table
from fundoscope.nicking.grade_study.patch_table import WIDE_SPAN
from fundoscope.nicking.grading.crossing_candidates import find_candidates
from fundoscope.nicking.grading.grades import measures_as_nicked
from fundoscope.nicking.grading.vessel_maps import map_photograph
from fundoscope.nicking.grading.widths import measure_crossings


def write_natural_crossings(name: str, take: Callable[[], Pixels], bundle: NickingBundle, out: Path) -> Path:
    """Write the crossings of the photograph that `take` gives to `out`/patches, (288, 288, 3) each, unless that is done;
    gives the table that lists them. `name` is the photograph's, as in a table's `photograph`.
    """
    table = out / f"{name.replace('/', '_')}.csv"
    if table.exists():
        return table
    (out / "patches").mkdir(parents=True, exist_ok=True)
    pixels = take()
    photograph = map_photograph(Prepared.read(pixels), bundle)
    candidates = find_candidates(photograph.maps, photograph.artery_vein)
    rows = []
    for number, one in enumerate(measure_crossings(photograph, candidates, bundle.card.crossings)):
        if measures_as_nicked(one.narrowing):
            continue
        width = one.map_vein_width
        path = f"patches/{table.stem}_{number:02d}.png"
        save_wide_patch(out / path, pixels, one.place, width)
        about = {"patch": path, "grade": 0, "photograph": name, "sham": "ordinary"}
        rows.append({**about, "span": WIDE_SPAN, "vein_px": round(width / photograph.scale, 2)})
    return write_patch_table(table, rows)
