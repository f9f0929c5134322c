"""`fundoscope nicking cut-patches`: the crossings of photographs as patches that two readers grade. No torch.

    results.csv           a row a crossing: where it is, and its patch; a photograph without one has its row
    patches.csv           the table that readers fill in and that `study-grades` and `agreement` read
    contact_sheet.html    every patch with its number, as readers look at it
    pictures/             NNNN_KK.png, what the networks are shown; NNNN_KK_tile.jpg, what a reader looks at

Readers are blind to the tool: the crossings are those that it finds, every one or some by chance, in an order drawn by chance,
and neither its grades nor its measurements stand in a name, in the table or on the sheet.

A patch file spans `WIDE_SPAN` widths of its vein and a reader sees the usual 12 of them. The wide square is sampled as
`nicking grade` samples its own, which lies in the middle of it pixel by pixel; what is around it shows the network of maps what
it would see in the photograph, and lets training turn and shrink it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles.read_nicking import NickingBundle, open_nicking_bundle
from fundoscope.cohort.sheet import is_blank, read_sheet, write_sheet
from fundoscope.errors import UsageError, counted
from fundoscope.findings import (
    BundleIdentity,
    Finding,
    GradedPhotograph,
    Mention,
    PhotographSource,
    Row,
    Sink,
    Status,
    join_remarks,
)
from fundoscope.imaging import Pixels, Prepared
from fundoscope.imaging.places import sample_square
from fundoscope.imaging.quality import judge_quality
from fundoscope.nicking.grade_study.chosen_crossings import stretch_contrast
from fundoscope.nicking.grade_study.patch_table import READER_COLUMNS, READERS, SETTLED, WIDE_SPAN
from fundoscope.nicking.grading.crossing_candidates import find_candidates
from fundoscope.nicking.grading.crossing_patches import VEIN_WIDTH, measured_pose
from fundoscope.nicking.grading.vessel_maps import map_photograph
from fundoscope.nicking.grading.widths import CrossingWidths, measure_crossings, measure_marked
from fundoscope.nicking.reading.contact_sheet import write_contact_sheet
from fundoscope.outputs import PICTURES, save_picture, written_whole
from fundoscope.vessels.grade_rule import SPAN

CUT_COLUMNS = ("file", "status", "reason", "crossing", "row", "col", "vein_px", "slope")
TABLE, SHEET = "patches.csv", "contact_sheet.html"
WIDE_SIDE = round(WIDE_SPAN * VEIN_WIDTH)  # pixels of a patch file
TILE_SIDE = 320  # pixels of each of the two squares of a tile
SEEN = "a photograph of this name taught this bundle's vessel maps, so the tool's figures on it are too good"
_TILE_QUALITY = 92  # of JPEG
_SHUFFLE = 23  # seed of the order of the table


@dataclass(frozen=True, slots=True)
class CutCrossing:
    """The row of one crossing that was cut, numbered from 1 in its photograph; None where there is none.

    `row` and `col` are pixels of the file, 0-based; `vein_px` the vein's width at the scale of the vessel maps, `slope` the
    degrees by which the vein is turned clockwise from level, None where it could not be followed.
    """

    file: str
    status: Status
    reason: str = ""
    crossing: int | None = None
    row: float | None = None
    col: float | None = None
    vein_px: float | None = None
    slope: float | None = None

    def as_row(self) -> Row:
        """The columns of `CUT_COLUMNS`: numbers with 2 decimals, None where blank."""
        values = {column: getattr(self, column) for column in CUT_COLUMNS}
        rounded = {name: None if values[name] is None else round(values[name], 2) for name in CUT_COLUMNS[4:]}
        return {**values, **rounded, "status": self.status.value}


@dataclass(frozen=True, slots=True, eq=False)
class CutPicture:
    """A crossing as it is written: `wide` (WIDE_SIDE, WIDE_SIDE, 3) for networks, and its `tile` for readers."""

    crossing: int
    wide: Pixels
    tile: Pixels


@dataclass(frozen=True)
class PatchCutter:
    """A verified bundle that finds crossings and cuts them out; a `Grader` that grades nothing.

    At most `per_photograph` crossings of each photograph are cut, drawn by chance; None cuts all.
    """

    bundle: NickingBundle
    per_photograph: int | None = None

    name = "nicking cut-patches"
    noun = "photograph"
    columns = CUT_COLUMNS
    files = (TABLE, SHEET)
    threads = 1

    @classmethod
    def open(cls, bundle: str | Path = "nicking", per_photograph: int | None = None) -> PatchCutter:
        """The cutter of a shipped bundle's name, or of a bundle's folder."""
        return cls(open_nicking_bundle(bundle), per_photograph)

    @property
    def identity(self) -> BundleIdentity:
        """Name, day and digest of the bundle."""
        card = self.bundle.card
        return BundleIdentity.from_card(card.name, card.created, card.model_dump_json())

    @property
    def options(self) -> Mapping[str, Any]:
        """Options that change what is cut."""
        return {"per_photograph": self.per_photograph}

    def grade_one(self, source: PhotographSource, name: str) -> GradedPhotograph:
        """The rows of one photograph's crossings, and a `CutPicture` of each; `PhotographError` for what cannot be read."""
        return self.cut(source, name)

    def cut(self, source: PhotographSource, name: str, marked: Sequence[tuple[float, float]] = ()) -> GradedPhotograph:
        """The same, and beside the crossings that are found those at the `marked` rows and columns, numbered -1, -2 and so on."""
        photograph = Prepared.read(source, name)
        quality = judge_quality(photograph, "adult")
        if not quality.gradable:
            reason = join_remarks(*quality.reasons, *quality.remarks, photograph.photograph.remark)
            return GradedPhotograph((CutCrossing(name, Status.REJECTED, reason),), ())
        mapped = map_photograph(photograph, self.bundle)
        candidates = find_candidates(mapped.maps, mapped.artery_vein)
        found = measure_crossings(mapped, candidates, self.bundle.card.crossings)
        cut = [(number, found[number - 1]) for number in self._draw_numbers(len(found), name)]
        cut += [(-number, crossing) for number, crossing in enumerate(measure_marked(mapped, marked), 1)]
        remark = join_remarks(*quality.remarks, photograph.photograph.remark, self._describe_seen(name))
        rows = [_describe(name, remark, number, crossing, mapped.scale) for number, crossing in cut]
        findings: tuple[Finding, ...] = tuple(rows) or (CutCrossing(name, Status.OK, remark),)
        return GradedPhotograph(findings, [_cut(photograph.pixels, number, crossing) for number, crossing in cut])

    def failed(self, name: str, reason: str) -> GradedPhotograph:
        """The row of a photograph that could not be read."""
        return GradedPhotograph((CutCrossing(name, Status.FAILED, reason),), ())

    def count(self, rows: Sequence[Row]) -> dict[str, int]:
        """Which end a photograph came to, and its patches."""
        patches = sum(row["crossing"] is not None for row in rows)
        return {name.value: int(rows[0]["status"] == name) for name in Status} | {"patches": patches}

    def open_sinks(
        self, folder: Path, started: str, positions: Mapping[str, int], skipped: str = ""
    ) -> Mapping[str, Sink]:
        """`patches.csv` with its pictures, and the contact sheet."""
        return {TABLE: PatchTableFile(folder)}

    def _describe_seen(self, name: str) -> str:
        """A remark where a photograph of this name taught the maps of the bundle; blank else."""
        seen = {known.rpartition("/")[2] for known in self.bundle.card.photographs}
        return SEEN if Path(name).stem in seen else ""

    def _draw_numbers(self, found: int, name: str) -> list[int]:
        """Numbers (from 1) of the crossings of a photograph that are cut: all, or some by a chance that its name fixes."""
        if self.per_photograph is None or found <= self.per_photograph:
            return list(range(1, found + 1))
        rng = np.random.default_rng(zlib.crc32(name.encode("utf-8", "surrogateescape")))
        return sorted((1 + rng.choice(found, self.per_photograph, replace=False)).tolist())


class PatchTableFile:
    """The sink of `patches.csv`, the contact sheet and the pictures. Table and sheet are written when all is cut.

    A table that is there already stays as it is, since readers may have written into it.
    """

    position = 0

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._photographs = 0
        self._rows: list[Row] = []

    def add(self, number: int, mention: Mention, graded: GradedPhotograph, rows: Sequence[Row]) -> Sequence[str]:
        """Write the pictures of one photograph."""
        self.recount(mention, rows)
        names = []
        for picture in graded.evidence:
            patch = _name_patch(number, picture.crossing)
            save_picture(self._folder / patch, cv2.cvtColor(picture.wide, cv2.COLOR_RGB2BGR))
            tile = cv2.cvtColor(picture.tile, cv2.COLOR_RGB2BGR)
            save_picture(self._folder / tile_of(patch), tile, (cv2.IMWRITE_JPEG_QUALITY, _TILE_QUALITY))
            names += [patch, tile_of(patch)]
        return names

    def recount(self, mention: Mention, rows: Sequence[Row]) -> None:
        """Keep the rows of a photograph for the table."""
        self._photographs += 1
        self._rows += [
            row | {"patch": _name_patch(self._photographs, row["crossing"])}
            for row in rows
            if row["crossing"] is not None
        ]

    def close(self, whole: bool) -> None:
        """Write the table in its shuffled order, and the sheet, where all photographs are cut and they are not there yet."""
        if not whole:
            return
        order = np.random.default_rng(_SHUFFLE).permutation(len(self._rows))
        listed = [(number, self._rows[k]) for number, k in enumerate(order, 1)]
        table, sheet = self._folder / TABLE, self._folder / SHEET
        if not table.exists():
            with written_whole(table) as part:
                write_sheet(part, READER_COLUMNS, [_table_row(number, row) for number, row in listed])
        if not sheet.exists():
            tiles = [(number, self._folder / tile_of(row["patch"])) for number, row in listed]
            write_contact_sheet(sheet, tiles)


def _name_patch(photograph: int, crossing: int) -> str:
    return f"{PICTURES}/{photograph:04d}_{crossing:02d}.png"


def tile_of(patch: str) -> str:
    """The name of the tile that stands beside a patch file."""
    return f"{patch.removesuffix('.png')}_tile.jpg"


def refuse_losing_grades(folder: Path) -> None:
    """Raise `UsageError` where the table in a folder holds grades of readers, which `--replace` would remove."""
    table = folder / TABLE
    if table.exists():
        rows = read_sheet(table, READER_COLUMNS).rows
        filled = sum(any(not is_blank(row[column]) for column in (*READERS, SETTLED)) for row in rows)
        if filled:
            raise UsageError(
                f"{table}: holds readers' grades of {counted(filled, 'patch')}, which --replace would remove. Move the table away "
                "first, or give another folder to --out."
            )


def _describe(name: str, remark: str, number: int, crossing: CrossingWidths, scale: float) -> CutCrossing:
    width = crossing.map_vein_width
    pose = None if crossing.vessels is None else measured_pose(crossing.vessels, width, VEIN_WIDTH / width)
    row, column = map(float, crossing.place)
    return CutCrossing(
        name, Status.OK, remark, number, row, column, width / scale, None if pose is None else pose.slope
    )


def _cut(pixels: Pixels, number: int, crossing: CrossingWidths) -> CutPicture:
    place, width = crossing.place, crossing.map_vein_width
    wide = sample_square(pixels, place, width / VEIN_WIDTH, WIDE_SIDE)
    return CutPicture(number, wide, draw_tile(sample_square(pixels, place, SPAN * width / TILE_SIDE, TILE_SIDE)))


def draw_tile(usual: NDArray[np.uint8]) -> Pixels:
    """What a reader looks at: a usual patch (s, s, 3) in its own colours, and beside it with each colour stretched apart."""
    return np.hstack([stretch_contrast(usual), stretch_contrast(usual, each_colour=True)])


def _table_row(number: int, row: Row) -> list[object]:
    known = {"number": number, "photograph": row["file"], "column": row["col"], "span": WIDE_SPAN}
    return [known.get(name, row.get(name)) for name in READER_COLUMNS]
