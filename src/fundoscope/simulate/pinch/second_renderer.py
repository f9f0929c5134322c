"""A second way to put nicking into a photograph, written apart from `fundoscope.simulate.pinch`, for testing only.

Where that one warps, this one paints: the vein beside the artery is taken out (inpainted, with grain from beside it) and
drawn anew as a blurred dark tube, narrower and fainter, with the colour, width and blur of the vein further away. What is
learnt on the one and holds on the other is the lesion. Nothing is ever trained on these.
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

STRAIGHT = 0.4  # vein widths beyond the artery's wall that the narrowing is full,
GONE = 1.8  # and where it has gone
REFERENCE = (2.0, 4.0)  # vein widths beyond the wall where the tube's look is measured
REACH = 4.6  # vein widths around the crossing that are looked at
ERASED = 0.95  # vein widths to each side


@dataclass(frozen=True)
class Tube:
    """A vein's look across: half its width and its blur in pixels, what it takes from each channel, its middle."""

    half: float
    blur: float
    depth: Array
    middle: float = 0.0

    def at(self, beside: Array, share: Array | float = 1.0) -> Array:
        """What a tube of `share` of the width takes, as a share of its depth, at pixels `beside` its middle."""
        soft = self.blur * np.sqrt(2)
        half = self.half * np.asarray(share)
        return (erf((half - beside) / soft) + erf((half + beside) / soft)) / 2


def redraw(
    pixels: NDArray[np.uint8],
    crossing: MeasuredCrossing,
    narrowing: tuple[float, float],
    taper: float,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """The photograph with the vein of a crossing narrowed by `narrowing` on the side before it and the side after.

    The seen width, calibre times contrast, is 1 - narrowing of what it was; `taper` is calibre's share (exponent).
    """
    artery, vein = (2 * float(np.median(strand.radius)) for strand in (crossing.first, crossing.second))
    low, high = _box(crossing.at, REACH * vein + artery, pixels.shape)
    window = pixels[low[0] : high[0], low[1] : high[1]].astype(float)
    line = _line(crossing.second, low, vein)
    beside_artery = _distance(_line(crossing.first, low, artery), window.shape[:2])[0]
    wall = artery / 2 / max(np.sin(np.radians(crossing.angle)), 0.3)
    line, tube = _measured(window, line, crossing.at - low, wall, vein, beside_artery > 0.7 * artery)
    away, nearest, sign = _distance(line, window.shape[:2])
    along = _along(line, crossing.at - low)[nearest]
    beyond = np.abs(along) - wall
    painted = _painted(window, tube, sign * away, along, beyond, narrowing, taper, vein, beside_artery, artery, rng)
    out = pixels.copy()
    out[low[0] : high[0], low[1] : high[1]] = np.clip(np.rint(painted), 0, 255).astype(np.uint8)
    return out


def _painted(
    window: Array, tube: Tube, beside: Array, along: Array, beyond: Array, narrowing: tuple[float, float],
    taper: float, vein: float, beside_artery: Array, artery: float, rng: np.random.Generator,
) -> Array:  # fmt: skip
    fall = np.clip((beyond / vein - STRAIGHT) / (GONE - STRAIGHT), 0, 1)
    depth = np.where(along < 0, narrowing[0], narrowing[1]) * (0.5 + 0.5 * np.cos(np.pi * fall))
    seen = 1 - depth
    bare = _erased(
        window,
        (np.abs(beside) < ERASED * vein) & (beyond < (GONE + 0.3) * vein),
        beside_artery > 0.62 * artery,
        vein,
        rng,
    )
    dark = tube.at(beside, seen**taper) * seen ** (1 - taper)
    drawn = bare - dark[..., None] * tube.depth
    touched = np.clip(depth / 0.06, 0, 1) * np.clip((1.1 - np.abs(beside) / vein) / 0.25, 0, 1)
    touched *= np.clip((beside_artery - 0.5 * artery) / max(1.0, 0.15 * artery), 0, 1)  # the artery lies on top
    return window + touched[..., None] * (drawn - window)


def _erased(
    window: Array, hole: NDArray[np.bool_], off_artery: NDArray[np.bool_], vein: float, rng: np.random.Generator
) -> Array:
    """The window with the hole filled from its banks, and with the banks' own grain."""
    small = min(1.0, 8.0 / vein)  # inpainting looks a few pixels far
    size = (max(8, round(window.shape[1] * small)), max(8, round(window.shape[0] * small)))
    # the artery must not bleed into the hole: both are filled, and the artery comes back on top
    covered = (hole | ~off_artery).astype(np.uint8)
    little = cv2.resize(window.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    mask = (cv2.resize(covered.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.02).astype(np.uint8)
    filled = cv2.inpaint(np.clip(little, 0, 255).astype(np.uint8), mask, 4, cv2.INPAINT_TELEA).astype(np.float32)
    filled = cv2.GaussianBlur(np.where(mask[..., None] > 0, filled, little), (0, 0), 1.2)
    smooth = cv2.resize(filled, window.shape[1::-1], interpolation=cv2.INTER_CUBIC).astype(float)
    rough = gaussian_filter(window, (0.25 * vein, 0.25 * vein, 0))
    bank = distance_transform_edt(covered == 0)
    from_bank = (bank > 0.3 * vein) & (bank < 2.5 * vein)
    grain = _grain(window - rough, from_bank, rng)
    return smooth + grain


def _grain(residue: Array, bank: NDArray[np.bool_], rng: np.random.Generator) -> Array:
    """A random field with the deviation, the correlation between channels and the fineness that the banks show."""
    if bank.sum() < 30:
        return np.zeros_like(residue)
    values = residue[bank]
    values = np.clip(values, *np.percentile(values, [2, 98], axis=0))
    mixing = np.linalg.cholesky(np.cov(values.T) + 1e-3 * np.eye(residue.shape[2]))
    beside = bank & np.roll(bank, 1, axis=1)
    likeness = np.corrcoef(residue[beside][:, 1], np.roll(residue, 1, axis=1)[beside][:, 1])[0, 1]
    softness = np.sqrt(-1 / (4 * np.log(np.clip(likeness, 0.02, 0.97))))
    noise = gaussian_filter(rng.standard_normal(residue.shape), (softness, softness, 0))
    return (noise / noise.std(axis=(0, 1))) @ mixing.T


def _measured(
    window: Array, line: Array, at: Array, wall: float, vein: float, off_artery: NDArray[np.bool_]
) -> tuple[Array, Tube]:
    """The vein's middle, moved to where it is dark, and its look where it is undisturbed."""
    from_crossing = _along(line, at)
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
            middle[k] = _fitted(across, green[near].mean(axis=0)[:, None], vein).middle
    found = np.flatnonzero(np.isfinite(middle) & (np.abs(middle) < 0.6 * vein))
    shift = np.zeros(len(line))
    if len(found) > 2:
        order = np.polynomial.Polynomial.fit(from_crossing[found], middle[found], min(4, len(found) - 1))
        low, high = from_crossing[found].min(), from_crossing[found].max()
        shift = np.clip(order(np.clip(from_crossing, low, high)), -0.5 * vein, 0.5 * vein)
    moved = line + shift[:, None] * normal
    beyond = np.abs(from_crossing) - wall
    reference = (beyond > REFERENCE[0] * vein) & (beyond < REFERENCE[1] * vein) & known.all(axis=1)
    chosen = reference if reference.sum() > 3 else known.mean(axis=1) >= known.mean(axis=1).max()
    level = [
        np.median(
            [np.interp(across + s, across, ray[:, c]) for ray, s in zip(rays[chosen], shift[chosen], strict=True)],
            axis=0,
        )
        for c in range(3)
    ]
    return moved, _fitted(across, np.column_stack(level), vein)


def _fitted(across: Array, level: Array, vein: float) -> Tube:
    """The tube on a sloping ground that fits `level` (samples, channels) best; all channels share width and place."""

    def parts(shape: Array) -> tuple[Array, Array]:
        tube = Tube(shape[0], shape[1], np.zeros(1))
        basis = np.column_stack([np.ones_like(across), across / vein, -tube.at(across - shape[2])])
        return basis, np.asarray(np.linalg.lstsq(basis, level, rcond=None)[0], float)

    def rest(shape: Array) -> Array:
        basis, weights = parts(shape)
        return (basis @ weights - level).ravel()

    start = np.array([0.45 * vein, 0.2 * vein, 0.0])
    bounds = np.array([[0.2, 0.05, -0.6], [0.9, 0.45, 0.6]]) * vein
    best = least_squares(rest, start, bounds=bounds, xtol=1e-4, ftol=1e-4).x
    depth = np.atleast_1d(parts(best)[1][2])
    return Tube(float(best[0]), float(best[1]), np.maximum(depth, 0), float(best[2]))


def _box(at: Array, reach: float, shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    low = np.maximum(np.floor(at - reach), 0).astype(int)
    return low, np.minimum(np.ceil(at + reach) + 1, shape[:2]).astype(int)


def _line(strand: Centreline, origin: NDArray[np.int64], width: float) -> Array:
    """The strand's centreline in the window's pixels, smooth, by steps of a thirtieth of its width."""
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(strand.points, axis=0).T))])
    at = np.arange(0, length[-1], max(0.25, width / 30))
    line = np.column_stack([np.interp(at, length, strand.points[:, k]) for k in (0, 1)]) - origin
    return gaussian_filter1d(line, 0.5 * width / (at[1] - at[0]), axis=0, mode="nearest")


def _along(line: Array, at: Array) -> Array:
    way = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    return way - way[np.hypot(*(line - at).T).argmin()]


def _distance(line: Array, shape: tuple[int, int]) -> tuple[Array, NDArray[np.int64], Array]:
    """Of each pixel: how far the line is, which of its points is nearest, and on which side (-1, 1) it lies."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    pixels = np.column_stack([rows.ravel(), columns.ravel()]).astype(float)
    away, nearest = KDTree(line).query(pixels)
    run = np.gradient(line, axis=0)[nearest]
    offset = pixels - line[nearest]
    sign = np.where(run[:, 0] * offset[:, 1] - run[:, 1] * offset[:, 0] >= 0, 1.0, -1.0)
    return away.reshape(shape), nearest.reshape(shape), sign.reshape(shape)
