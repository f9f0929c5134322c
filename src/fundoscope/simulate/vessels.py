"""Vessels with calibre: Murray's law, smooth and tortuous centrelines, and where an artery meets a vein."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fundoscope.simulate import noise
from fundoscope.simulate.grow import STEP, Skeleton
from fundoscope.simulate.polylines import Polylines

Floats = NDArray[np.float64]
Kind = Literal["artery", "vein"]

FINER = 3  # samples of the smooth centreline for one node of the skeleton


@dataclass(frozen=True, slots=True, eq=False)
class VesselSegment:
    """A stretch between two branchings, flow leaving the disc (for veins: towards it) along `points`.

    `points` (n, 2) and `radius` (n,) are in eye units; `seen` (n,) is 1 where the blood column shows in full and 0
    where it is hidden; `parent` is the index of the stretch it leaves, -1 at the disc; `root` the trunk.
    """

    points: Floats
    radius: Floats
    seen: Floats
    kind: Kind
    parent: int
    root: int


@dataclass(frozen=True, slots=True)
class Style:
    """How a tree looks: `trunk` mean radius of its trunks in eye units; by trunk, `dilation` (a factor) and
    `tortuosity` (deviation of the centreline, in radii of the vessel; `wavelength` in radii too).
    """

    kind: Kind
    trunk: float
    dilation: tuple[float, ...]
    tortuosity: tuple[float, ...]
    wavelength: float = 22.0


def clothe(skeleton: Skeleton, style: Style, rng: np.random.Generator) -> list[VesselSegment]:
    """The vessels of a skeleton: radii by Murray's law (1926: r0^3 = r1^3 + r2^3), centrelines smooth and tortuous."""
    radius = _murray(skeleton, style, rng)
    strands = _strands(skeleton.parent, radius)
    nodes, counts = np.concatenate(strands), np.array([len(strand) for strand in strands])
    lines = Polylines.of(counts)
    path = _relax(skeleton.at[nodes], lines)
    amount = _amount(counts, radius[nodes], np.asarray(style.tortuosity)[skeleton.root[nodes]], style, noise.Waves(rng))
    path += lines.normals(path) * (amount * noise.smoothstep(0, 10, lines.along))[:, None]
    curve = _spline(_joined(path, skeleton.at, strands), lines)
    daughters = np.bincount(skeleton.parent[skeleton.parent >= 0], minlength=len(radius))
    return _cut(_Tree(skeleton.root[nodes], radius[nodes], daughters[nodes], style.kind), strands, curve)


def _murray(skeleton: Skeleton, style: Style, rng: np.random.Generator) -> Floats:
    """Radius at each node: cubes add up from the tips, then all are scaled to the wanted trunks."""
    n = len(skeleton.at)
    tips = np.ones(n, bool)
    tips[skeleton.parent[skeleton.parent >= 0]] = False
    cubes = np.where(tips, rng.lognormal(0, 0.5, n), 0.0).tolist()
    for node, up in zip(range(n - 1, -1, -1), skeleton.parent[::-1].tolist(), strict=True):  # children come first
        if up >= 0:
            cubes[up] += cubes[node]
    radius = np.cbrt(cubes)
    scale = style.trunk / radius[skeleton.parent < 0].mean()
    return radius * scale * np.asarray(style.dilation)[skeleton.root]


def _strands(parent: NDArray[np.int64], radius: Floats) -> list[list[int]]:
    """Paths that follow the widest daughter from each root and each branching; parents come before daughters."""
    daughters: dict[int, list[int]] = {}
    widest_first = np.argsort(-radius, kind="stable")
    for node, up in zip(widest_first.tolist(), parent[widest_first].tolist(), strict=True):
        daughters.setdefault(up, []).append(node)
    strands, heads = [], [(-1, node) for node in sorted(daughters.get(-1, []))]
    for up, head in heads:  # which grows as branchings are passed
        strand = [head] if up < 0 else [up, head]
        while following := daughters.get(strand[-1]):
            heads += [(strand[-1], other) for other in following[1:]]
            strand.append(following[0])
        strands.append(strand)
    return strands


_KERNEL = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
_KERNEL /= _KERNEL.sum()
_SHORT = 4  # nodes: a shorter strand is straight


def _relax(path: Floats, lines: Polylines) -> Floats:
    """Smooth over two nodes; both ends stay where they are."""
    relaxed = np.zeros_like(path)
    for step, weight in enumerate(_KERNEL, -6):
        relaxed += weight * lines.beyond(path, step)
    return relaxed


def _amount(counts: NDArray[np.int64], radius: Floats, tortuosity: Floats, style: Style, waves: noise.Waves) -> Floats:
    """How far each node strays sideways: band-limited along a strand, further and more slowly in wider vessels."""
    size = np.sqrt(radius * float(style.trunk))  # small vessels meander less than in proportion
    mean = np.add.reduceat(size, np.cumsum(counts) - counts) / counts
    wavelength = np.maximum(style.wavelength * mean / STEP, 5.0)
    long = counts >= _SHORT
    amount = np.zeros(len(radius))
    amount[np.repeat(long, counts)] = waves.take(counts[long], wavelength[long])
    return amount * tortuosity * size


def _joined(path: Floats, at: Floats, strands: list[list[int]]) -> Floats:
    """Let each strand start where its parent, which has been moved from `at`, now runs; the short ones are straight."""
    moved, joined, start = at.copy(), path.copy(), 0
    fade = np.exp(-np.arange(max(map(len, strands))) / 6.0)[:, None]
    for strand in strands:
        own = joined[start : start + len(strand)]
        if len(strand) < _SHORT:
            own[:] = np.linspace(moved[strand[0]], at[strand[-1]], len(strand))
        else:
            own += (moved[strand[0]] - own[0]) * fade[: len(strand)]
        moved[strand] = own
        start += len(strand)
    return joined


def _spline(path: Floats, lines: Polylines) -> Floats:
    """`FINER` samples a node on the Catmull-Rom spline (1974) through the nodes; at the end of a line only the first
    is on it.
    """
    p, q, r, s = (lines.beyond(path, step)[:, None] for step in (-1, 0, 1, 2))
    t = (np.arange(FINER) / FINER)[None, :, None]
    curve = q + 0.5 * t * (r - p + t * (2 * p - 5 * q + 4 * r - s + t * (3 * (q - r) + s - p)))
    return curve.reshape(-1, 2)


@dataclass(frozen=True, slots=True, eq=False)
class _Tree:
    """Node by node in the order of the strands: its trunk, its radius and its number of daughters."""

    root: NDArray[np.int64]
    radius: Floats
    daughters: NDArray[np.int64]
    kind: Kind


def _cut(tree: _Tree, strands: list[list[int]], curve: Floats) -> list[VesselSegment]:
    """Cut the strands at their branchings into stretches of one calibre."""
    vessels: list[VesselSegment] = []
    owner: dict[int, int] = {}  # node -> stretch that ends there
    ending, first = tree.daughters != 1, 0
    for strand in strands:
        start, parent = first, owner.get(strand[0], -1)
        for place in (np.flatnonzero(ending[first + 1 : first + len(strand)]) + first + 1).tolist():
            vessels.append(_stretch(tree, place, curve[start * FINER : place * FINER + 1], parent))
            parent = owner[strand[place - first]] = len(vessels) - 1
            start = place
        first += len(strand)
    return vessels


def _stretch(tree: _Tree, place: int, points: Floats, parent: int) -> VesselSegment:
    """The stretch that ends at a node; a last one thins to its tip."""
    calibre, seen = np.full(len(points), tree.radius[place]), np.ones(len(points))
    if tree.daughters[place] == 0:
        tip = np.linspace(-0.7, 1, len(points)).clip(0)
        calibre, seen = calibre * (1 - 0.5 * tip), 1 - 0.75 * tip**1.5
    return VesselSegment(points, calibre, seen, tree.kind, parent, int(tree.root[place]))


@dataclass(frozen=True, slots=True)
class TreeCrossing:
    """Where a vein runs under (or over) an artery: `at` (x, y); indices of the stretches and, along them, of the
    samples before the crossing; `sine` of the angle between them.
    """

    at: tuple[float, float]
    artery: int
    vein: int
    artery_sample: int
    vein_sample: int
    sine: float


def find_crossings(arteries: list[VesselSegment], veins: list[VesselSegment]) -> list[TreeCrossing]:
    """Every crossing of an arterial centreline with a venous one, by exact intersection of their segments."""
    if not arteries or not veins:
        return []
    a, a_of = _segments(arteries)
    v, v_of = _segments(veins)
    i, j = _neighbours(a, v)
    p, r, q, s = a[i, 0], a[i, 1] - a[i, 0], v[j, 0], v[j, 1] - v[j, 0]
    cross = r[:, 0] * s[:, 1] - r[:, 1] * s[:, 0]
    safe = np.where(np.abs(cross) < 1e-15, 1e-15, cross)
    t = ((q - p)[:, 0] * s[:, 1] - (q - p)[:, 1] * s[:, 0]) / safe
    u = ((q - p)[:, 0] * r[:, 1] - (q - p)[:, 1] * r[:, 0]) / safe
    found = []
    for k in np.flatnonzero((t >= 0) & (t < 1) & (u >= 0) & (u < 1)):
        at = p[k] + t[k] * r[k]
        sine = abs(cross[k]) / (np.hypot(*r[k]) * np.hypot(*s[k]))
        (ka, sa), (kv, sv) = a_of[i[k]], v_of[j[k]]
        found.append(TreeCrossing((float(at[0]), float(at[1])), int(ka), int(kv), int(sa), int(sv), float(sine)))
    return found


def _segments(vessels: list[VesselSegment]) -> tuple[Floats, NDArray[np.int64]]:
    """(n, 2, 2) segments, and of each the (stretch, sample) it starts at."""
    points, lines = (
        np.concatenate([v.points for v in vessels]),
        Polylines.of(np.array([len(v.points) for v in vessels])),
    )
    links = lines.links()
    stretch = np.cumsum(lines.along == 0) - 1
    return np.stack([points[links], points[links + 1]], axis=1), np.stack([stretch, lines.along], axis=1)[links]


def _neighbours(a: Floats, v: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of all pairs of an arterial and a venous segment that are near enough to meet, in the order of `a`."""
    side = max(np.ptp(segments, axis=1).max() for segments in (a, v))
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
        pairs.append((i, order[start[i] + nearby.along]))
    i, j = (np.concatenate(side) for side in zip(*pairs, strict=True))
    by_pair = np.lexsort((j, i))
    return i[by_pair], j[by_pair]
