"""Natural crossings: those that `nicking grade` finds in eyes without known nicking. Patches to learn from.

    python -m fundoscope.nicking.grade_study.natural_crossings --data DATA --upstream U [--upstream ...] --out OUT

writes OUT/natural.csv for a study's `--extra`: of the photographs of --sets, each by the maps of an upstream that has not seen it, and
of the simulated eyes of the shipped recipe. It goes on where it was cut off.

The crossings that are pinched were chosen: clear of others, of vessels wide enough to be measured. What a grader meets in
a photograph is not: thin veins, tangles, places that are no crossing at all. In a simulated eye that was drawn without
nicking all of them are known to be grade 0. In a photograph only those are taken for grade 0 whose vein was measured on
both sides and is not narrowed; those that measure as nicked (`vessels.grade_rule`) are left out, and where a side was not
measured the grade is not known, and stays blank.
"""

from __future__ import annotations

import argparse
import csv
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from fundoscope.bundles.read_nicking import NickingBundle
from fundoscope.datasets import open_dataset
from fundoscope.imaging import Pixels, Prepared, read
from fundoscope.nicking.grade_study.nicked_patches import save_wide_patch, write_patch_table
from fundoscope.nicking.grade_study.patch_table import WIDE_SPAN, PatchRow, read_patch_table
from fundoscope.nicking.grade_study.transfer import Upstream, upstreams_free_of
from fundoscope.nicking.grade_study.views import Workers
from fundoscope.nicking.grading.crossing_candidates import find_candidates
from fundoscope.nicking.grading.crossing_patches import VEIN_WIDTH, measured_pose
from fundoscope.nicking.grading.grades import measures_as_nicked
from fundoscope.nicking.grading.vessel_maps import map_photograph
from fundoscope.nicking.grading.widths import measure_crossings
from fundoscope.nicking.recipes.shipped import NaturalEyes, read_shipped_recipe
from fundoscope.simulate import adult
from fundoscope.vessels.grade_rule import NICKED_FROM

_SHAM = "natural"  # what a row says in place of a sham warp


def write_natural_crossings(
    name: str,
    load_pixels: Callable[[], Pixels],
    bundle: NickingBundle,
    out: Path,
    without_nicking: bool = False,
    most: int | None = None,
) -> Path:
    """Write the natural crossings of a photograph as wide patches below `out`, all or `most` of them drawn at random by the
    photograph's name; returns the table of them.

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
    every = measure_crossings(photograph, candidates, bundle.card.crossings)
    quiet = [k for k, crossing in enumerate(every) if without_nicking or not measures_as_nicked(crossing.narrowing)]
    drawn = np.random.default_rng(zlib.crc32(name.encode())).permutation(quiet)[:most]
    rows = []
    for number in sorted(drawn.tolist()):
        crossing, width = every[number], every[number].map_vein_width
        path = f"patches/{table.stem}_{number:02d}.png"
        save_wide_patch(out / path, pixels, crossing.place, width)
        undisturbed = crossing.narrowing is not None and crossing.narrowing.is_undisturbed(NICKED_FROM)
        grade = 0 if without_nicking or undisturbed else None
        about = {"patch": path, "grade": grade, "photograph": name, "span": WIDE_SPAN, "sham": _SHAM}
        pose = None if crossing.vessels is None else measured_pose(crossing.vessels, width, VEIN_WIDTH / width)
        slope = None if pose is None else round(pose.slope, 1)
        rows.append({**about, "vein_px": round(width / photograph.scale, 2), "slope": slope})
    return write_patch_table(table, rows)


def cut_natural_crossings(
    data: Path, sets: Sequence[str], simulated: Sequence[NaturalEyes], upstreams: Sequence[Upstream], out: Path,
    most: int, workers: int,
) -> Path:  # fmt: skip
    """Write the natural crossings of the photographs of `sets`, folders of `data`, and of simulated eyes, at most so many of each;
    returns the table of all.
    """
    work: list[Callable[[], Path]] = []
    for folder in sets:
        for source in open_dataset(data / folder).sources:
            upstream = upstreams[upstreams_free_of(upstreams, source.full_name)[-1]]
            work.append(partial(_cut_photograph, source.full_name, source.path, upstream, out, most))
    for eyes in simulated:
        for seed in range(eyes.first_seed, eyes.first_seed + eyes.photographs):
            work.append(partial(_cut_eye, seed, eyes.camera, eyes.size, upstreams[-1], out, most))
    with Workers.start(workers) as pool:
        tables = list(pool.map(_call, work))
    rows: list[dict[str, str]] = []
    for table in tables:
        with table.open(newline="", encoding="utf-8") as file:
            rows += list(csv.DictReader(file))
    return write_patch_table(out / "natural.csv", rows)


def read_natural_crossings(table: Path) -> list[PatchRow]:
    """The rows of a table of natural crossings that have a grade; none where no crossing was found anywhere."""
    with table.open(newline="", encoding="utf-8") as file:
        if not any(csv.DictReader(file)):
            return []
    return [row for row in read_patch_table(table) if row.grade is not None]


def _call(work: Callable[[], Path]) -> Path:
    return work()


def _cut_photograph(name: str, path: Path, upstream: Upstream, out: Path, most: int) -> Path:
    return write_natural_crossings(name, lambda: read(path).pixels, upstream.bundle, out, most=most)


def _cut_eye(seed: int, camera: str, size: int, upstream: Upstream, out: Path, most: int) -> Path:
    def draw() -> Pixels:
        return adult(seed, camera=camera, size=size, grade=0).pixels

    return write_natural_crossings(f"simulated/{seed}", draw, upstream.bundle, out, without_nicking=True, most=most)


def main() -> None:
    """The command `python -m fundoscope.nicking.grade_study.natural_crossings`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument("--sets", nargs="+", default=["drive_av/training", "hrf_av", "les_av"], help="folders of it")
    parser.add_argument("--upstream", type=Path, action="append", required=True, help="folder of the crossing task")
    parser.add_argument("--out", type=Path, required=True, help="folder of the patches and of natural.csv")
    parser.add_argument("--most", type=int, default=10, help="crossings of a photograph, drawn at random")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    upstreams = [Upstream.read(folder) for folder in given.upstream]
    eyes = read_shipped_recipe("nicking").natural
    table = cut_natural_crossings(given.data, given.sets, eyes, upstreams, given.out, given.most, given.workers)
    print(table, flush=True)


if __name__ == "__main__":
    main()
