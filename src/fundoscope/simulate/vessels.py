"""Vessels with calibre: Murray's law, smooth and tortuous centrelines, and where an artery meets a vein."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from fundoscope.simulate import noise
from fundoscope.simulate.grow import STEP, Skeleton

Floats = NDArray[np.float64]
Kind = Literal["artery", "vein"]

FINER = 3  # samples of the smooth centreline for one node of the skeleton


@dataclass(frozen=True, slots=True, eq=False)
class Vessel:
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


def clothe(skeleton: Skeleton, style: Style, rng: np.random.Generator) -> list[Vessel]:
    """The vessels of a skeleton: radii by Murray's law (1926: r0^3 = r1^3 + r2^3), centrelines smooth and tortuous."""
    radius = _murray(skeleton, style, rng)
    at = skeleton.at.copy()
    vessels: list[Vessel] = []
    owner: dict[int, int] = {}  # node -> stretch that ends there
    waves = noise.Waves(rng)
    tree = _Tree(skeleton, radius, np.bincount(skeleton.parent[skeleton.parent >= 0], minlength=len(at)), style.kind)
    for strand in _strands(skeleton.parent, radius):
        curve = _smooth(skeleton, strand, at, radius, style, waves)
        _cut(tree, strand, curve, owner, vessels)
    return vessels


def _murray(skeleton: Skeleton, style: Style, rng: np.random.Generator) -> Floats:
    """Radius at each node: cubes add up from the tips, then all are scaled to the wanted trunks."""
    n = len(skeleton.at)
    tips = np.ones(n, bool)
    tips[skeleton.parent[skeleton.parent >= 0]] = False
    cubes = np.where(tips, rng.lognormal(0, 0.5, n), 0.0)
    for node in range(n - 1, -1, -1):  # children always come after their parents
        if skeleton.parent[node] >= 0:
            cubes[skeleton.parent[node]] += cubes[node]
    radius = np.cbrt(cubes)
    scale = style.trunk / radius[skeleton.parent < 0].mean()
    return radius * scale * np.asarray(style.dilation)[skeleton.root]


def _strands(parent: NDArray[np.int64], radius: Floats) -> list[list[int]]:
    """Paths that follow the widest daughter from each root and each branching; parents come before daughters."""
    daughters: dict[int, list[int]] = {}
    for node, up in enumerate(parent):
        daughters.setdefault(int(up), []).append(node)
    strands, heads = [], [(-1, node) for node in daughters.get(-1, [])]
    while heads:
        up, node = heads.pop(0)
        strand = [node] if up < 0 else [up, node]
        while node in daughters:
            ordered = sorted(daughters[node], key=lambda d: -radius[d])
            heads += [(node, other) for other in ordered[1:]]
            node = ordered[0]
            strand.append(node)
        strands.append(strand)
    return strands


def _smooth(
    skeleton: Skeleton, strand: list[int], at: Floats, radius: Floats, style: Style, waves: noise.Waves
) -> Floats:
    """Samples of the strand's final centreline, `FINER` a node; moves its nodes in `at` onto it."""
    path, n = skeleton.at[strand], len(strand)
    if n >= 4:
        path = _relax(path)
        path = path + _meander(path, radius[strand], skeleton.root[strand[0]], style, waves)
        path = path + (at[strand[0]] - path[0]) * np.exp(-np.arange(n) / 6.0)[:, None]
    else:
        path = np.linspace(at[strand[0]], path[-1], n)
    at[strand] = path
    return _spline(path)


_KERNEL = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
_KERNEL /= _KERNEL.sum()
_RISE = noise.smoothstep(0, 10, np.arange(10))


def _relax(path: Floats) -> Floats:
    """Smooth over two nodes; both ends stay where they are (the path is continued by point reflection)."""
    m = min(6, len(path) - 1)
    wide = np.concatenate([2 * path[0] - path[m:0:-1], path, 2 * path[-1] - path[-2 : -m - 2 : -1]])
    if m < 6:
        wide = np.pad(wide, ((6 - m, 6 - m), (0, 0)), mode="edge")
    return np.stack([np.convolve(wide[:, k], _KERNEL, mode="valid") for k in (0, 1)], axis=1)


def _meander(path: Floats, radius: Floats, root: int, style: Style, waves: noise.Waves) -> Floats:
    """Sideways displacement of each node: band-limited, larger and longer in wider vessels, none at the start."""
    way = np.empty_like(path)
    way[1:-1], way[0], way[-1] = path[2:] - path[:-2], path[1] - path[0], path[-1] - path[-2]
    size = np.sqrt(radius * float(style.trunk))  # small vessels meander less than in proportion
    wavelength = max(style.wavelength * float(size.mean()) / STEP, 5.0)
    sideways = style.tortuosity[root] * size * waves.take(len(path), wavelength)
    sideways[:10] *= _RISE[: len(path)]
    sideways /= np.maximum(np.hypot(way[:, 0], way[:, 1]), 1e-9)
    return np.stack([-way[:, 1] * sideways, way[:, 0] * sideways], axis=1)


def _spline(path: Floats) -> Floats:
    """`FINER` samples a node on the Catmull-Rom spline (1974) through the nodes."""
    before = np.concatenate([2 * path[:1] - path[1:2], path[:-2]])
    start, end = path[:-1], path[1:]
    after = np.concatenate([path[2:], 2 * path[-1:] - path[-2:-1]])
    t = (np.arange(FINER) / FINER)[None, :, None]
    p, q, r, s = (side[:, None] for side in (before, start, end, after))
    curve = q + 0.5 * t * (r - p + t * (2 * p - 5 * q + 4 * r - s + t * (3 * (q - r) + s - p)))
    return np.concatenate([curve.reshape(-1, 2), path[-1:]])


@dataclass(frozen=True, slots=True, eq=False)
class _Tree:
    skeleton: Skeleton
    radius: Floats
    daughters: NDArray[np.int64]
    kind: Kind


def _cut(tree: _Tree, strand: list[int], curve: Floats, owner: dict[int, int], vessels: list[Vessel]) -> None:
    """Cut a strand at its branchings into stretches of one calibre and append them; a last one thins to its tip."""
    start, parent = 0, owner.get(strand[0], -1)
    for i in range(1, len(strand)):
        node = strand[i]
        if tree.daughters[node] == 1:
            continue
        points = curve[start * FINER : i * FINER + 1]
        calibre = np.full(len(points), tree.radius[node])
        seen = np.ones(len(points))
        if tree.daughters[node] == 0:
            tip = np.linspace(-0.7, 1, len(points)).clip(0)
            calibre, seen = calibre * (1 - 0.5 * tip), 1 - 0.75 * tip**1.5
        vessels.append(Vessel(points, calibre, seen, tree.kind, parent, int(tree.skeleton.root[node])))
        parent = owner[node] = len(vessels) - 1
        start = i


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where a vein runs under (or over) an artery: `at` (x, y); indices of the stretches and, along them, of the
    samples before the crossing; `sine` of the angle between them.
    """

    at: tuple[float, float]
    artery: int
    vein: int
    artery_sample: int
    vein_sample: int
    sine: float


def meetings(arteries: list[Vessel], veins: list[Vessel]) -> list[Meeting]:
    """Every crossing of an arterial centreline with a venous one, by exact intersection of their segments."""
    a, a_of = _segments(arteries)
    v, v_of = _segments(veins)
    if not len(a) or not len(v):
        return []
    reach = max(np.hypot(*(a[:, 1] - a[:, 0]).T).max(), np.hypot(*(v[:, 1] - v[:, 0]).T).max())
    pairs = KDTree(a.mean(1)).query_ball_tree(KDTree(v.mean(1)), float(reach))
    i = np.repeat(np.arange(len(a)), [len(p) for p in pairs])
    j = np.fromiter((k for p in pairs for k in p), np.int64, len(i))
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
        found.append(Meeting((float(at[0]), float(at[1])), int(ka), int(kv), int(sa), int(sv), float(sine)))
    return found


def _segments(vessels: list[Vessel]) -> tuple[Floats, NDArray[np.int64]]:
    """(n, 2, 2) segments, and of each the (stretch, sample) it starts at."""
    if not vessels:
        return np.zeros((0, 2, 2)), np.zeros((0, 2), np.int64)
    parts = [np.stack([v.points[:-1], v.points[1:]], axis=1) for v in vessels]
    of = [np.column_stack([np.full(len(p), k), np.arange(len(p))]) for k, p in enumerate(parts)]
    return np.concatenate(parts), np.concatenate(of)


def with_calibre(vessel: Vessel, factor: Floats) -> Vessel:
    """The same stretch with its radius multiplied, sample by sample."""
    return replace(vessel, radius=vessel.radius * factor)
