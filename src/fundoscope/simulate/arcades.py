"""Where vessels run: the four trunks that leave the disc, and the points their branches reach for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fundoscope.simulate import fundus, noise
from fundoscope.simulate.vessels import Kind

Floats = NDArray[np.float64]
Inside = Callable[[Floats], NDArray[np.bool_]]

_MIDDLE = np.array([0.4, 0.0])  # eye units: between disc and fovea
_SWING = (0.03, 0.075)  # eye units
_PERIOD = (0.9, 1.7)
TRUNKS = 4  # superior temporal, inferior temporal, superior nasal, inferior nasal

_TEMPORAL = np.array(
    [[0, 0.01], [0.03, 0.13], [0.15, 0.36], [0.44, 0.6], [0.9, 0.72], [1.45, 0.7], [2.1, 0.68], [2.9, 0.8], [3.9, 1.0]]
)
_NASAL = np.array([[0, 0.01], [-0.05, 0.12], [-0.24, 0.38], [-0.65, 0.75], [-1.2, 1.1], [-1.9, 1.5], [-2.6, 1.9]])
_APART = {"vein": 0.05, "artery": -0.03}  # eye units: a vein runs a little outside its artery


def trunks(rng: np.random.Generator, kind: Kind) -> list[Floats]:
    """The trunks of one tree, each (n, 2) in eye units from the disc to the periphery, in the order of `TRUNKS`."""
    return [_trunk(rng, guide, up, kind) for guide in (_TEMPORAL, _NASAL) for up in (1, -1)]


def _trunk(rng: np.random.Generator, guide: Floats, up: int, kind: Kind) -> Floats:
    points = guide * [1, up * rng.lognormal(0, 0.12)]
    # artery and vein wander each by itself, so that now and then they cross
    reach = np.linspace(0, 1, len(points))[:, None] ** 0.7
    points = points + reach * (rng.normal(0, 0.055, points.shape) + np.array([0, up * _APART[kind]]))
    points[0] += rng.normal(0, 0.012, 2)
    return _woven(noise.bend(points, 120), rng)


def _woven(path: Floats, rng: np.random.Generator) -> Floats:
    """Let a trunk swing from side to side, so that it crosses its partner every now and then."""
    way = np.gradient(path, axis=0)
    normal = np.column_stack([-way[:, 1], way[:, 0]]) / np.hypot(*way.T)[:, None]
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    swing = rng.uniform(*_SWING) * np.sin(2 * np.pi * (along / rng.uniform(*_PERIOD) + rng.random()))
    return path + normal * (swing * noise.smoothstep(0.1, 0.7, along))[:, None]


def carriers(rng: np.random.Generator, lattices: tuple[tuple[float, float], ...], inside: Inside) -> Floats:
    """Points (n, 2) for branches to reach: jittered lattices, each of a spacing and out to a distance from (0.4, 0)."""
    parts = []
    for spacing, reach in lattices:
        at = np.arange(-reach, reach, spacing)
        lattice = np.column_stack([np.tile(at, len(at)), np.repeat(at, len(at))])
        lattice = lattice + rng.uniform(-0.5, 0.5, lattice.shape) * spacing
        parts.append(rng.permutation(lattice[np.hypot(*lattice.T) < reach]))
    points = np.concatenate(parts) + _MIDDLE
    return points[inside(points)]


def spares_fovea(points: Floats, radius: float = 0.17) -> NDArray[np.bool_]:
    """Which points lie outside the zone around the fovea that has no vessels; `radius` in eye units."""
    return np.hypot(points[:, 0] - fundus.FOVEA[0], points[:, 1] - fundus.FOVEA[1]) >= radius
