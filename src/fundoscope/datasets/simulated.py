"""Simulated eyes as `fundoscope simulate` writes them: `cohort.csv crossings.csv images/ truth/`, and all is known."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from fundoscope.cohort.sheet import read_sheet
from fundoscope.datasets.files import list_pictures
from fundoscope.datasets.record import PhotographRecord, PhotographSource
from fundoscope.errors import PhotographError, UsageError
from fundoscope.simulate import read_masks

Row = dict[str, str]


def simulated_sources(folder: Path, dataset: str) -> list[PhotographSource]:
    """The photographs with vessels, arteries, veins and crossings, their drawn widths and grades; an infant's
    photographs are one group.

    Raises `UsageError` for tables that cannot be read, and `PhotographError` for missing photographs and masks.
    """
    cohort = _read_rows(folder / "cohort.csv", "image")
    crossings: dict[str, list[Row]] = {row["image"]: [] for row in cohort}
    for row in _read_rows(folder / "crossings.csv", "image", "row", "col", "artery_width_px", "vein_width_px", "grade"):
        if row["image"] not in crossings:
            raise UsageError(f"{folder / 'crossings.csv'}: {row['image']} is not in cohort.csv. Simulate them again.")
        crossings[row["image"]].append(row)
    truth = {path.stem: path for path in list_pictures(folder / "truth")}
    return [_source(folder, dataset, row, truth, crossings[row["image"]]) for row in cohort]


def _source(folder: Path, dataset: str, row: Row, truth: dict[str, Path], crossings: list[Row]) -> PhotographSource:
    path = folder / row["image"]
    for file in (path, truth.get(path.stem, folder / "truth" / f"{path.stem}.png")):
        if not file.is_file():
            raise PhotographError(str(file), "there is no such file, but cohort.csv names it", "Simulate them again.")
    group = row.get("infant") or path.stem
    return PhotographSource(path.stem, dataset, path, group, partial(_read, crossings), {"masks": truth[path.stem]})


def _read(crossings: list[Row], source: PhotographSource) -> PhotographRecord:
    path = source.files["masks"]
    try:
        masks = read_masks(path)
    except (OSError, ValueError, SyntaxError) as error:
        raise PhotographError(str(path), f"cannot be read ({error})", "Simulate them again.") from error
    known = ("row", "col", "artery_width_px", "vein_width_px", "grade")
    table = np.array([[float(row[name]) for name in known] for row in crossings]).reshape(-1, len(known))
    artery, vein = masks["artery"], masks["vein"]
    return source.record(
        masks["field"],
        vessel=artery | vein,
        artery=artery,
        vein=vein,
        crossing_map=artery & vein,
        crossings=table[:, :2],
        artery_widths=table[:, 2],
        vein_widths=table[:, 3],
        grades=table[:, 4].astype(np.int64),
    )


def _read_rows(path: Path, *needed: str) -> list[Row]:
    sheet = read_sheet(path, needed)
    if len(sheet):  # eyes without crossings have a table without rows
        sheet.check_columns(needed)
    return [row.cells for row in sheet]
