"""What can be told of a photograph without a network: some forty classical measurements, in units of its field.

The field of view is brought to a square of 256 pixels first, so that nothing below knows the camera's pixel count.
Contrasts are ratios to the local background, so that neither exposure nor a colour cast changes them much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging.field import Field, shrunk
from fundoscope.imaging.read import Pixels

SIDE = 256  # pixels of the square; a vein of an infant's photograph is then about two pixels wide
_RIM = 0.07  # share of the radius left out at the rim, where the camera, not the eye, makes the pattern
_FLOOR = 1e-3  # contrast below which nothing is told apart; keeps logarithms finite
_DIM = 6.0  # grey levels added to the background, so that black noise does not count as contrast

Map = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class View:
    """The field as a square: `pixels` (256, 256, 3) uint8 RGB, and `inside`, True where the eye is seen."""

    pixels: Pixels
    inside: NDArray[np.bool_]


def view(pixels: Pixels, field: Field) -> View:
    """The field of a photograph (rows, columns, 3) as a square; where no rim was found, the whole photograph."""
    rows, columns = field.shape
    half = field.radius if field.found else max(rows, columns) / 2
    top, left = field.row + 0.5 - half, field.column + 0.5 - half
    r0, r1 = max(0, round(top)), min(rows, round(top + 2 * half))
    c0, c1 = max(0, round(left)), min(columns, round(left + 2 * half))
    scale = SIDE / (2 * half)
    y0, x0 = round((r0 - top) * scale), round((c0 - left) * scale)
    y1, x1 = min(SIDE, max(y0 + 1, round((r1 - top) * scale))), min(SIDE, max(x0 + 1, round((c1 - left) * scale)))
    square = np.zeros((SIDE, SIDE, 3), np.uint8)
    square[y0:y1, x0:x1] = shrunk(pixels[r0:r1, c0:c1], (y1 - y0, x1 - x0))
    inside = np.zeros((SIDE, SIDE), np.bool_)
    inside[y0 + 3 : y1 - 3, x0 + 3 : x1 - 3] = True
    if field.found:
        inside &= _DISC
    return View(square, inside)


def measure(pixels: Pixels, field: Field) -> dict[str, float]:
    """All measurements of an RGB photograph (rows, columns, 3), uint8, by name; every value is finite."""
    seen = view(pixels, field)
    weight = seen.inside.astype(np.float32)
    red, green, blue = (_contrast(channel, weight) for channel in cv2.split(seen.pixels))
    levels = _pyramid(green, weight)
    return {
        **_field_measures(field),
        **_light(seen),
        **_colours(seen),
        **_lines(levels),
        **_edges(levels[0]),
        **_bands(levels),
        **_channels(red, green, blue, weight),
    }


def _disc(side: int) -> NDArray[np.bool_]:
    at = np.arange(side) + 0.5 - side / 2
    return at[:, None] ** 2 + at[None, :] ** 2 <= ((1 - _RIM) * side / 2) ** 2


_DISC = _disc(SIDE)


def _contrast(channel: NDArray[np.uint8], weight: Map) -> Map:
    """channel / background - 1, zero outside; the background is a mean over about a sixth of the field."""
    small = cv2.resize(channel * weight, (64, 64), interpolation=cv2.INTER_AREA)
    share = cv2.resize(weight, (64, 64), interpolation=cv2.INTER_AREA)
    for _ in range(2):
        small, share = cv2.blur(small, (9, 9)), cv2.blur(share, (9, 9))
    background = small / np.maximum(share, 0.02)
    background = cv2.resize(background, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    return (channel - background) / (background + _DIM) * weight


@dataclass(frozen=True, slots=True)
class _Level:
    """One level of the pyramid: contrast smoothed with sigma 1, and the pixels at which to look."""

    smooth: Map
    inside: NDArray[np.bool_]
    raw: Map


def _pyramid(green: Map, weight: Map) -> list[_Level]:
    """Four levels, 256 to 32 pixels; the pixels looked at keep clear of the border of what is seen."""
    levels = []
    kernel = np.ones((5, 5), np.uint8)
    for _ in range(4):
        inside = cv2.erode((weight > 0.99).astype(np.uint8), kernel, borderValue=0).astype(bool)
        levels.append(_Level(cv2.GaussianBlur(green, (7, 7), 1.0), inside, green))
        size = (green.shape[1] // 2, green.shape[0] // 2)
        green = cv2.resize(green, size, interpolation=cv2.INTER_AREA)
        weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    return levels


def _field_measures(field: Field) -> dict[str, float]:
    return {
        "found": float(field.found),
        "lit": field.lit,
        "seen": field.seen,
        "diameter_px": 2 * field.radius,
    }


def _light(seen: View) -> dict[str, float]:
    """Grey levels, 0 to 255: brightness is the brightest channel's median; saturated and dark are shares."""
    mask = seen.inside.astype(np.uint8)
    count = int(cv2.countNonZero(mask))
    if count == 0:
        return {"brightness": 0.0, "bright_end": 0.0, "saturated": 0.0, "dark": 1.0, "entropy": 0.0}
    red, green, blue = cv2.split(seen.pixels)
    top = cv2.max(cv2.max(red, green), blue)
    share = np.cumsum(cv2.calcHist([top], [0], mask, [256], [0, 256]).ravel()) / count
    greens = cv2.calcHist([green], [0], mask, [256], [0, 256]).ravel() / count
    bins = greens.reshape(32, 8).sum(axis=1)
    median = int(np.searchsorted(share, 0.5))
    return {
        "brightness": float(median),
        "bright_end": float(np.searchsorted(share, 0.95)),
        "saturated": float(greens[250:].sum()),
        "dark": float(share[max(0, int(0.25 * median) - 1)]),
        "entropy": float(-np.sum(bins * np.log2(bins + 1e-12))),
    }


def _colours(seen: View) -> dict[str, float]:
    """Chromaticity r, g, b (shares of their sum) of 32 x 32 patches: means, spread, and order of the channels."""
    weight = cv2.resize(seen.inside.astype(np.float32), (32, 32), interpolation=cv2.INTER_AREA) > 0.5
    patches = cv2.resize(seen.pixels, (32, 32), interpolation=cv2.INTER_AREA)[weight].astype(np.float64)
    patches = patches[patches.sum(axis=1) > 45]
    if len(patches) < 8:
        return dict.fromkeys(("red_green", "green_blue", "ordered", "hue_long", "hue_short", "grey"), 0.0)
    share = patches / patches.sum(axis=1, keepdims=True)
    spread = np.linalg.eigvalsh(np.cov(share[:, 0] - share[:, 1], share[:, 1] - share[:, 2]))
    ordered = (patches[:, 0] >= patches[:, 1] * 0.98) & (patches[:, 1] >= patches[:, 2] * 0.98)
    return {
        "red_green": float(np.mean(share[:, 0] - share[:, 1])),
        "green_blue": float(np.mean(share[:, 1] - share[:, 2])),
        "ordered": float(np.mean(ordered)),
        "hue_short": math.sqrt(max(0.0, float(spread[0]))),
        "hue_long": math.sqrt(max(0.0, float(spread[1]))),
        "grey": float(np.mean(share.max(axis=1) - share.min(axis=1) < 0.03)),
    }


def _lines(levels: list[_Level]) -> dict[str, float]:
    """Second-derivative line responses (Frangi 1998) at sigma 1, 2 and 4 pixels: strength, dark against bright."""
    out: dict[str, float] = {}
    for i, level in enumerate(levels[:3]):
        step = 2 if i == 0 else 1
        dark, bright = (_sorted(part, level.inside, step) for part in _ridges(level.smooth))
        for name, values in (("dark", dark), ("bright", bright)):
            out[f"{name}{i}_99"] = _log(_at(values, 0.99))
            out[f"{name}{i}_95"] = _log(_at(values, 0.95))
        out[f"dark{i}_70"] = _log(_at(dark, 0.70))
        out[f"asymmetry{i}"] = out[f"dark{i}_99"] - out[f"bright{i}_99"]
    return out


def _ridges(smooth: Map) -> tuple[Map, Map]:
    """Response to dark and to bright lines: the larger principal curvature less the other's size, not below zero."""
    xx = cv2.Sobel(smooth, cv2.CV_32F, 2, 0, scale=0.25)
    yy = cv2.Sobel(smooth, cv2.CV_32F, 0, 2, scale=0.25)
    xy = cv2.Sobel(smooth, cv2.CV_32F, 1, 1, scale=0.25)
    half = (xx + yy) * 0.5
    root = cv2.magnitude((xx - yy) * 0.5, xy)
    high, low = half + root, half - root
    dark = cv2.max(high - cv2.absdiff(low, 0.0), 0.0)
    bright = cv2.max(-low - cv2.absdiff(high, 0.0), 0.0)
    return dark, bright


def _edges(level: _Level) -> dict[str, float]:
    """Steepness of the contrast a pixel at sigma 1, and how well neighbouring directions agree (0 to 1)."""
    dx = cv2.Sobel(level.smooth, cv2.CV_32F, 1, 0, scale=0.125)
    dy = cv2.Sobel(level.smooth, cv2.CV_32F, 0, 1, scale=0.125)
    steep = _sorted(cv2.magnitude(dx, dy), level.inside, 2)
    return {
        "steep_50": _log(_at(steep, 0.50)),
        "steep_90": _log(_at(steep, 0.90)),
        "steep_99": _log(_at(steep, 0.99)),
        "steep_999": _log(_at(steep, 0.999)),
        "flat": float(np.searchsorted(steep, 5e-4) / max(1, len(steep))),
        "coherence": _coherence(dx, dy, level.inside),
    }


def _coherence(dx: Map, dy: Map, inside: NDArray[np.bool_]) -> float:
    """Structure tensor's (l1 - l2) / (l1 + l2) over 1/28 of the field, weighted with its energy (Bigun 1987)."""
    half = (SIDE // 2, SIDE // 2)
    parts = (dx * dx, dy * dy, dx * dy)
    xx, yy, xy = (cv2.blur(cv2.resize(part, half, interpolation=cv2.INTER_AREA), (5, 5)) for part in parts)
    keep = inside[::2, ::2].astype(np.float32)
    oriented = float(np.sum(cv2.magnitude(xx - yy, 2 * xy) * keep))
    energy = float(np.sum((xx + yy) * keep))
    return oriented / energy if energy > 0 else 0.0


def _bands(levels: list[_Level]) -> dict[str, float]:
    """Contrast by octave, as log deviations: `band0` the finest; and how heavy the tails of each are."""
    out: dict[str, float] = {}
    for i, level in enumerate(levels):
        band = (level.raw - level.smooth)[level.inside]
        power = float(np.mean(band * band)) if band.size else 0.0
        size = float(np.mean(np.abs(band))) if band.size else 0.0
        out[f"band{i}"] = _log(math.sqrt(power))
        out[f"tails{i}"] = math.log((math.sqrt(power) + 1e-4) / (size + 1e-4))
    out["slope01"] = out["band1"] - out["band0"]
    out["slope12"] = out["band2"] - out["band1"]
    out["slope23"] = out["band3"] - out["band2"]
    return out


def _channels(red: Map, green: Map, blue: Map, weight: Map) -> dict[str, float]:
    """How far red and blue follow the green detail: blood is dark in green and hardly so in red."""
    out: dict[str, float] = {}
    size = (SIDE // 2, SIDE // 2)
    inside = cv2.erode((weight[::2, ::2] > 0).astype(np.uint8), np.ones((7, 7), np.uint8), borderValue=0) > 0
    fine = []
    for channel in (red, green, blue):
        half = cv2.resize(channel, size, interpolation=cv2.INTER_AREA)
        fine.append((cv2.GaussianBlur(half, (5, 5), 1.0) - cv2.GaussianBlur(half, (13, 13), 3.0))[inside])
    r, g, b = fine
    if g.size == 0:
        return dict.fromkeys(("red_follows", "red_agrees", "blue_follows", "blue_agrees"), 0.0)
    noise = 1e-6
    rr, gg, bb = (float(np.dot(x, x)) / x.size + noise for x in (r, g, b))
    rg, bg = float(np.dot(r, g)) / g.size, float(np.dot(b, g)) / g.size
    out["red_follows"], out["red_agrees"] = rg / gg, rg / math.sqrt(rr * gg)
    out["blue_follows"], out["blue_agrees"] = bg / gg, bg / math.sqrt(bb * gg)
    return out


def _sorted(values: Map, inside: NDArray[np.bool_], step: int) -> Map:
    return np.sort(values[::step, ::step][inside[::step, ::step]])


def _at(ordered: Map, share: float) -> float:
    return float(ordered[min(len(ordered) - 1, int(share * len(ordered)))]) if len(ordered) else 0.0


def _log(value: float) -> float:
    return math.log(value + _FLOOR)
