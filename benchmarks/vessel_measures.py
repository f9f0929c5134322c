"""How far CRAE, CRVE and AVR can be trusted: against drawn maps, against drawn calibres, and against themselves.

    python benchmarks/vessel_measures.py --data ../shared/data [--bundle nicking] [--simulated 40] [--only drawn,disc,...]

- drawn: on DRIVE's training photographs, HRF and LES-AV, the measures by the bundle's maps against the same formula on the
  maps that people drew, the zones around the same disc; widths of both by the photograph's edges ("edges"), or those of
  the drawn maps by the drawing itself ("drawing"). The bundle has learnt from DRIVE training and HRF: only LES-AV is new.
- simulated: the same on simulated adults, against the calibres that they were drawn with.
- again: the measures of a photograph that was shifted, turned, saved as JPEG or made 10 % smaller, against its own.
- disc: the disc found, against discs marked by eye (`disc_marks.csv`, one mark a photograph, by one person, in photographs
  reduced to 540 pixels), and against simulated ones. Its few constants were chosen on these photographs.

Writes docs/results/vessel_measures.csv. Never reads DRIVE's test photographs.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import networkx as nx
import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles.read_nicking import NickingBundle, open_nicking_bundle
from fundoscope.datasets import open_dataset
from fundoscope.evaluation import results_table
from fundoscope.imaging import Pixels, Prepared
from fundoscope.nicking.grading.crossing_candidates import find_candidates
from fundoscope.nicking.grading.measures import measure_photograph
from fundoscope.nicking.grading.vessel_maps import MappedPhotograph, map_photograph
from fundoscope.nicking.grading.widths import measure_with_model
from fundoscope.simulate import cameras
from fundoscope.simulate.adults import AdultEye, draw_projection, grow_eye, photograph_eye
from fundoscope.simulate.projection import Projection
from fundoscope.simulate.vessel_trees import VesselSegment
from fundoscope.vessels import CalibreModel, Centreline, vessel_graph
from fundoscope.vessels.calibre import WidthProfile, sample_cross_sections
from fundoscope.vessels.disc import Disc
from fundoscope.vessels.measures import (
    Kind,
    MeasureWidths,
    VesselMeasures,
    VesselTrees,
    measure_vessels,
    photograph_widths,
)

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "docs" / "results" / "vessel_measures.csv"
SETS = {"DRIVE training": "drive_av/training", "HRF": "hrf_av", "LES-AV": "les_av"}
FIGURES = ("crae", "crve", "avr")
NEAR = 0.25  # of its diameter: a disc's centre is right within it
SEED = 9100

Mask = NDArray[np.bool_]
Row = dict[str, Any]


def measure(
    pixels: Pixels, name: str, bundle: NickingBundle
) -> tuple[VesselMeasures, MappedPhotograph, CalibreModel | None]:
    """The measures of a photograph, as `fundoscope nicking grade` makes them."""
    mapped = map_photograph(Prepared.read(pixels, name), bundle)
    calibre = measure_with_model(mapped, find_candidates(mapped.maps, mapped.artery_vein), bundle.card.crossings)[1]
    return measure_photograph(mapped, calibre), mapped, calibre


# --- against drawn maps


def compare_drawn(name: str, record: Any, bundle: NickingBundle, marked: Disc | None) -> Iterator[Row]:
    """A row a zone and way of measuring the drawn map: figures by the bundle's maps and by it."""
    pixels = record.pixels
    found, mapped, calibre = measure(pixels, record.name, bundle)
    if mapped.disc is None:
        return
    shape = mapped.inside.shape
    artery, vein = (shrink_mask(mask, shape) for mask in (record.artery, record.vein))
    trees = VesselTrees(
        vessel_graph(artery), vessel_graph(vein), vessel_graph(artery | vein), mapped.inside, mapped.scale
    )
    model = calibre or CalibreModel.fit(pixels, [])
    ways: dict[str, tuple[MeasureWidths, Disc]] = {
        "edges": (photograph_widths(model, artery, vein, mapped.scale), mapped.disc),
        "drawing": (drawn_widths(record.artery, record.vein), mapped.disc),
    }
    if marked is not None:
        ways["edges, marked disc"] = (ways["edges"][0], marked.scaled(1 / mapped.scale))
    for way, (widths, disc) in ways.items():
        drawn = measure_vessels(trees, disc, widths)
        for zone, own in zip(found.zones, drawn.zones, strict=False):
            yield {
                "on": name, "photograph": record.name, "zone": zone.zone.name, "way": way,
                **{f: getattr(zone, f) for f in FIGURES}, **{f"true_{f}": getattr(own, f) for f in FIGURES},
            }  # fmt: skip


def shrink_mask(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """A mask at another size: a pixel is set where half of it is."""
    return cv2.resize(mask.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA) >= 0.5


def drawn_widths(artery: Mask, vein: Mask) -> MeasureWidths:
    """Widths of the drawn masks (rows, columns) themselves: from wall to wall across the vessel, without other vessels."""

    def along(line: Centreline, kind: Kind) -> WidthProfile:
        own, other = (artery, vein) if kind == "artery" else (vein, artery)
        rough = max(2 * float(np.median(line.radius)), 2.0)
        sections = sample_cross_sections(own.astype(np.float32), line, rough, 0.2 * rough, other)
        offsets = np.linspace(-1.75, 1.75, sections.grey.shape[1]) * rough
        inside, middle = sections.grey > 0.5, len(offsets) // 2
        walls = [np.argmin(side, axis=1) for side in (inside[:, middle::-1], inside[:, middle:])]
        width = np.where(inside[:, middle], (walls[0] + walls[1]) * (offsets[1] - offsets[0]), np.nan)
        known = np.isfinite(width) & ~inside[:, [0, -1]].any(axis=1)
        fit = np.where(known, 1.0, 0.0)
        return WidthProfile(
            sections.centres, sections.normals, sections.way, np.nan_to_num(width), fit, fit, sections.visible
        )

    return along


def describe_agreement(rows: list[Row]) -> Iterator[Row]:
    """A row a figure: how often it was measured, Pearson's correlation and relative errors."""
    for figure in FIGURES:
        pairs = np.array([(row[figure], row[f"true_{figure}"]) for row in rows], float).reshape(-1, 2)
        both = pairs[np.isfinite(pairs).all(axis=1)]
        yield {
            "figure": figure, "photographs": len(rows), "measured": len(both),
            "pearson": float(np.corrcoef(both.T)[0, 1]) if len(both) > 2 else None, **describe_errors(both),
        }  # fmt: skip


def describe_errors(pairs: NDArray[np.float64]) -> Row:
    """Median and 90th percentile of the relative error, and its median with sign, in percent; pairs (n, 2) found and true."""
    if not len(pairs):
        return {"median_error_percent": None, "p90_error_percent": None, "bias_percent": None}
    error = 100 * (pairs[:, 0] / pairs[:, 1] - 1)
    return {
        "median_error_percent": float(np.median(np.abs(error))), "p90_error_percent": float(np.percentile(np.abs(error), 90)),
        "bias_percent": float(np.median(error)),
    }  # fmt: skip


# --- against simulated eyes


def simulate(seed: int, camera: str) -> tuple[Pixels, AdultEye, Projection, Any]:
    """A good photograph of a simulated adult, with its trees and how they fall on the sensor."""
    rng = np.random.default_rng([seed, 24])
    exposure = cameras.draw_exposure(
        cameras.camera_named(camera, infant=False).resized(None if camera == "drive" else 2000),
        1,
        cameras.draw_cast(rng, 0.5),
        rng,
    )
    eye = grow_eye(seed, "right" if seed % 2 else "left", 0)
    projection = draw_projection(exposure, eye.side, rng)
    shot = photograph_eye(eye, exposure, projection)
    return shot.pixels, eye, projection, shot.truth


def tree_graph(segments: list[VesselSegment], projection: Projection) -> nx.MultiGraph:
    """The vessels that were drawn, as a graph in the photograph's pixels, with their radii."""
    graph = nx.MultiGraph()
    for k, segment in enumerate(segments):
        path = projection.to_pixels(segment.points)[:, ::-1]
        radius = segment.radius * projection.scale
        steps = max(2, round(float(np.hypot(*np.diff(path, axis=0).T).sum())))
        at, fine = np.linspace(0, 1, len(path)), np.linspace(0, 1, steps)
        path = np.column_stack([np.interp(fine, at, path[:, axis]) for axis in (0, 1)])
        start = segment.parent + 1 if segment.parent >= 0 else -1 - k  # the node at the end of its parent
        first = start < k + 1
        graph.add_node(start, at=path[0])
        graph.add_node(k + 1, at=path[-1])
        radii = np.interp(fine, at, radius)
        graph.add_edge(start, k + 1, path=path if first else path[::-1], radius=radii if first else radii[::-1])
    return graph


def tree_widths(line: Centreline, kind: Kind) -> WidthProfile:
    """The calibre with which a vessel was drawn, everywhere along it."""
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line.points, axis=0).T))])
    ones = np.ones(len(way))
    return WidthProfile(line.points, np.zeros_like(line.points), way, 2 * line.radius, ones, ones, ones)


def compare_simulated(number: int, bundle: NickingBundle) -> tuple[list[Row], Row]:
    """A row a zone, and one of the disc, of one simulated eye."""
    camera = ("drive", "hrf")[number % 2]
    pixels, eye, projection, truth = simulate(SEED + number, camera)
    found = measure(pixels, f"{camera} {number}", bundle)[0]
    if found.disc is None:
        return [], {"on": "simulated", "off": np.inf, "diameter": np.nan}
    trees = VesselTrees(
        *(tree_graph(each, projection) for each in (eye.arteries, eye.veins)), nx.MultiGraph(), truth.field
    )
    true = measure_vessels(trees, found.disc, tree_widths)
    rows = [
        {
            "on": "simulated", "photograph": number, "zone": zone.zone.name, "way": "drawn calibres",
            **{f: getattr(zone, f) for f in FIGURES}, **{f"true_{f}": getattr(own, f) for f in FIGURES},
        }
        for zone, own in zip(found.zones, true.zones, strict=False)
    ]  # fmt: skip
    places = np.argwhere(truth.disc)
    diameter = float((np.ptp(places, axis=0) + 1).mean())
    off = float(np.hypot(*(found.disc.centre - places.mean(axis=0)))) / diameter
    return rows, {
        "on": "simulated",
        "off": off,
        "diameter": found.disc.diameter / diameter,
        "believed": bool(found.zones),
    }


# --- test-retest


def changed(pixels: Pixels) -> dict[str, Callable[[], Pixels]]:
    """The same photograph as another one would be: by name, what makes it."""
    rows, columns = pixels.shape[:2]
    step = max(rows, columns) / 540  # a pixel at DRIVE's scale

    def moved(matrix: NDArray[np.float64]) -> Pixels:
        return np.asarray(cv2.warpAffine(pixels, matrix, (columns, rows), flags=cv2.INTER_CUBIC), np.uint8)

    def saved() -> Pixels:
        _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])
        return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])

    return {
        "shifted": lambda: moved(np.array([[1.0, 0, 7.3 * step], [0, 1, 4.6 * step]])),
        "turned 7 degrees": lambda: moved(cv2.getRotationMatrix2D((columns / 2, rows / 2), 7, 1)),
        "JPEG, quality 75": saved,
        "10 % smaller": lambda: np.asarray(cv2.resize(pixels, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA), np.uint8),
    }  # fmt: skip


def measure_again(name: str, record: Any, bundle: NickingBundle) -> Iterator[Row]:
    """A row a change and zone: figures of the changed photograph and of the photograph itself, in its own pixels."""
    pixels = record.pixels
    first = measure(pixels, record.name, bundle)[0]
    for way, make in changed(pixels).items():
        copy = make()
        size = pixels.shape[0] / copy.shape[0]
        for zone, own in zip(measure(copy, record.name, bundle)[0].zones, first.zones, strict=False):
            values = {"crae": zone.crae * size, "crve": zone.crve * size, "avr": zone.avr}
            yield {
                "on": name, "photograph": record.name, "zone": zone.zone.name, "way": way, **values,
                **{f"true_{f}": getattr(own, f) for f in FIGURES},
            }  # fmt: skip


# --- the disc


def read_marks() -> dict[tuple[str, str], tuple[Disc, bool]]:
    """Discs marked by eye, in pixels of the files, by set and photograph, and whether the mark is in doubt."""
    with (HERE / "disc_marks.csv").open(newline="", encoding="utf-8") as file:
        return {
            (row["on"], row["photograph"]): (
                Disc(float(row["row"]), float(row["column"]), float(row["diameter"]) / 2, 1.0), row["doubtful"] == "yes",
            )
            for row in csv.DictReader(file)
        }  # fmt: skip


def describe_discs(name: str, rows: list[Row]) -> Row:
    """How many discs were found, and how wide they are against their marks."""
    near = [row["off"] <= NEAR for row in rows]
    right = [row["diameter"] for row, good in zip(rows, near, strict=True) if good]
    return {
        "task": "disc", "on": name, "zone": "", "way": "within a quarter of its diameter", "figure": "disc",
        "photographs": len(rows), "measured": sum(near), "share": float(np.mean(near)),
        "believed": sum(row["believed"] for row in rows),
        "believed_wrong": sum(row["believed"] and not good for row, good in zip(rows, near, strict=True)),
        "median_error_percent": 100 * float(np.median(np.abs(np.array(right) - 1))), "bias_percent": 100 * float(np.median(right) - 1),
    }  # fmt: skip


COLUMNS = (
    "task", "on", "zone", "way", "figure", "photographs", "measured", "pearson", "median_error_percent",
    "p90_error_percent", "bias_percent", "share", "believed", "believed_wrong",
)  # fmt: skip


def summarise(task: str, rows: list[Row]) -> Iterator[Row]:
    """Rows of the results table for all rows of a task, by set, zone and way."""
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["on"], row["zone"], row["way"]].append(row)
    for (on, zone, way), own in groups.items():
        for figure in describe_agreement(own):
            yield {"task": task, "on": on, "zone": zone, "way": way, **figure}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument("--bundle", default="nicking")
    parser.add_argument("--simulated", type=int, default=40)
    parser.add_argument("--only", default="drawn,simulated,again,disc")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    bundle, tasks, marks = open_nicking_bundle(given.bundle, 1), given.only.split(","), read_marks()
    table: list[Row] = []
    drawn, again = [], []
    for name, part in SETS.items():
        discs = []
        for record in open_dataset(given.data / part):
            marked, doubtful = marks[name, record.name]
            if "drawn" in tasks:
                drawn += compare_drawn(name, record, bundle, marked)
            if "again" in tasks:
                again += measure_again(name, record, bundle)
            if "disc" in tasks:
                found, _, _ = measure(record.pixels, record.name, bundle)
                off = (
                    np.inf
                    if found.disc is None
                    else float(np.hypot(*(found.disc.centre - marked.centre))) / marked.diameter
                )
                ratio = np.nan if found.disc is None else found.disc.radius / marked.radius
                discs.append({"off": off, "diameter": ratio, "believed": bool(found.zones), "doubtful": doubtful})
        if discs:
            table.append(describe_discs(name, discs))
            sure = [row for row in discs if not row["doubtful"]]
            if len(sure) < len(discs):
                table.append(describe_discs(f"{name}, without discs in doubt", sure))
    table = [*summarise("against drawn maps", drawn), *summarise("again", again), *table]
    if "simulated" in tasks:
        made = list(map(partial(compare_simulated, bundle=bundle), range(given.simulated)))
        table += summarise("against drawn calibres", [row for rows, _ in made for row in rows])
        table.append(describe_discs("simulated", [disc for _, disc in made]))
    rows = [{name: row.get(name) for name in COLUMNS} for row in table]
    for row in results_table(rows, RESULTS):
        print("  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
