"""How well are vessels found, crossings located and widths measured by geometry alone, without a network?

    python benchmarks/vessels.py [--quick]

Writes docs/results/vessels.csv, a row a figure; `asked` is what the issue asks of it. Intervals (95 %) are over photographs
drawn with replacement.

    lines       pixels of the line detector inside the field mask, at the shipped threshold, on DRIVE test
    crossings   on DRIVE test, one-to-one within 10 px: from the manual vessel map by geometry alone, from the manual
                artery and vein maps, and from the line detector's own map. Truth: green blobs of RITE's map of 8 px or
                more that touch an artery and a vein; "wide": both vessels at least 4 px
    calibre     measured less drawn width in simulated eyes, by drawn width in pixels: of stretches between two branchings
                (median of their rays) and of single rays; beside other vessels nothing is measured
    size        HRF: the same stretches (12 px and wider) at full and at quarter size
    repeat      DRIVE: the same stretches in photographs shifted by part of a pixel and turned by a few degrees
    half pixel  masks and crossings of a simulated eye drawn at once and at four times the size

The masks here are RITE's: for DRIVE test the SECOND observer's, so the figures are not those of the first manual.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from sklearn.metrics import roc_auc_score

from fundoscope.datasets import Dataset, PhotographRecord, open_dataset
from fundoscope.imaging import Pixels
from fundoscope.simulate import adults, cameras
from fundoscope.vessels import (
    CalibreModel,
    Centreline,
    crossings_between,
    crossings_on,
    edge_paths,
    find_vessels,
    vessel_graph,
)
from fundoscope.vessels.graph import arc_length
from fundoscope.vessels.lines import THRESHOLD

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FUNDOSCOPE_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "docs" / "results" / "vessels.csv"
COLUMNS = ("what", "dataset", "figure", "value", "low", "high", "n", "asked")
NEAR, WIDE = 10.0, 4.0  # pixels between a crossing and its truth; of a wide vessel
BINS = (4, 6, 8, 12, 16, 22, 30)  # pixels of drawn width
EYES = (("drive", None), ("hrf", 2000), ("hrf", 3504))
SEEDS = (100, 101, 102)
ALONE = 1.6  # widths from the axis within which no other vessel runs
FITS = 0.5  # share of a ray's variance that the vessel must explain

Mask = NDArray[np.bool_]
Values = NDArray[np.float64]
Row = dict[str, object]


def row(what: str, dataset: str, figure: str, groups: list[Values], asked: str = "", mean: bool = False) -> Row:
    """The median (or mean) of all values, and its interval over the groups (photographs)."""
    of = np.mean if mean else np.median
    groups, rng = [g for g in groups if len(g)], np.random.default_rng(0)
    if not groups:
        return dict(zip(COLUMNS, (what, dataset, figure, "", "", "", 0, asked), strict=True))
    picks = rng.integers(len(groups), size=(400, len(groups)))
    draws = [of(np.concatenate([groups[k] for k in pick])) for pick in picks]
    every = np.concatenate(groups)
    values = [round(float(v), 4) for v in (of(every), *np.percentile(draws, [2.5, 97.5]))]
    return dict(zip(COLUMNS, (what, dataset, figure, *values, len(every), asked), strict=True))


# DRIVE


def drive(part: str) -> Dataset:
    return open_dataset(DATA / "drive_av" / part)


def lines(photographs: Sequence[PhotographRecord]) -> Iterator[Row]:
    accuracy, auc = [], []
    for p in photographs:
        strength, true = find_vessels(p.pixels).strength[p.field], p.vessel[p.field]
        accuracy.append(np.array([((strength > THRESHOLD) == true).mean()]))
        auc.append((strength, true))
    name = "DRIVE test (RITE: 2nd manual)"
    yield row("lines", name, "accuracy", accuracy, "0.935", mean=True)
    each = [np.array([roc_auc_score(true, strength)]) for strength, true in auc]
    pooled = roc_auc_score(*(np.concatenate([pair[k] for pair in auc]) for k in (1, 0)))
    yield row("lines", name, "AUC, mean of photographs", each, "0.93", mean=True)
    yield row("lines", name, "AUC, all pixels together", [np.array([pooled])], "0.93") | {"low": "", "high": ""}


def matched(true: Values, found: Values) -> tuple[Mask, Mask]:
    """Which of the true and of the found have each other, one to one."""
    hit, good = np.zeros(len(true), bool), np.zeros(len(found), bool)
    apart = np.hypot(*(true[:, None] - found[None]).transpose(2, 0, 1))
    i, j = linear_sum_assignment(np.where(apart <= NEAR, apart, 1e3))
    near = apart[i, j] <= NEAR
    hit[i[near]], good[j[near]] = True, True
    return hit, good


def crossings(photographs: Sequence[PhotographRecord]) -> Iterator[Row]:
    ways = {
        "manual vessel map, geometry alone": lambda p: crossings_on(vessel_graph(p.artery | p.vein | p.vessel)),
        "manual artery and vein maps": lambda p: crossings_between(p.artery, p.vein),
        "line detector's map": lambda p: crossings_on(vessel_graph(find_vessels(p.pixels).mask)),
    }
    truths = [(p.crossings, np.minimum(p.artery_widths, p.vein_widths)) for p in photographs]
    for name, way in ways.items():
        pairs = [
            (*matched(true, np.array([c.at for c in way(p)]).reshape(-1, 2)), width)
            for p, (true, width) in zip(photographs, truths, strict=True)
        ]
        for figure in ("precision", "recall", "F1", "recall, wide"):
            yield _crossing_row(f"DRIVE test, {name}", figure, pairs)


def _crossing_row(dataset: str, figure: str, pairs: list[tuple[Mask, Mask, Values]]) -> Row:
    groups = {
        "precision": [good.astype(float) for _, good, _ in pairs],
        "recall": [hit.astype(float) for hit, *_ in pairs],
        # F1 is the mean over the true and the found together of whether they have each other
        "F1": [np.concatenate([hit, good]).astype(float) for hit, good, _ in pairs],
        "recall, wide": [hit[width >= WIDE].astype(float) for hit, _, width in pairs],
    }[figure]
    return row("crossings", dataset, figure, groups, mean=True)


# simulated eyes


def shot(
    seed: int, camera: str, level: str, size: int | None
) -> tuple[adults.AdultEye, adults.Projection, Pixels, Mask]:
    """An eye, the view of it, its photograph and the field: what `simulate.adult` draws for this seed."""
    kind, rng = cameras.camera_named(camera, infant=False), np.random.default_rng([seed, 24])
    side = "left" if rng.random() < 0.5 else "right"
    rng.choice(len(cameras.LEVELS), p=cameras.ADULT_LEVEL_SHARES)
    cast = cameras.draw_cast(rng, 0.5)
    exposure = cameras.draw_exposure(kind.resized(size), cameras.level_named(level), cast, rng)
    projection = adults.draw_projection(exposure, side, rng)
    eye = adults.grow_eye(seed, side, 0, kind.laser)
    taken = adults.photograph_eye(eye, exposure, projection)
    return eye, projection, taken.pixels, taken.truth.field


def drawn_centrelines(
    eye: adults.AdultEye, projection: adults.Projection, field: Mask
) -> list[tuple[int, float, Centreline]]:
    """Each stretch of even width in the field: its number, its drawn width, and a centreline that has it only roughly."""
    found, rng = [], np.random.default_rng(0)
    for k, vessel in enumerate(eye.arteries + eye.veins):
        points, width = projection.to_pixels(vessel.points)[:, ::-1], 2 * vessel.radius * projection.scale
        inside = ((points >= 3) & (points < np.array(field.shape) - 4)).all(axis=1) & (vessel.visible > 0.97)
        at = np.clip(points.astype(int), 0, np.array(field.shape) - 1)
        inside &= field[at[:, 0], at[:, 1]]
        runs = np.split(np.flatnonzero(inside), np.flatnonzero(np.diff(np.flatnonzero(inside)) > 1) + 1)
        run = max(runs, key=len)
        if (
            len(run) > 5
            and np.ptp(width[run]) < 0.02 * width[run][0]
            and arc_length(points[run])[-1] > 3 * width[run][0]
        ):
            rough = np.full(len(run), width[run][0] / 2 * rng.uniform(0.8, 1.2))
            found.append((k, float(width[run][0]), Centreline(points[run] + rng.normal(0, 0.4, 2), rough, 0)))
    return found


def measured(seed: int, camera: str, level: str, size: int | None) -> tuple[Values, Values]:
    """Drawn width and error, (n, 2), of the stretches, and of the single rays."""
    eye, projection, pixels, field = shot(seed, camera, level, size)
    centrelines = drawn_centrelines(eye, projection, field)
    lines = [projection.to_pixels(vessel.points)[:, ::-1] for vessel in eye.arteries + eye.veins]
    owner, tree = np.repeat(np.arange(len(lines)), [len(line) for line in lines]), KDTree(np.vstack(lines))
    model = CalibreModel.fit(pixels, [centreline for *_, centreline in centrelines])
    stretches, single = [], []
    for k, width, centreline in centrelines:
        rays = model.measure_widths(centreline)
        apart, which = tree.query(rays.centres, k=40)
        alone = np.where(owner[which] != k, apart, np.inf).min(axis=1) > ALONE * width
        error = (rays.width - width)[alone & (rays.fit > FITS)]
        single += [(width, e) for e in error]
        if len(error) > 10:
            stretches.append((width, float(np.median(error))))
    return np.array(stretches).reshape(-1, 2), np.array(single).reshape(-1, 2)


def calibre(seeds: tuple[int, ...]) -> Iterator[Row]:
    for camera, size in EYES:
        taken = [measured(seed, camera, level, size) for seed in seeds for level in ("perfect", "good")]
        for k, unit in enumerate(("stretches", "rays")):
            for low, high in zip((4, *BINS), (30, *BINS[1:], 0), strict=True):
                errors = [t[k][(t[k][:, 0] >= low) & (t[k][:, 0] < high), 1] for t in taken]
                if sum(map(len, errors)) > 20:
                    name = f"simulated {camera} {size or 584} px, {unit} {low}-{high} px"
                    yield row("calibre", name, "median error (px)", errors, "within 0.2")
                    yield row("calibre", name, "median |error| (px)", [np.abs(e) for e in errors], "at most 0.5")


def half_pixel(seeds: tuple[int, ...]) -> Iterator[Row]:
    """The same eye and projection, drawn at once and at four times the size: where the edges and the crossings are."""
    edges: list[Values] = []
    places: dict[str, list[Values]] = {"drawn and 4x": [], "drawn and 1x": [], "4x and 1x": []}
    for seed in seeds:
        eye, projection, _, field = shot(seed, "drive", "perfect", None)
        origin = tuple(4 * (v + 0.5) - 0.5 for v in projection.origin)
        large, size = (
            replace(projection, origin=origin, scale=4 * projection.scale),
            (4 * field.shape[0], 4 * field.shape[1]),
        )
        vein, artery = (adults.render.draw_layer(tree, projection, field.shape) for tree in (eye.veins, eye.arteries))
        fine_vein, fine_artery = (adults.render.draw_layer(tree, large, size) for tree in (eye.veins, eye.arteries))
        for small, fine in ((vein, fine_vein), (artery, fine_artery)):
            edges.append(_edge_distance(small.mask & field, fine.mask) / 4)
        where = {
            "drawn": projection.to_pixels(np.array([m.at for m in eye.crossings]))[:, ::-1],
            "1x": np.array([c.at for c in crossings_between(artery.mask, vein.mask)]),
            "4x": np.array([c.scaled(0.25).at for c in crossings_between(fine_artery.mask, fine_vein.mask, 240.0)]),
        }
        for name, into in places.items():
            true, found = (where[part] for part in name.split(" and "))
            apart = KDTree(true).query(found)[0]
            into.append(apart[apart < 4])
    yield row("half pixel", "simulated drive, mask edges, 4x and 1x", "median distance (px)", edges, "at most 0.5")
    for name, apart in places.items():
        asked = "at most 0.5" if name == "drawn and 4x" else ""
        yield row("half pixel", f"simulated drive, crossings, {name}", "median distance (px)", apart, asked)


def _edge_distance(small: Mask, fine: Mask) -> Values:
    """From each boundary between pixels of the mask to the fine mask's boundary, in fine pixels."""
    inner, outer = (cv2.distanceTransform(m.astype(np.uint8), cv2.DIST_L2, 5) for m in (fine, ~fine))
    away = np.where(fine, inner - 0.5, outer - 0.5)
    r, c = np.nonzero(small[:, 1:] != small[:, :-1])
    return np.minimum(away[4 * r + 1, 4 * c + 3], away[4 * r + 2, 4 * c + 4]).astype(float)


# the same vessels twice


def centrelines_of(mask: Mask, scale: float, least: float) -> list[Centreline]:
    """The stretches of a vessel mask, in a picture `scale` times as large, where they are `least` pixels wide."""
    every = [Centreline(path, radius, 0).scaled(scale) for path, radius in edge_paths(vessel_graph(mask))]
    return [s for s in every if 2 * np.median(s.radius) >= least and s.length > 6 * np.median(s.radius)]


def widths(pixels: Pixels, centrelines: list[Centreline]) -> Values:
    """Median width of each, nan where its rays do not fit."""
    model = CalibreModel.fit(pixels, centrelines)
    every = [model.measure_widths(s) for s in centrelines]
    return np.array([np.median(r.width[r.fit > FITS]) if (r.fit > FITS).sum() > 10 else np.nan for r in every])


def compared(first: Values, second: Values) -> Values:
    """Relative difference of the second, where both are known."""
    ratio = second / first - 1
    return ratio[np.isfinite(ratio)]


def two_sizes(limit: int) -> Iterator[Row]:
    differences = []
    for p in open_dataset(DATA / "hrf_av")[:limit]:
        pixels = p.pixels
        quarter, shape = cv2.resize(pixels, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA), pixels.shape
        small = (shape[1] // 4, shape[0] // 4)
        masks = [cv2.resize(mask.astype(np.float32), small, interpolation=cv2.INTER_AREA) > 0.5 for mask in (p.artery, p.vein)]  # fmt: skip
        centrelines = [s for mask in masks for s in centrelines_of(mask, 4.0, 12.0)]
        differences.append(
            compared(widths(pixels, centrelines), 4 * widths(quarter, [s.scaled(0.25) for s in centrelines]))
        )
    yield row("size", "HRF, quarter size against full", "median difference", differences, "within 0.05")
    yield row(
        "size",
        "HRF, quarter size against full",
        "median |difference|",
        [np.abs(d) for d in differences],
        "at most 0.05",
    )


def repeated(limit: int) -> Iterator[Row]:
    rng = np.random.default_rng(5)
    for part in ("training", "test"):
        differences = []
        for p in drive(part)[:limit]:
            pixels = p.pixels
            centrelines = [s for mask in (p.artery, p.vein) for s in centrelines_of(mask, 1.0, 4.0)]
            shape = pixels.shape
            turn = cv2.getRotationMatrix2D((shape[1] / 2, shape[0] / 2), rng.uniform(2, 6) * rng.choice([-1, 1]), 1)
            turn[:, 2] += rng.uniform(-0.5, 0.5, 2)
            moved = cv2.warpAffine(pixels, turn, shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            also = [replace(s, points=(s.points[:, ::-1] @ turn[:, :2].T + turn[:, 2])[:, ::-1]) for s in centrelines]
            differences.append(compared(widths(pixels, centrelines), widths(moved, also)))
        name = f"DRIVE {part}, shifted and turned"
        yield row("repeat", name, "median difference", differences, "within 0.05")
        yield row("repeat", name, "median |difference|", [np.abs(d) for d in differences], "at most 0.05")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one eye and two photographs of each; writes nothing")
    quick = parser.parse_args().quick
    cv2.setNumThreads(1)
    test, limit, seeds = list(drive("test")), 2 if quick else 99, SEEDS[:1] if quick else SEEDS
    parts = (
        lines(test[:limit]), crossings(test[:limit]), calibre(seeds), half_pixel(seeds), two_sizes(limit), repeated(limit),
    )  # fmt: skip
    rows = []
    for part in parts:
        for line in part:
            rows.append(line)
            print("  ".join(f"{line[name]}" for name in COLUMNS), flush=True)
    if not quick:
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
