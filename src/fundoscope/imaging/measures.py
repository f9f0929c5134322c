"""Some fifty classical measurements of a photograph, from which its quality is judged.

The field of view is brought to a square of 256 pixels first, so that nothing below knows the camera's
pixel count. Contrasts are ratios to the local background, so that neither exposure nor a colour cast
changes them much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging.prepared import JUDGED_SIDE, Prepared, square_extent

SIDE = JUDGED_SIDE  # pixels of the square; a vein of an infant's photograph is then about two pixels wide
_RIM = 0.07  # share of the radius left out at the rim, where the camera, not the eye, makes the pattern
_FLOOR = 1e-3  # contrast below which nothing is told apart; keeps logarithms finite
_DIM = 6.0  # grey levels added to the background, so that black noise does not count as contrast

Map = NDArray[Any]  # float32; OpenCV does not tell type checkers
Plane = NDArray[Any]  # uint8


@dataclass(frozen=True, slots=True)
class FieldSquare:
    """The field as a square of 256 pixels: colours, the brightest of them, and where the eye is seen."""

    red: Plane
    green: Plane
    blue: Plane
    light: Plane
    inside: NDArray[np.bool_]


def field_square(photograph: Prepared) -> FieldSquare:
    """Return the colours of a photograph's square, and where the eye is seen in it, a little away from every edge."""
    red, green, blue = cv2.split(photograph.square(SIDE))
    light = cv2.max(cv2.max(red, green), blue)
    y0, y1, x0, x1 = square_extent(photograph.field, SIDE)
    if y1 <= y0 or x1 <= x0:
        y0, y1, x0, x1 = 0, SIDE, 0, SIDE
    if photograph.field.found:
        (y0, y1), (x0, x1) = _uncut(light, (y0, y1), (x0, x1))
    inside = np.zeros((SIDE, SIDE), np.bool_)
    inside[y0 + 3 : y1 - 3, x0 + 3 : x1 - 3] = True
    if photograph.field.found:
        inside &= _DISC
    return FieldSquare(red, green, blue, light, inside)


def _uncut(light: Plane, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """The ranges of rows and columns that hold light: bars that cut the field are no part of the eye."""
    lines = light.max(axis=1), light.max(axis=0)  # ten times as fast as OpenCV's reduce
    limit = max(12.0, 0.15 * float(lines[0].max()))
    ranges = []
    for (first, last), line in zip((rows, columns), lines, strict=True):
        lit = np.flatnonzero(line[first:last] > limit)
        ranges.append((first + int(lit[0]), first + int(lit[-1]) + 1) if len(lit) else (first, last))
    return tuple(ranges)


def measure(photograph: Prepared) -> dict[str, float]:
    """Return all measurements of a photograph by name; every value is finite."""
    field, seen = photograph.field, field_square(photograph)
    weight = seen.inside.astype(np.float32)
    levels = _pyramid(_contrast(seen.green, weight), weight)
    return {
        "found": float(field.found),
        "lit": field.lit_share,
        "seen": field.visible_share,
        "diameter_px": 2 * field.radius,
        **_light(seen),
        **_colours(seen),
        **_lines(levels),
        **_edges(levels),
        **_bands(levels),
        **_spots(levels),
        **_channels(seen, levels[1], weight),
    }


def _disc(side: int) -> NDArray[np.bool_]:
    at = np.arange(side) + 0.5 - side / 2
    return at[:, None] ** 2 + at[None, :] ** 2 <= ((1 - _RIM) * side / 2) ** 2


_DISC = _disc(SIDE)


def _contrast(channel: Plane, weight: Map) -> Map:
    """The channel over its background (a mean over about a sixth of the field) less 1; zero outside."""
    side = channel.shape[0]
    inner = cv2.multiply(channel, weight, dtype=cv2.CV_32F)
    small, share = (cv2.resize(part, (64, 64), interpolation=cv2.INTER_AREA) for part in (inner, weight))
    for _ in range(2):
        small, share = cv2.blur(small, (9, 9)), cv2.blur(share, (9, 9))
    background = cv2.resize(small / np.maximum(share, 0.02), (side, side), interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(cv2.divide(cv2.subtract(inner, background), background + _DIM), weight)


@dataclass(frozen=True, slots=True)
class _Level:
    """A level of the pyramid: contrast, the same smoothed with sigma 1, and where to look (flat indices)."""

    raw: Map
    smooth: Map
    at: NDArray[np.intp]

    def ordered(self, values: Map) -> Map:
        """The values where to look, sorted."""
        return np.sort(values.ravel().take(self.at))


def _pyramid(green: Map, weight: Map) -> list[_Level]:
    """Four levels, 256 to 32 pixels; the pixels looked at (one in six, two, one) keep off the border."""
    levels = []
    kernel = np.ones((5, 5), np.uint8)
    for step in (6, 2, 1, 1):
        clear = cv2.erode((weight > 0.99).astype(np.uint8), kernel, borderValue=0)
        at = np.flatnonzero(clear.view(np.bool_))[::step]  # of booleans in half the time
        levels.append(_Level(green, cv2.GaussianBlur(green, (5, 5), 1.0), at))
        size = (green.shape[1] // 2, green.shape[0] // 2)
        green, weight = (cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in (green, weight))
    return levels


def _light(seen: FieldSquare) -> dict[str, float]:
    """Grey levels, 0 to 255: brightness is the brightest channel's median; saturated and dark are shares."""
    mask = seen.inside.view(np.uint8)
    share = np.cumsum(_histogram(seen.light, mask))
    greens = _histogram(seen.green, mask)
    bins = greens.reshape(32, 8).sum(axis=1)
    median = int(np.searchsorted(share, 0.5)) if seen.inside.any() else 0
    return {
        "brightness": float(median),
        "bright_end": float(np.searchsorted(share, 0.95)),
        "saturated": float(greens[250:].sum()),
        "dark": float(share[max(0, median // 4 - 1)]),
        "entropy": float(-np.sum(bins * np.log2(bins + 1e-12))),
    }


def _histogram(levels: Plane, mask: Plane) -> NDArray[np.float64]:
    counts = cv2.calcHist([levels], [0], mask, [256], [0, 256]).ravel().astype(float)
    return counts / max(1.0, counts.sum())


def _colours(seen: FieldSquare) -> dict[str, float]:
    """Chromaticities of 32 x 32 patches, as shares of r + g + b: means, spread, order of the channels."""
    weight = cv2.resize(seen.inside.view(np.uint8) * 255, (32, 32), interpolation=cv2.INTER_AREA) > 127
    planes = (seen.red, seen.green, seen.blue)
    r, g, b = (cv2.resize(p, (32, 32), interpolation=cv2.INTER_AREA)[weight].astype(np.float32) for p in planes)
    lit = (r + g + b) > 45
    r, g, b = r[lit], g[lit], b[lit]
    if len(r) < 8:
        return dict.fromkeys(("red_green", "green_blue", "ordered", "hue_short", "hue_long", "grey"), 0.0)
    total = r + g + b
    x, y = (r - g) / total, (g - b) / total
    short, long = _axes(x - x.mean(), y - y.mean())
    return {
        "red_green": float(x.mean()),
        "green_blue": float(y.mean()),
        "ordered": float(np.mean((r >= 0.98 * g) & (g >= 0.98 * b))),
        "hue_short": short,
        "hue_long": long,
        "grey": float(np.mean(np.maximum(np.abs(x), np.abs(y)) < 0.03)),
    }


def _axes(x: Map, y: Map) -> tuple[float, float]:
    """Deviations of centred points along the short and the long axis of their cloud (closed form, 2 x 2)."""
    xx, yy, xy = (float(np.dot(a, b)) / len(x) for a, b in ((x, x), (y, y), (x, y)))
    middle, root = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    return math.sqrt(max(0.0, middle - root)), math.sqrt(middle + root)


def _lines(levels: list[_Level]) -> dict[str, float]:
    """Second-derivative line responses (Frangi 1998) at sigma 1, 2 and 4: strength, dark against bright."""
    out: dict[str, float] = {}
    dark_maps = []
    for i, level in enumerate(levels[:3]):
        half, root = _curvature(level.smooth)
        dark_maps.append(cv2.min(half, root))
        h, r = half.ravel().take(level.at), root.ravel().take(level.at)
        dark, bright = np.sort(np.minimum(h, r)), np.sort(np.minimum(-h, r))
        for name, values in (("dark", dark), ("bright", bright)):
            out[f"{name}{i}_99"] = _log(_at(values, 0.99))
            out[f"{name}{i}_95"] = _log(_at(values, 0.95))
        out[f"dark{i}_70"] = _log(_at(dark, 0.70))
        out[f"asymmetry{i}"] = out[f"dark{i}_99"] - out[f"bright{i}_99"]
    return out | _calibre(dark_maps, levels[1].at)


def _calibre(dark: list[Map], at: NDArray[np.intp]) -> dict[str, float]:
    """How wide the strongest dark lines are: responses at sigma 2 against 1, and 4 against 2, at the same places.

    Scale-normalised responses peak where sigma is about a third of a line's width (Lindeberg 1998).
    """
    size = dark[1].shape[::-1]
    fine = cv2.resize(cv2.dilate(dark[0], np.ones((2, 2), np.uint8)), size, interpolation=cv2.INTER_NEAREST)
    coarse = cv2.resize(dark[2], size, interpolation=cv2.INTER_LINEAR)
    fine, middle, coarse = (np.maximum(part.ravel().take(at), 0) for part in (fine, dark[1], coarse))
    out = {}
    for share in (95, 99):
        strong = fine + middle
        strong = strong >= np.sort(strong)[int(share / 100 * (len(strong) - 1))] if len(strong) else strong > 0
        sums = [float(part[strong].sum()) + _FLOOR for part in (fine, middle, coarse)]
        out[f"calibre01_{share}"] = math.log(sums[1] / sums[0])
        out[f"calibre12_{share}"] = math.log(sums[2] / sums[1])
    return out


def _curvature(smooth: Map) -> tuple[Map, Map]:
    """Sum and difference of the principal curvatures, the latter positive.

    A dark line's response, the larger curvature less the other's size, is the lesser of the two; a bright
    line's is the lesser of the difference and the negative sum.
    """
    xx = cv2.Sobel(smooth, cv2.CV_32F, 2, 0, scale=0.25)
    yy = cv2.Sobel(smooth, cv2.CV_32F, 0, 2, scale=0.25)
    xy = cv2.Sobel(smooth, cv2.CV_32F, 1, 1, scale=0.5)
    return cv2.add(xx, yy), cv2.magnitude(cv2.subtract(xx, yy), xy)


def _edges(levels: list[_Level]) -> dict[str, float]:
    """Steepness of the contrast a pixel at sigma 1, and how well neighbouring directions agree (0 to 1)."""
    steep = levels[0].ordered(cv2.magnitude(*_slopes(levels[0].smooth)))
    return {
        "steep_50": _log(_at(steep, 0.50)),
        "steep_90": _log(_at(steep, 0.90)),
        "steep_99": _log(_at(steep, 0.99)),
        "steep_999": _log(_at(steep, 0.999)),
        "flat": float(np.searchsorted(steep, 5e-4) / max(1, len(steep))),
        "coherence": _coherence(*_slopes(levels[1].smooth), levels[1].at),
    }


def _slopes(smooth: Map) -> tuple[Map, Map]:
    """Contrast a pixel along the columns and along the rows."""
    return cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=0.125)


def _coherence(dx: Map, dy: Map, at: NDArray[np.intp]) -> float:
    """Structure tensor's (l1 - l2) / (l1 + l2) over 1/28 of the field, weighted by energy (Bigun 1987)."""
    xx, yy, xy = (cv2.blur(cv2.multiply(a, b), (5, 5)) for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    energy = float(cv2.add(xx, yy).ravel().take(at).sum())
    oriented = float(cv2.magnitude(cv2.subtract(xx, yy), 2 * xy).ravel().take(at).sum())
    return oriented / energy if energy > 0 else 0.0


def _bands(levels: list[_Level]) -> dict[str, float]:
    """Contrast by octave, as log deviations: `band0` the finest; and how heavy the tails of each are."""
    out: dict[str, float] = {}
    for i, level in enumerate(levels):
        band = cv2.subtract(level.raw, level.smooth).ravel().take(level.at)
        deviation = math.sqrt(float(np.dot(band, band)) / max(1, band.size))
        size = float(np.abs(band).sum()) / max(1, band.size)
        out[f"band{i}"] = _log(deviation)
        out[f"tails{i}"] = math.log((deviation + 1e-4) / (size + 1e-4))
    for i in range(3):
        out[f"slope{i}{i + 1}"] = out[f"band{i + 1}"] - out[f"band{i}"]
    return out


def _spots(levels: list[_Level]) -> dict[str, float]:
    """The brightest and the darkest spot against surrounds of 1/14, 1/7 and 1/4 of the field: disc and fovea."""
    out: dict[str, float] = {}
    for i, level in enumerate(levels[1:], start=1):
        ordered = level.ordered(cv2.subtract(level.smooth, cv2.blur(level.smooth, (9, 9))))
        out[f"spot{i}"] = _log(_at(ordered, 0.998))
        out[f"pit{i}"] = _log(-_at(ordered, 0.002))
    return out


def _channels(seen: FieldSquare, green: _Level, weight: Map) -> dict[str, float]:
    """How far red and blue follow the green detail: blood is dark in green and hardly so in red."""
    half = tuple(green.raw.shape)
    share = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
    maps = [_contrast(cv2.resize(c, half, interpolation=cv2.INTER_AREA), share) for c in (seen.red, seen.blue)]
    r, g, b = (_detail(contrast, green.at) for contrast in (maps[0], green.raw, maps[1]))
    noise = 1e-6 * max(1, g.size)
    rr, gg, bb, rg, bg = (float(np.dot(p, q)) for p, q in ((r, r), (g, g), (b, b), (r, g), (b, g)))
    return {
        "red_follows": rg / (gg + noise),
        "red_agrees": rg / math.sqrt((rr + noise) * (gg + noise)),
        "blue_follows": bg / (gg + noise),
        "blue_agrees": bg / math.sqrt((bb + noise) * (gg + noise)),
    }


def _detail(contrast: Map, at: NDArray[np.intp]) -> Map:
    """What is finer than about a fortieth of the field, without the noise of single pixels."""
    fine = cv2.subtract(cv2.GaussianBlur(contrast, (5, 5), 1.0), cv2.blur(contrast, (9, 9)))
    return fine.ravel().take(at)


def _at(ordered: Map, share: float) -> float:
    return float(ordered[min(len(ordered) - 1, int(share * len(ordered)))]) if len(ordered) else 0.0


def _log(value: float) -> float:
    return math.log(max(value, 0.0) + _FLOOR)
