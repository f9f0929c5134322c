"""The vessels around the disc of a mapped photograph, and the row of each photograph in photographs.csv. No torch.

The maps' graphs, which exist already, say where vessels run; widths are read off the photograph's own edges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fundoscope.findings import GradedPhotograph, Mention, Row, Status
from fundoscope.nicking.grading.evidence import PhotographGrading
from fundoscope.nicking.grading.vessel_maps import MappedPhotograph
from fundoscope.runs.sinks import CsvTable
from fundoscope.vessels import CalibreModel, Centreline, edge_paths
from fundoscope.vessels.equivalents import crossing_calibre_ratio
from fundoscope.vessels.measures import ZONES, VesselMeasures, VesselTrees, measure_vessels, photograph_widths

NOT_READ = "the photograph was not graded"
NOT_ASKED = "the vessels around the disc were not to be measured"
#: Said where the scale that was given makes a disc that no eye has; discs are 1.2 to 2.6 mm wide but for a few.
UNLIKELY_SCALE = "the disc would be {:.1f} mm wide: check --mm-per-pixel"

_GRADES = range(4)
_DISC_MM = (1.0, 3.0)
_BLUR_LINES = 12  # vessels, the largest in the map, on which the photograph's blur is fitted
_OF_A_ZONE = (
    "in_view", "arterioles", "venules", "crae_px", "crve_px", "crae_dd", "crve_dd", "crae_um", "crve_um", "avr", "ratio_of_four",
)  # fmt: skip

PHOTOGRAPH_COLUMNS = (
    "file", "status", "reason", "crossings", *(f"grade_{grade}" for grade in _GRADES), "not_graded", "worst_grade",
    "crossing_calibre_ratio", "crossings_measured", "disc_row", "disc_col", "disc_diameter_px", "disc_confidence",
    "mm_per_pixel", *(f"zone_{name.lower()}_{column}" for name in ZONES for column in _OF_A_ZONE),
    "artery_tortuosity", "vein_tortuosity", "fractal_dimension", "not_measured",
)  # fmt: skip


def measure_photograph(photograph: MappedPhotograph, calibre: CalibreModel | None) -> VesselMeasures:
    """The measures of a mapped photograph; `calibre` is the model that measured its crossings, where there were any."""
    found, scale, model = photograph.artery_vein, photograph.scale, fit_calibre(photograph, calibre)
    trees = VesselTrees(found.artery_graph, found.vein_graph, found.graph, photograph.inside, scale)
    return measure_vessels(trees, photograph.disc, photograph_widths(model, found.artery, found.vein, scale))


def fit_calibre(photograph: MappedPhotograph, calibre: CalibreModel | None = None) -> CalibreModel:
    """The calibre model of a photograph, its blur fitted on the largest vessels of the map.

    That of its crossings, `calibre`, gives only its planes: crossings are few in some photographs, and their vessels thin.
    """
    edges = edge_paths(photograph.artery_vein.graph)
    lines = [Centreline(path, radius, 0).scaled(photograph.scale) for path, radius in edges]
    largest = sorted(lines, key=lambda line: -float(line.radius.mean() * line.length))[:_BLUR_LINES]
    return CalibreModel.fit(photograph.pixels, largest) if calibre is None else calibre.fitted_to(largest)


def photograph_row(grading: PhotographGrading, rows: Sequence[Row], mm_per_pixel: float | None) -> Row:
    """The row of a photograph: counts by grade, worst grade, measures in pixels, disc diameters and micrometres.

    `rows` are those of its crossings in results.csv. What is not known is None, and `not_measured` says why.
    """
    crossings = [row for row in rows if row["crossing"] is not None]
    grades = [row["grade"] for row in crossings if row["grade"] is not None]
    row: Row = dict.fromkeys(PHOTOGRAPH_COLUMNS)
    row |= {"file": rows[0]["file"], "status": rows[0]["status"], "mm_per_pixel": mm_per_pixel}
    row["reason"] = "" if crossings else rows[0]["reason"]
    if rows[0]["status"] != Status.OK:
        return row | {"not_measured": NOT_READ}
    row |= {
        "crossings": len(crossings),
        "not_graded": len(crossings) - len(grades),
        "worst_grade": max(grades, default=None),
    }
    row |= {f"grade_{grade}": grades.count(grade) for grade in _GRADES}
    ratio, measured = crossing_calibre_ratio([(row["artery_width_px"], row["vein_width_px"]) for row in crossings])
    row |= {"crossing_calibre_ratio": _rounded(ratio), "crossings_measured": measured}
    if grading.measures is None:
        return row | {"not_measured": NOT_ASKED}
    return row | _describe_measures(grading.measures, mm_per_pixel)


def _describe_measures(measures: VesselMeasures, mm_per_pixel: float | None) -> Row:
    """The cells of the measures; lengths in the file's pixels, disc diameters (dd) and, with a scale, micrometres (um)."""
    remarks, row = [measures.reason], {}
    disc = measures.disc
    if disc is not None:
        values = {"row": disc.row, "col": disc.column, "diameter_px": disc.diameter, "confidence": disc.confidence}
        row |= {f"disc_{name}": _rounded(value) for name, value in values.items()}
        if mm_per_pixel is not None and measures.zones:
            width = disc.diameter * mm_per_pixel
            remarks.append("" if _DISC_MM[0] <= width <= _DISC_MM[1] else UNLIKELY_SCALE.format(width))
    for zone in measures.zones:
        assert disc is not None
        units = {"px": 1.0, "dd": 1 / disc.diameter, "um": math.nan if mm_per_pixel is None else 1000 * mm_per_pixel}
        values = {"in_view": zone.in_view, "arterioles": len(zone.arterioles), "venules": len(zone.venules)}
        for unit, size in units.items():
            values |= {f"crae_{unit}": zone.crae * size, f"crve_{unit}": zone.crve * size}
        values |= {"avr": zone.avr, "ratio_of_four": zone.ratio_of_four}
        row |= {f"zone_{zone.zone.name.lower()}_{name}": _rounded(value) for name, value in values.items()}
    for name in ("artery_tortuosity", "vein_tortuosity", "fractal_dimension"):
        row[name] = _rounded(getattr(measures, name))
    return row | {"not_measured": "; ".join(filter(None, remarks))}


def _rounded(value: float | None) -> float | int | None:
    """A number with 4 decimals; None where there is none."""
    if value is None or isinstance(value, int):
        return value
    return round(value, 4) if math.isfinite(value) else None


class PhotographTable:
    """The sink of photographs.csv, a row a photograph."""

    def __init__(self, folder: Path, positions: Mapping[str, int], mm_per_pixel: float | None) -> None:
        name = "photographs.csv"
        self._table = CsvTable(folder / name, PHOTOGRAPH_COLUMNS, positions.get(name))
        self._mm_per_pixel = mm_per_pixel

    @property
    def position(self) -> int:
        """Length in bytes of what is written."""
        return self._table.position

    def add(self, number: int, mention: Mention, graded: GradedPhotograph, rows: Sequence[Row]) -> Sequence[str]:
        """Write the row of one photograph."""
        grading: Any = graded.evidence
        assert isinstance(grading, PhotographGrading)
        self._table.add_rows([photograph_row(grading, rows, self._mm_per_pixel)])
        return ()

    def recount(self, mention: Mention, rows: Sequence[Row]) -> None:
        """Nothing is counted here."""

    def close(self, whole: bool) -> None:
        """Close the file."""
        self._table.close(whole)
