"""The crossings that are pinched: chosen by the drawn maps and by two readers, never by the ruler that is tested on them.

    python -m fundoscope.nicking.grade_study.chosen_crossings --data DATA --sheets OUT

A candidate is a crossing of the drawn map with room around it (`simulate.pinch.is_usable`) and four drawn arms. Two readers
looked at each candidate on contact sheets, blind to each other, to photograph and set, and to every measurement, and gave
one verdict:

    keep      an artery and a vein cross in the middle, the vein's edges can be made out on both sides, and its calibre
              beside the artery is that farther out
    none      no crossing, or an arm of the artery cannot be seen
    blurred   the vein's edges cannot be made out
    narrowed  the vein is narrowed, tapered or lost beside the artery by itself
    tangled   a fork, a third vessel, a sharp bend or a second crossing lies within two vein widths

A candidate is chosen unless a reader says none, blurred or narrowed, or both say tangled. The list
(`nicking/recipes/chosen_crossings.csv`) was written before any network was fitted to these crossings and does not change.
Both readers build this tool; neither is a clinician. The command draws the contact sheets again, so that anybody can look
for themselves, and says how far the readers agree.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort.sheet import read_sheet
from fundoscope.datasets import PhotographRecord, open_dataset
from fundoscope.errors import PhotographError
from fundoscope.evaluation.metrics import quadratic_kappa
from fundoscope.imaging import Pixels
from fundoscope.imaging.places import sample_square
from fundoscope.vessels import MeasuredCrossing
from fundoscope.vessels.graph import arc_length

VERDICTS = ("keep", "none", "blurred", "narrowed", "tangled")
COLUMNS = ("number", "photograph", "sha256", "row", "column", "vein_px", "reader_1", "reader_2")
SETS = ("drive_av/training", "hrf_av", "les_av", "drive_av/test")  # folders of the sets that were looked at
CHOSEN = Path(__file__).parents[1] / "recipes/chosen_crossings.csv"

_DRAWN = 0.7  # share of an arm's centreline on pixels of that vessel alone from which on it is drawn
_ARM = 1.5  # widths of the wider vessel over which an arm is looked at

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ContactSheetLayout:
    """The photograph's side of a tile in pixels, the vein widths that it shows, and the tiles on a sheet.

    `each_colour` stretches the contrast of red, green and blue apart, so that a vessel, which is dark in green, stands out.
    """

    side: int = 256
    span: float = 10
    across: int = 4
    down: int = 5
    each_colour: bool = False

    @property
    def tile_shape(self) -> tuple[int, int, int]:
        """Rows, columns and colours of a tile: the photograph, beside it the drawn map half as large, and a border."""
        return self.side + 4, self.side * 3 // 2 + 8, 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate and what two readers said: its place in pixels of the file, 0-based, and its vein's width there."""

    number: int
    photograph: str
    sha256: str
    row: float
    column: float
    vein_px: float
    verdicts: tuple[str, str]

    @property
    def chosen(self) -> bool:
        """Whether it is pinched, by the rule above."""
        return not {"none", "blurred", "narrowed"} & set(self.verdicts) and self.verdicts != ("tangled", "tangled")


@cache
def read_candidates(path: Path = CHOSEN) -> tuple[Candidate, ...]:
    """All candidates of a list, in its order."""
    return tuple(
        Candidate(
            int(row["number"]), row["photograph"], row["sha256"], float(row["row"]), float(row["column"]),
            float(row["vein_px"]), (row["reader_1"], row["reader_2"]),
        )
        for row in read_sheet(path, COLUMNS).rows
    )  # fmt: skip


def chosen_places(record: PhotographRecord, path: Path = CHOSEN) -> NDArray[np.float64] | None:
    """Row and column (n, 2) of a photograph's chosen crossings; None where no photograph of its set is on the list.

    Raises `PhotographError` if the file is another one than the readers saw.
    """
    known = [each for each in read_candidates(path) if each.photograph == f"{record.dataset}/{record.name}"]
    if not known:
        looked_at = any(each.photograph.startswith(f"{record.dataset}/") for each in read_candidates(path))
        return np.zeros((0, 2)) if looked_at else None
    if {each.sha256 for each in known} != {_digest(record.path)}:
        cause = f"is not the file whose crossings are listed in {path.name}"
        raise PhotographError(str(record.path), cause, "Get the set from its source again.")
    return np.array([[each.row, each.column] for each in known if each.chosen], float).reshape(-1, 2)


def count_chosen(photograph: str, path: Path = CHOSEN) -> int:
    """How many crossings of a photograph, named with its set, are chosen."""
    return sum(each.chosen and each.photograph == photograph for each in read_candidates(path))


def has_four_arms(crossing: MeasuredCrossing, artery: Mask, vein: Mask) -> bool:
    """Whether the masks (rows, columns) draw both vessels on both sides of a crossing, each as itself alone."""
    widths = [2 * float(np.median(line.radius)) for line in (crossing.first, crossing.second)]
    sine = max(float(np.sin(np.radians(crossing.angle))), 0.3)
    arms = zip((crossing.first, crossing.second), (artery & ~vein, vein & ~artery), widths[::-1], strict=True)
    for line, alone, across in arms:
        way = arc_length(line.points)
        way = way - way[line.crossing_index]
        start = across / 2 / sine + 1
        for side in (-1, 1):
            arm = line.points[(side * way >= start) & (side * way <= start + _ARM * max(widths))].astype(np.float32)
            if len(arm) < 3:
                return False
            on = cv2.remap(alone.astype(np.float32), arm[None, :, 1], arm[None, :, 0], cv2.INTER_LINEAR)
            if on.mean() < _DRAWN:
                return False
    return True


def draw_contact_sheets(
    listed: Sequence[Candidate],
    records: Mapping[str, PhotographRecord],
    out: Path,
    layout: ContactSheetLayout = ContactSheetLayout(),
) -> Iterator[Path]:
    """Write sheets of tiles below `out`: the photograph around each candidate, its number, and beside it the drawn map
    around the same place, twice as far. `records` holds the photographs by name.
    """
    out.mkdir(parents=True, exist_ok=True)
    tiles = [_tile(each, records[each.photograph], layout) for each in listed]
    per_sheet = layout.across * layout.down
    for start in range(0, len(tiles), per_sheet):
        sheet = tiles[start : start + per_sheet]
        sheet += [np.zeros(layout.tile_shape, np.uint8)] * (per_sheet - len(sheet))
        rows = (sheet[k : k + layout.across] for k in range(0, per_sheet, layout.across))
        path = out / f"sheet_{start // per_sheet}.png"
        cv2.imwrite(str(path), cv2.cvtColor(np.vstack([np.hstack(row) for row in rows]), cv2.COLOR_RGB2BGR))
        yield path


def _tile(candidate: Candidate, record: PhotographRecord, layout: ContactSheetLayout) -> Pixels:
    side, half = layout.side, layout.side // 2
    at, step = (candidate.row, candidate.column), layout.span * candidate.vein_px / side
    seen = stretch_contrast(sample_square(record.pixels, at, step, side), layout.each_colour)
    assert record.artery is not None and record.vein is not None
    colours = np.zeros((*record.field.shape, 3), np.uint8)
    colours[record.artery], colours[record.vein] = (255, 60, 60), (60, 90, 255)
    colours[record.artery & record.vein] = (60, 255, 60)
    tile = np.zeros(layout.tile_shape, np.uint8)
    tile[:side, :side] = seen
    tile[:half, side + 2 : side + 2 + half] = sample_square(colours, at, 2 * step, half)
    cv2.putText(tile, str(candidate.number), (side + 30, side - 40), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 255, 255), 2)
    return tile


def stretch_contrast(pixels: Pixels, each_colour: bool = False) -> Pixels:
    """A square (s, s, 3) from black to white, so that vessels stand out; red, green and blue apart where `each_colour`."""
    seen = pixels.astype(np.float32)
    low, high = np.percentile(seen, (1, 99.5), axis=(0, 1) if each_colour else None)
    return np.asarray(np.clip((seen - low) / (high - low + 1) * 255, 0, 255), np.uint8)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """The command `python -m fundoscope.nicking.grade_study.chosen_crossings`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument("--sheets", type=Path, required=True, help="folder for the contact sheets: never commit them")
    given = parser.parse_args()
    sources = {folder: open_dataset(given.data / folder).sources for folder in SETS}
    every = {source.full_name: (folder, source) for folder, found in sources.items() for source in found}
    listed = read_candidates()
    records = {each.photograph: every[each.photograph][1] for each in listed}
    records = {name: source.reader(source) for name, source in records.items()}
    for path in draw_contact_sheets(listed, records, given.sheets):
        print(path)
    for folder in SETS:
        own = [each for each in listed if every[each.photograph][0] == folder]
        chosen = [each for each in own if each.chosen]
        kept = np.array([[verdict == "keep" for verdict in each.verdicts] for each in own], int)
        photographs = {each.photograph for each in chosen}
        print(
            f"{folder}: {len(own)} candidates, {len(chosen)} chosen, of {len(photographs)} photographs; "
            f"both say keep or both do not: {int((kept[:, 0] == kept[:, 1]).sum())}, "
            f"kappa {quadratic_kappa(kept[:, 0], kept[:, 1]):.2f}"
        )


if __name__ == "__main__":
    main()
