"""The second renderer of nicking: it paints where `pinch` warps, only tests and never trains.

It was written apart from `pinch` and shares no code with it. The vein beside the artery is taken out (inpainted, with grain
from beside it) and drawn anew as a blurred dark tube, narrower and fainter, with the colour, width and blur that the vein
has further away. What a network has learnt on the photographs of `pinch` and still recognises on these is the lesion, and
not how it was rendered.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, gaussian_filter1d
from scipy.optimize import least_squares
from scipy.spatial import KDTree
from scipy.special import erf

from fundoscope.vessels.crossings import MeasuredCrossing
from fundoscope.vessels.graph import Centreline

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Lengths in vein widths
FULL, GONE = 0.4, 1.8  # beyond the artery's wall up to which the narrowing is full, and from which on it has gone
REFERENCE = (2.0, 4.0)  # beyond the wall, where the vein's colour, width and blur are measured
REACH = 4.6  # around the crossing, of the window that is changed
ERASED = 0.95  # to each side of the vein's middle


@dataclass(frozen=True)
class Tube:
    """How a vein looks across: half its width and its blur in pixels, the grey levels it takes from each channel (3,),
    and its middle in pixels.
    """

    half: float
    blur: float
    depth: Array
    middle: float = 0.0

    def darkness(self, beside: Array, share: Array | float = 1.0) -> Array:
        """Share of its depth (0 to 1) that a tube of `share` of the width has at `beside` pixels from its middle."""
        soft = self.blur * np.sqrt(2)
        half = self.half * np.asarray(share)
        return (erf((half - beside) / soft) + erf((half + beside) / soft)) / 2


def redraw(
    pixels: NDArray[np.uint8],
    crossing: MeasuredCrossing,
    calibre: tuple[float, float],
    fade: tuple[float, float],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """A copy of the photograph (rows, columns, 3) with the vein of a crossing narrowed on the side before and after it.

    Its width there becomes 1 - `calibre` of what it was, its contrast 1 - `fade`.
    """
    artery, vein = (2 * float(np.median(line.radius)) for line in (crossing.first, crossing.second))
    low = np.maximum(np.floor(crossing.at - REACH * vein - artery), 0).astype(int)
    high = np.minimum(np.ceil(crossing.at + REACH * vein + artery) + 1, pixels.shape[:2]).astype(int)
    window = pixels[low[0] : high[0], low[1] : high[1]].astype(float)
    at = crossing.at - low
    from_artery = _nearest_point(_line_in_window(crossing.first, low, artery), window.shape[:2])[0]
    wall = artery / 2 / max(np.sin(np.radians(crossing.angle)), 0.3)
    line, tube = _measure_vein(
        window, _line_in_window(crossing.second, low, vein), at, wall, vein, from_artery > 0.7 * artery
    )
    distance, nearest, side = _nearest_point(line, window.shape[:2])
    along, beside = _distance_along(line, at)[nearest], side * distance
    beyond = np.abs(along) - wall
    fall = np.clip((beyond / vein - FULL) / (GONE - FULL), 0, 1)
    extent = 0.5 + 0.5 * np.cos(np.pi * fall)
    share = np.clip(0.5 + along / wall, 0, 1)  # beneath the artery one side passes into the other
    width_left, contrast_left = (1 - (lost[0] + (lost[1] - lost[0]) * share) * extent for lost in (calibre, fade))
    off_artery = from_artery > 0.62 * artery
    without_vein = _erased(window, distance < ERASED * vein, off_artery, vein, rng)
    whole, left = tube.darkness(beside), tube.darkness(beside, width_left) * contrast_left
    near = (distance < ERASED * vein) & (beyond < GONE * vein) & off_artery
    before, after = (
        _fit_depth(whole, without_vein - window, near & side, tube.depth) for side in (along < 0, along >= 0)
    )
    drawn = without_vein - left[..., None] * np.where((along < 0)[..., None], before, after)
    opacity = np.clip((1 - width_left * contrast_left) / 0.06, 0, 1) * np.clip((1.1 - distance / vein) / 0.25, 0, 1)
    open_vein = np.clip((from_artery - 0.5 * artery) / max(1.5, 0.3 * artery), 0, 1)  # the artery lies on top
    beneath = _depth_beneath(window, from_artery < 0.4 * artery, distance / vein, whole)
    lightened = ((1 - open_vein) * (distance < 1.1 * vein) * (whole - left))[..., None] * beneath
    painted = window + (opacity * open_vein)[..., None] * (drawn - window) + lightened
    changed = pixels.copy()
    changed[low[0] : high[0], low[1] : high[1]] = np.clip(np.rint(painted), 0, 255).astype(np.uint8)
    return changed


def _fit_depth(darkness: Array, taken: Array, where: Mask, otherwise: Array) -> Array:
    """The grey levels (3,) with which a whole tube of that `darkness` (rows, columns) takes as much in all as the vein takes
    from its surroundings (rows, columns, 3): so a vein that is narrowed by nothing is painted as dark as it was.
    """
    total = float(darkness[where].sum())
    return np.maximum(taken[where].sum(axis=0) / total, 0) if total > 5 else otherwise


def _depth_beneath(window: Array, on_artery: Mask, from_vein: Array, darkness: Array) -> Array:
    """The grey levels (3,) that the vein takes from the artery above it: how much darker the artery is on the vein, whose
    `darkness` (rows, columns) that of a whole tube is, than beside it. `from_vein` in vein widths.
    """
    on, beside = (on_artery & (low <= from_vein) & (from_vein < high) for low, high in ((0, 0.35), (0.9, 2.0)))
    if min(on.sum(), beside.sum()) < 5:
        return np.zeros(window.shape[2])
    return np.maximum(window[beside].mean(axis=0) - window[on].mean(axis=0), 0) / max(float(darkness[on].mean()), 0.2)


def _erased(window: Array, hole: Mask, off_artery: Mask, vein: float, rng: np.random.Generator) -> Array:
    """The window (rows, columns, 3) with the hole filled from its surroundings, and with their grain.

    The hole is the whole vein, as far as the window shows it: where it ended, the vein's colour would run into it.
    """
    small = min(1.0, 8.0 / vein)  # inpainting uses only a few pixels around a hole
    size = (max(8, round(window.shape[1] * small)), max(8, round(window.shape[0] * small)))
    # the artery's colour must not run into the hole: both are filled, and the artery comes back on top
    covered = (hole | ~off_artery).astype(np.uint8)
    little = cv2.resize(window.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    mask = (cv2.resize(covered.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.02).astype(np.uint8)
    filled = cv2.inpaint(np.clip(little, 0, 255).astype(np.uint8), mask, 4, cv2.INPAINT_TELEA).astype(np.float32)
    filled = cv2.GaussianBlur(np.where(mask[..., None] > 0, filled, little), (0, 0), 1.2)
    smooth = cv2.resize(filled, window.shape[1::-1], interpolation=cv2.INTER_CUBIC).astype(float)
    blurred = gaussian_filter(window, (0.25 * vein, 0.25 * vein, 0))
    from_hole = distance_transform_edt(covered == 0)
    surroundings = (from_hole > 0.3 * vein) & (from_hole < 2.5 * vein)
    return smooth + _grain_like(window - blurred, surroundings, rng)


def _grain_like(residue: Array, where: Mask, rng: np.random.Generator) -> Array:
    """Random grain (rows, columns, 3) with the deviation, channel correlation and fineness that `residue` has `where`."""
    if where.sum() < 30:
        return np.zeros_like(residue)
    values = residue[where]
    values = np.clip(values, *np.percentile(values, [2, 98], axis=0))
    mixing = np.linalg.cholesky(np.cov(values.T) + 1e-3 * np.eye(residue.shape[2]))
    pairs = where & np.roll(where, 1, axis=1)
    correlation = np.corrcoef(residue[pairs][:, 1], np.roll(residue, 1, axis=1)[pairs][:, 1])[0, 1]
    softness = np.sqrt(-1 / (4 * np.log(np.clip(correlation, 0.02, 0.97))))
    noise = gaussian_filter(rng.standard_normal(residue.shape), (softness, softness, 0))
    return (noise / noise.std(axis=(0, 1))) @ mixing.T


def _measure_vein(
    window: Array, line: Array, at: Array, wall: float, vein: float, off_artery: Mask
) -> tuple[Array, Tube]:
    """The vein's line (n, 2) moved to where the window is dark, and how the vein looks where it is undisturbed."""
    from_crossing = _distance_along(line, at)
    run = np.gradient(line, axis=0)
    run /= np.hypot(*run.T)[:, None]
    normal = np.column_stack([-run[:, 1], run[:, 0]])
    across = np.linspace(-1.6, 1.6, 65) * vein
    places = (line[:, None] + across[None, :, None] * normal[:, None]).astype(np.float32)
    rays = cv2.remap(
        window.astype(np.float32), places[..., 1], places[..., 0], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    known = cv2.remap(off_artery.astype(np.float32), places[..., 1], places[..., 0], cv2.INTER_LINEAR) > 0.99
    green, middle = rays[..., 1], np.full(len(line), np.nan)
    step = max(1, round(0.5 * vein / np.median(np.hypot(*np.diff(line, axis=0).T))))
    for k in range(0, len(line), max(1, step // 2)):
        near = slice(max(0, k - step), k + step + 1)
        if known[near].mean() > 0.97:
            middle[k] = _fit_tube(across, green[near].mean(axis=0)[:, None], vein).middle
    found = np.flatnonzero(np.isfinite(middle) & (np.abs(middle) < 0.6 * vein))
    shift = np.zeros(len(line))
    if len(found) > 2:
        curve = np.polynomial.Polynomial.fit(from_crossing[found], middle[found], min(4, len(found) - 1))
        low, high = from_crossing[found].min(), from_crossing[found].max()
        shift = np.clip(curve(np.clip(from_crossing, low, high)), -0.5 * vein, 0.5 * vein)
    moved = line + shift[:, None] * normal
    beyond = np.abs(from_crossing) - wall
    reference = (beyond > REFERENCE[0] * vein) & (beyond < REFERENCE[1] * vein) & known.all(axis=1)
    chosen = reference if reference.sum() > 3 else known.mean(axis=1) >= known.mean(axis=1).max()
    centred = [
        [np.interp(across + s, across, ray[:, c]) for ray, s in zip(rays[chosen], shift[chosen], strict=True)]
        for c in range(3)
    ]
    return moved, _fit_tube(across, np.column_stack([np.median(channel, axis=0) for channel in centred]), vein)


def _fit_tube(across: Array, level: Array, vein: float) -> Tube:
    """The tube on a sloping background that fits the grey levels (samples, channels) best; all channels share its width
    and middle.
    """

    def linear_parts(shape: Array) -> tuple[Array, Array]:
        """The basis (samples, 3) of constant, slope and tube, and its best weights (3, channels)."""
        tube = Tube(shape[0], shape[1], np.zeros(1))
        basis = np.column_stack([np.ones_like(across), across / vein, -tube.darkness(across - shape[2])])
        return basis, np.asarray(np.linalg.lstsq(basis, level, rcond=None)[0], float)

    def residual(shape: Array) -> Array:
        basis, weights = linear_parts(shape)
        return (basis @ weights - level).ravel()

    start = np.array([0.45 * vein, 0.2 * vein, 0.0])
    bounds = np.array([[0.2, 0.05, -0.6], [0.9, 0.45, 0.6]]) * vein
    best = least_squares(residual, start, bounds=bounds, xtol=1e-4, ftol=1e-4).x
    depth = np.atleast_1d(linear_parts(best)[1][2])
    return Tube(float(best[0]), float(best[1]), np.maximum(depth, 0), float(best[2]))


def _line_in_window(line: Centreline, origin: NDArray[np.int64], width: float) -> Array:
    """A centreline (n, 2) in the window's pixels, smooth, in steps of a thirtieth of the vessel's width."""
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line.points, axis=0).T))])
    at = np.arange(0, length[-1], max(0.25, width / 30))
    points = np.column_stack([np.interp(at, length, line.points[:, k]) for k in (0, 1)]) - origin
    return gaussian_filter1d(points, 0.5 * width / (at[1] - at[0]), axis=0, mode="nearest")


def _distance_along(line: Array, at: Array) -> Array:
    """Distance (n,) of each point of a line (n, 2), along it, from its point nearest to `at`; negative before it."""
    way = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    return way - way[np.hypot(*(line - at).T).argmin()]


def _nearest_point(line: Array, shape: tuple[int, int]) -> tuple[Array, NDArray[np.int64], Array]:
    """For each pixel: its distance from the line, the index of the line's nearest point, and its side (-1 or 1)."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    pixels = np.column_stack([rows.ravel(), columns.ravel()]).astype(float)
    distance, nearest = KDTree(line).query(pixels)
    run = np.gradient(line, axis=0)[nearest]
    offset = pixels - line[nearest]
    side = np.where(run[:, 0] * offset[:, 1] - run[:, 1] * offset[:, 0] >= 0, 1.0, -1.0)
    return distance.reshape(shape), nearest.reshape(shape), side.reshape(shape)
