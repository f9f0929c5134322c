"""Natural crossings: those that `nicking grade` finds in eyes without known nicking. Patches to learn from.

The crossings that are pinched were chosen: clear of others, of vessels wide enough to be measured. What a grader meets in
a photograph is not: thin veins, tangles, places that are no crossing at all. In a simulated eye that was drawn without
nicking all of them are known to be grade 0. In a photograph only those are taken for grade 0 whose vein was measured on
both sides and is not narrowed; those that measure as nicked (`vessels.grade_rule`) are left out, and where a side was not
measured the grade is not known, and stays blank.
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
from fundoscope.vessels.grade_rule import NICKED_FROM

_SHAM = "natural"  # what a row says in place of a sham warp


def write_natural_crossings(
    name: str, load_pixels: Callable[[], Pixels], bundle: NickingBundle, out: Path, without_nicking: bool = False
) -> Path:
    """Write the natural crossings of a photograph as wide patches below `out`; returns the table of them.

    `name` is the photograph's in the table; `load_pixels` gives it, (rows, columns, 3), and is not called where the table
    is there already. `without_nicking` says that the eye is known to have none: then every crossing is grade 0. Else it is
    grade 0 where both sides measure so, and blank where a side could not be measured.
    """
    table = out / f"{name.replace('/', '_')}.csv"
    if table.exists():
        return table
    (out / "patches").mkdir(parents=True, exist_ok=True)
    pixels = load_pixels()
    photograph = map_photograph(Prepared.read(pixels), bundle)
    candidates = find_candidates(photograph.maps, photograph.artery_vein)
    rows = []
    for number, crossing in enumerate(measure_crossings(photograph, candidates, bundle.card.crossings)):
        narrowing = crossing.narrowing
        if without_nicking or not measures_as_nicked(narrowing):
            width = crossing.map_vein_width
            path = f"patches/{table.stem}_{number:02d}.png"
            save_wide_patch(out / path, pixels, crossing.place, width)
            undisturbed = narrowing is not None and narrowing.is_undisturbed(NICKED_FROM)
            grade = 0 if without_nicking or undisturbed else None
            about = {"patch": path, "grade": grade, "photograph": name, "sham": _SHAM}
            rows.append({**about, "span": WIDE_SPAN, "vein_px": round(width / photograph.scale, 2)})
    return write_patch_table(table, rows)
