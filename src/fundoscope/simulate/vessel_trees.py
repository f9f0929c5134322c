"""Vessels with calibre, made of skeletons: Murray's law, smooth and tortuous centrelines, and where two trees cross."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fundoscope.simulate import noise
from fundoscope.simulate.polylines import Polylines
from fundoscope.simulate.vessel_skeletons import STEP, Region, Skeleton, VesselType, draw_targets, draw_trunks, grow

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

SAMPLES_PER_NODE = 3  # samples of the smooth centreline for one node of the skeleton
_SMOOTHING = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)  # weights over the nodes: a Gaussian of two nodes
_SMOOTHING /= _SMOOTHING.sum()
_SHORT = 4  # nodes: a shorter run is straight


@dataclass(frozen=True, slots=True, eq=False)
class VesselSegment:
    """A vessel between two branchings, from the disc outwards.

    `points` (n, 2) and `radius` (n,) are in eye units; `visible` (n,) is 1 where the blood column shows in full and 0
    where it is hidden; `parent` is the index of the segment before it, -1 at the disc.
    """

    points: Floats
    radius: Floats
    visible: Floats
    parent: int


@dataclass(frozen=True, slots=True)
class TreeStyle:
    """How the arteries, or the veins, of an eye look.

    `trunk_radius` is the mean radius of the trunks in eye units. Per trunk: `dilation`, a factor on the radius, and
    `tortuosity`, how far the centreline strays in radii of the vessel (standard deviation). `wavelength` of its bends is
    in radii too.
    """

    vessel_type: VesselType
    trunk_radius: float
    dilation: tuple[float, ...]
    tortuosity: tuple[float, ...]
    wavelength: float = 22.0


def grow_trees(
    styles: tuple[TreeStyle, TreeStyle],
    lattices: tuple[tuple[float, float], ...],
    region: Region,
    rng: np.random.Generator,
) -> tuple[list[VesselSegment], list[VesselSegment]]:
    """The arteries and the veins of an eye, in the styles of both.

    Vessels stay in the region. `lattices` are the spacing and the radius, in eye units, of the points they reach for.
    """
    trees, other_nodes = [], np.zeros((0, 2))
    for style in styles:
        targets = draw_targets(rng, lattices, region)
        skeleton = grow(draw_trunks(rng, style.vessel_type), targets, region, other_nodes, rng)
        other_nodes = skeleton.at
        trees.append(vessels_on(skeleton, style, rng))
    arteries, veins = trees
    return arteries, veins


def vessels_on(skeleton: Skeleton, style: TreeStyle, rng: np.random.Generator) -> list[VesselSegment]:
    """The vessels of a skeleton: radii by Murray's law (1926: r0^3 = r1^3 + r2^3), centrelines smooth and tortuous."""
    radius = _murray_radii(skeleton, style, rng)
    runs = _runs_along_widest(skeleton.parent, radius)
    nodes, counts = np.concatenate(runs), np.array([len(run) for run in runs])
    lines = Polylines.of(counts)
    path = np.zeros((len(nodes), 2))
    for step, weight in enumerate(_SMOOTHING, -6):
        path += weight * lines.shifted(skeleton.at[nodes], step)
    tortuosity = np.asarray(style.tortuosity)[skeleton.root[nodes]]
    sideways = _sideways(counts, radius[nodes], tortuosity, style, noise.Waves(rng))
    path += lines.normals(path) * (sideways * noise.smoothstep(0, 10, lines.position))[:, None]
    curve = _catmull_rom(_attached(path, skeleton.at, runs), lines)
    children = np.bincount(skeleton.parent[skeleton.parent >= 0], minlength=len(radius))
    return _cut_at_branchings(runs, curve, radius[nodes], children[nodes])


def _murray_radii(skeleton: Skeleton, style: TreeStyle, rng: np.random.Generator) -> Floats:
    """Radius at each node: cubes add up from the tips, then all are scaled to the style's trunks."""
    n = len(skeleton.at)
    tips = np.ones(n, bool)
    tips[skeleton.parent[skeleton.parent >= 0]] = False
    cubes = np.where(tips, rng.lognormal(0, 0.5, n), 0.0).tolist()
    for node, parent in zip(range(n - 1, -1, -1), skeleton.parent[::-1].tolist(), strict=True):  # children come first
        if parent >= 0:
            cubes[parent] += cubes[node]
    radius = np.cbrt(cubes)
    scale = style.trunk_radius / radius[skeleton.parent < 0].mean()
    return radius * scale * np.asarray(style.dilation)[skeleton.root]


def _runs_along_widest(parent: Indices, radius: Floats) -> list[list[int]]:
    """Runs of nodes that follow the widest child from each root and each branching; parents come before children."""
    children: dict[int, list[int]] = {}
    widest_first = np.argsort(-radius, kind="stable")
    for node, up in zip(widest_first.tolist(), parent[widest_first].tolist(), strict=True):
        children.setdefault(up, []).append(node)
    runs, starts = [], [(-1, node) for node in sorted(children.get(-1, []))]
    for up, start in starts:  # the list grows as branchings are passed
        run = [start] if up < 0 else [up, start]
        while following := children.get(run[-1]):
            starts += [(run[-1], other) for other in following[1:]]
            run.append(following[0])
        runs.append(run)
    return runs


def _sideways(counts: Indices, radius: Floats, tortuosity: Floats, style: TreeStyle, waves: noise.Waves) -> Floats:
    """How far each node strays sideways, eye units: band-limited along a run, further and more slowly in wide vessels."""
    size = np.sqrt(radius * float(style.trunk_radius))  # small vessels meander less than in proportion
    mean = np.add.reduceat(size, np.cumsum(counts) - counts) / counts
    wavelength = np.maximum(style.wavelength * mean / STEP, 5.0)
    long = counts >= _SHORT
    amount = np.zeros(len(radius))
    amount[np.repeat(long, counts)] = waves.pieces(counts[long], wavelength[long])
    return amount * tortuosity * size


def _attached(path: Floats, at: Floats, runs: list[list[int]]) -> Floats:
    """The path with each run moved to start where its parent, itself moved from `at`, now lies; short runs are straight."""
    moved, attached, start = at.copy(), path.copy(), 0
    fade = np.exp(-np.arange(max(map(len, runs))) / 6.0)[:, None]
    for run in runs:
        own = attached[start : start + len(run)]
        if len(run) < _SHORT:
            own[:] = np.linspace(moved[run[0]], at[run[-1]], len(run))
        else:
            own += (moved[run[0]] - own[0]) * fade[: len(run)]
        moved[run] = own
        start += len(run)
    return attached


def _catmull_rom(path: Floats, lines: Polylines) -> Floats:
    """`SAMPLES_PER_NODE` samples a node on the Catmull-Rom spline (1974) through the nodes.

    At the last node of a polyline only the first sample lies on the spline.
    """
    p, q, r, s = (lines.shifted(path, step)[:, None] for step in (-1, 0, 1, 2))
    t = (np.arange(SAMPLES_PER_NODE) / SAMPLES_PER_NODE)[None, :, None]
    curve = q + 0.5 * t * (r - p + t * (2 * p - 5 * q + 4 * r - s + t * (3 * (q - r) + s - p)))
    return curve.reshape(-1, 2)


def _cut_at_branchings(runs: list[list[int]], curve: Floats, radius: Floats, children: Indices) -> list[VesselSegment]:
    """The runs cut at their branchings into segments of one calibre; a segment that ends in a tip thins and fades.

    `radius` and `children` (their number) are node by node, in the order of the runs; `curve` has `SAMPLES_PER_NODE`
    samples for each node.
    """
    segments: list[VesselSegment] = []
    ending_at: dict[int, int] = {}  # node -> index of the segment that ends there
    is_end, first = children != 1, 0
    for run in runs:
        start, parent = first, ending_at.get(run[0], -1)
        for place in (np.flatnonzero(is_end[first + 1 : first + len(run)]) + first + 1).tolist():
            points = curve[start * SAMPLES_PER_NODE : place * SAMPLES_PER_NODE + 1]
            calibre, visible = np.full(len(points), radius[place]), np.ones(len(points))
            if children[place] == 0:
                tip = np.linspace(-0.7, 1, len(points)).clip(0)
                calibre, visible = calibre * (1 - 0.5 * tip), 1 - 0.75 * tip**1.5
            segments.append(VesselSegment(points, calibre, visible, parent))
            parent = ending_at[run[place - first]] = len(segments) - 1
            start = place
        first += len(run)
    return segments


@dataclass(frozen=True, slots=True)
class TreeCrossing:
    """Where a vein runs under (or over) an artery: `at` (x, y) in eye units; indices of the two segments and, on each,
    of the sample before the crossing; `sine` of the angle between them.
    """

    at: tuple[float, float]
    artery: int
    vein: int
    artery_sample: int
    vein_sample: int
    sine: float


def find_crossings(arteries: list[VesselSegment], veins: list[VesselSegment]) -> list[TreeCrossing]:
    """Every crossing of an arterial with a venous centreline, by exact intersection of their line pieces."""
    if not arteries or not veins:
        return []
    a, a_of = _line_pieces(arteries)
    v, v_of = _line_pieces(veins)
    i, j = _pairs_nearby(a, v)
    p, r, q, s = a[i, 0], a[i, 1] - a[i, 0], v[j, 0], v[j, 1] - v[j, 0]
    cross = r[:, 0] * s[:, 1] - r[:, 1] * s[:, 0]
    safe = np.where(np.abs(cross) < 1e-15, 1e-15, cross)
    t = ((q - p)[:, 0] * s[:, 1] - (q - p)[:, 1] * s[:, 0]) / safe
    u = ((q - p)[:, 0] * r[:, 1] - (q - p)[:, 1] * r[:, 0]) / safe
    found = []
    for k in np.flatnonzero((t >= 0) & (t < 1) & (u >= 0) & (u < 1)):
        at = p[k] + t[k] * r[k]
        sine = abs(cross[k]) / (np.hypot(*r[k]) * np.hypot(*s[k]))
        (artery, artery_sample), (vein, vein_sample) = a_of[i[k]].tolist(), v_of[j[k]].tolist()
        place = (float(at[0]), float(at[1]))
        found.append(TreeCrossing(place, artery, vein, artery_sample, vein_sample, float(sine)))
    return found


def _line_pieces(vessels: list[VesselSegment]) -> tuple[Floats, Indices]:
    """The straight pieces (n, 2, 2) between samples, and for each the index of its vessel and of its first sample, (n, 2)."""
    points = np.concatenate([vessel.points for vessel in vessels])
    lines = Polylines.of(np.array([len(vessel.points) for vessel in vessels]))
    links = lines.links()
    vessel = np.cumsum(lines.position == 0) - 1
    return np.stack([points[links], points[links + 1]], axis=1), np.stack([vessel, lines.position], axis=1)[links]


def _pairs_nearby(a: Floats, v: Floats) -> tuple[Indices, Indices]:
    """Indices of all pairs of an arterial and a venous piece that are near enough to meet, in the order of `a`."""
    side = max(np.ptp(pieces, axis=1).max() for pieces in (a, v))
    low = np.minimum(a.min(axis=(0, 1)), v.min(axis=(0, 1))) - 2 * side
    (a_column, a_row), (v_column, v_row) = (((each.mean(1) - low) / side).astype(np.int64).T for each in (a, v))
    rows = int(max(a_row.max(), v_row.max())) + 2
    cell = v_column * rows + v_row
    order = np.argsort(cell, kind="stable")
    pairs = []
    for column in (-1, 0, 1):  # three cells of a column follow each other in the order
        start, stop = (
            np.searchsorted(cell[order], (a_column + column) * rows + a_row + row, edge)
            for row, edge in ((-1, "left"), (1, "right"))
        )
        nearby = Polylines.of(stop - start)
        i = np.repeat(np.arange(len(a)), stop - start)
        pairs.append((i, order[start[i] + nearby.position]))
    i, j = (np.concatenate(side) for side in zip(*pairs, strict=True))
    by_pair = np.lexsort((j, i))
    return i[by_pair], j[by_pair]
