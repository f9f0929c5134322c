"""How far CRAE, CRVE and AVR can be trusted: against drawn maps, against drawn calibres, and against themselves.

    python benchmarks/vessel_measures.py --data ../shared/data [--bundle nicking] [--simulated 40] [--again 10]

- drawn: on DRIVE's training photographs, HRF and LES-AV, the measures by the bundle's maps against the same formula on the
  maps that people drew, the zones around the same disc; widths of both by the photograph's edges ("edges"), or those of
  the drawn maps by the drawing itself ("drawing"). The bundle has learnt from DRIVE training and HRF: only LES-AV is new.
- simulated: the same on simulated adults, against the calibres that they were drawn with.
- again: the measures of a photograph that was shifted, turned, saved as JPEG or made 10 % smaller, against its own.

Writes docs/results/vessel_measures.csv. Never reads DRIVE's test photographs.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from discs import read_marks, simulate
from numpy.typing import NDArray
from scipy.spatial import KDTree

from fundoscope.bundles.read_nicking import NickingBundle, open_nicking_bundle
from fundoscope.datasets import open_dataset
from fundoscope.datasets.record import PhotographRecord
from fundoscope.evaluation import results_table
from fundoscope.imaging import Pixels, Prepared
from fundoscope.nicking.grading.measures import fit_calibre, measure_photograph
from fundoscope.nicking.grading.vessel_maps import MappedPhotograph, map_photograph
from fundoscope.simulate.projection import Projection
from fundoscope.simulate.vessel_trees import VesselSegment
from fundoscope.vessels import Centreline, vessel_graph
from fundoscope.vessels.calibre import WidthProfile, sample_cross_sections
from fundoscope.vessels.disc import Disc
from fundoscope.vessels.measures import (
    CountedVessel,
    Kind,
    MeasureWidths,
    VesselMeasures,
    VesselTrees,
    ZoneCalibres,
    measure_vessels,
    photograph_widths,
)
from fundoscope.vessels.multigraph import VesselGraph

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results" / "vessel_measures.csv"
SETS = {"DRIVE training": "drive_av/training", "HRF": "hrf_av", "LES-AV": "les_av"}
FIGURES = ("crae", "crve", "avr", "ratio_of_four")
SEED = 9100

Mask = NDArray[np.bool_]
Row = dict[str, Any]
Measured = tuple[VesselMeasures, MappedPhotograph]


def measure(pixels: Pixels, name: str, bundle: NickingBundle) -> Measured:
    """The measures of a photograph, as `fundoscope nicking grade` makes them."""
    mapped = map_photograph(Prepared.read(pixels, name), bundle)
    return measure_photograph(mapped, None), mapped


# --- against drawn maps


def compare_drawn(name: str, record: PhotographRecord, own: Measured, marked: Disc) -> Iterator[Row]:
    """A row a zone and way of measuring the drawn map: figures by the bundle's maps and by it."""
    found, mapped = own
    if mapped.disc is None:
        return
    assert record.artery is not None and record.vein is not None
    shape = mapped.inside.shape
    artery, vein = (shrink_mask(mask, shape) for mask in (record.artery, record.vein))
    trees = VesselTrees(
        vessel_graph(artery), vessel_graph(vein), vessel_graph(artery | vein), mapped.inside, mapped.scale
    )
    model = fit_calibre(mapped)
    ways: dict[str, tuple[MeasureWidths, Disc]] = {
        "edges": (photograph_widths(model, artery, vein, mapped.scale), mapped.disc),
        "drawing": (drawn_widths(record.artery, record.vein), mapped.disc),
        "edges, marked disc": (photograph_widths(model, artery, vein, mapped.scale), marked.scaled(1 / mapped.scale)),
    }
    for way, (widths, disc) in ways.items():
        drawn = measure_vessels(trees, disc, widths)
        for zone, true in zip(found.zones, drawn.zones, strict=False):
            yield {
                "on": name, "photograph": record.name, "zone": zone.zone.name, "way": way,
                **{f: getattr(zone, f) for f in FIGURES}, **{f"true_{f}": getattr(true, f) for f in FIGURES},
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


def tree_graph(segments: list[VesselSegment], projection: Projection) -> VesselGraph:
    """The vessels that were drawn, as a graph in the photograph's pixels, with their radii."""
    graph = VesselGraph()
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


def calibres_near(trees: dict[Kind, VesselGraph]) -> MeasureWidths:
    """The calibre of the drawn vessel nearest each point of a line; where none of its kind is near, the point is not clear."""
    known = {}
    for kind, graph in trees.items():
        edges = [data for *_, data in graph.edges()]
        radius = np.concatenate([data["radius"] for data in edges])
        known[kind] = KDTree(np.concatenate([data["path"] for data in edges])), radius

    def along(line: Centreline, kind: Kind) -> WidthProfile:
        tree, radius = known[kind]
        distance, nearest = tree.query(line.points)
        found = tree_widths(replace(line, radius=radius[nearest]), kind)
        return replace(found, visible=(distance < np.maximum(radius[nearest], 2.0)).astype(float))

    return along


def with_drawn_widths(zone: ZoneCalibres, found: VesselMeasures, along: MeasureWidths) -> ZoneCalibres:
    """A zone with exactly the vessels that were counted in it, each as wide as it was drawn; those are left out beside which none was drawn."""
    assert found.disc is not None
    kinds: dict[Kind, list[CountedVessel]] = {"artery": [], "vein": []}
    for vessel in (*zone.arterioles, *zone.venules):
        course = found.courses[vessel.index]
        drawn = along(course.line, course.kind)
        away = np.hypot(*(course.line.points - found.disc.centre).T)
        here = (drawn.visible > 0) & (away >= zone.zone.inner) & (away <= zone.zone.outer)
        if here.any():
            kinds[course.kind].append(replace(vessel, width=float(np.median(drawn.width[here]))))
    return replace(zone, arterioles=tuple(kinds["artery"]), venules=tuple(kinds["vein"]))


def compare_simulated(number: int, bundle: NickingBundle) -> list[Row]:
    """A row a zone and way of one simulated eye.

    The drawn calibres are those of exactly the vessels that were counted, of the vessels that the bundle's maps show, or of all vessels of the
    eye. Its arteries lie on its veins near the disc, more than in eyes, where no map can show them and no width can be read.
    """
    camera = ("drive", "hrf")[number % 2]
    pixels, eye, projection, truth = simulate(SEED + number, camera)
    found, mapped = measure(pixels, f"{camera} {number}", bundle)
    if found.disc is None or mapped.disc is None:
        return []
    artery, vein = (tree_graph(each, projection) for each in (eye.arteries, eye.veins))
    seen, empty = mapped.artery_vein, VesselGraph()
    same = VesselTrees(seen.artery_graph, seen.vein_graph, empty, mapped.inside, mapped.scale)
    near = calibres_near({"artery": artery, "vein": vein})
    everything = VesselTrees(artery, vein, empty, truth.field)
    ways = {
        "vessels counted": [with_drawn_widths(zone, found, near) for zone in found.zones],
        "vessels of the map": measure_vessels(same, mapped.disc, near).zones,
        "all vessels": measure_vessels(everything, found.disc, tree_widths).zones,
    }
    return [
        {
            "on": "simulated", "photograph": number, "zone": zone.zone.name, "way": way,
            **{f: getattr(zone, f) for f in FIGURES}, **{f"true_{f}": getattr(own, f) for f in FIGURES},
        }
        for way, true in ways.items()
        for zone, own in zip(found.zones, true, strict=False)
    ]  # fmt: skip


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
        "turned 7 degrees": lambda: moved(np.asarray(cv2.getRotationMatrix2D((columns / 2, rows / 2), 7, 1), float)),
        "JPEG, quality 75": saved,
        "10 % smaller": lambda: np.asarray(cv2.resize(pixels, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA), np.uint8),
    }  # fmt: skip


def measure_again(name: str, record: PhotographRecord, own: VesselMeasures, bundle: NickingBundle) -> Iterator[Row]:
    """A row a change and zone: figures of the changed photograph and of the photograph itself, in its own pixels."""
    pixels = record.pixels
    for way, make in changed(pixels).items():
        copy = make()
        size = pixels.shape[0] / copy.shape[0]
        for zone, first in zip(measure(copy, record.name, bundle)[0].zones, own.zones, strict=False):
            values = {
                "crae": zone.crae * size,
                "crve": zone.crve * size,
                "avr": zone.avr,
                "ratio_of_four": zone.ratio_of_four,
            }
            yield {
                "on": name, "photograph": record.name, "zone": zone.zone.name, "way": way, **values,
                **{f"true_{f}": getattr(first, f) for f in FIGURES},
            }  # fmt: skip


# --- the table

COLUMNS = (
    "task", "on", "zone", "way", "figure", "photographs", "measured", "pearson", "median_error_percent",
    "p90_error_percent", "bias_percent",
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
    parser.add_argument("--again", type=int, default=10, help="photographs of each set that are measured again")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    bundle, marks = open_nicking_bundle(given.bundle, 1), read_marks()
    drawn: list[Row] = []
    again: list[Row] = []
    for name, part in SETS.items():
        records = open_dataset(given.data / part)
        repeated = set(np.linspace(0, len(records) - 1, min(given.again, len(records))).round().astype(int).tolist())
        for number, record in enumerate(records):
            marked, _ = marks[name, record.name]
            own = measure(record.pixels, record.name, bundle)
            drawn += compare_drawn(name, record, own, marked)
            if number in repeated:
                again += measure_again(name, record, own[0], bundle)
            print(f"{name} {record.name}", file=sys.stderr)
    made = [row for number in range(given.simulated) for row in compare_simulated(number, bundle)]
    tasks = {"against drawn maps": drawn, "again": again, "against drawn calibres": made}
    table = [row for task, rows in tasks.items() for row in summarise(task, rows)]
    rows = [{name: row.get(name) for name in COLUMNS} for row in table]
    for row in results_table(rows, RESULTS):
        print("  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
