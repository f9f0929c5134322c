"""Calibre: a vessel's width from sub-pixel edges found on the photograph, not on a thresholded map.

Across the vessel the photograph is fitted by a column of blood seen through the photograph's own blur, on a background
that slopes: width, place and depth come out together (a physical cousin of the profile fits of Lowell et al. 2004, IEEE
TMI 23:1196). Because blur belongs to the model it does not widen thin vessels, and the area of the profile, width
times depth, is what the eye sees of a vein that tapers and fades.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.special import ndtr

from fundoscope.imaging import Pixels
from fundoscope.vessels import draw
from fundoscope.vessels.graph import Centreline, Mask, Points, along

Floats = NDArray[np.float64]

#: The round column of blood as nested boxes: share of the depth and of the width of each.
COLUMN = ((0.68, 1.0), (0.32, 0.62))
_CREST = 0.22  # share of the width that the light reflex on the crest takes
_LIT = 0.3  # widths: through more blur the light reflex cannot be told from the column, and is taken as
_USUAL = 0.2  # of the column's depth
_REACH = 1.75  # widths to each side that a ray goes
_SAMPLES = 71  # on a ray
#: Where a ray is sampled, in rough widths from its centre.
OFFSETS = _REACH * np.linspace(-1, 1, _SAMPLES)
_MIDDLE = 0.7  # widths to each side that hold a vessel and its walls
_STEEPEST = 1.4  # steps along the vessel for one square to it that a leaning ray takes at most
_KNOWN = 0.02  # weight below which nothing is known of a sample
_WIDTHS = np.exp(np.linspace(np.log(0.3), np.log(2.2), 41))  # tried, in rough widths
_PLACES = np.linspace(-0.5, 0.5, 13)
_FINE = 20  # blurs told apart are 5 % from each other
_BLURS = 0.35 * 1.35 ** np.arange(12)  # pixels, tried
_TELLING = 120  # strands, the widest, whose rays tell the blur: the few widest lie on each other beside the disc
_SPARSE = 4  # of the rays that tell the blur, averaged over a width as they are, one in so many is enough
_STEP = 0.5  # pixels between rays at the least; an eighth of a wide vessel's width


@dataclass(frozen=True, slots=True, eq=False)
class WidthProfile:
    """Rays laid across a vessel and what they found; all (n,) unless said, lengths in pixels of the photograph.

    `centres` and unit `normals` (n, 2; row, column), `way` the length along the vessel, `width`, `depth` of the blood
    column (grey levels), `fit` the share of the ray's variance that the column explains.
    """

    centres: Points
    normals: Points
    way: Floats
    width: Floats
    depth: Floats
    fit: Floats

    @property
    def edges(self) -> Floats:
        """The two walls of each ray, (n, 2, 2): ray, side, (row, column)."""
        half = (self.width / 2)[:, None] * self.normals
        return np.stack([self.centres - half, self.centres + half], axis=1)

    def draw(self, canvas: Pixels) -> None:
        """Every ray from wall to wall, on the photograph (rows, columns, 3) itself."""
        for edge in self.edges:
            draw.line(canvas, edge, draw.WALL)


@dataclass(frozen=True, slots=True, eq=False)
class CalibreModel:
    """Measures vessels of one photograph: its green `plane` (rows, columns), float32, and its `blur`, the deviation in
    pixels of the Gaussian that its edges were seen through.
    """

    plane: NDArray[np.float32]
    blur: float

    @classmethod
    def fit(cls, pixels: Pixels, strands: Iterable[Centreline]) -> CalibreModel:
        """The ruler of an RGB photograph (rows, columns, 3), its blur told by its wider vessels."""
        plane = np.ascontiguousarray(pixels[..., 1], np.float32)
        long = [s for s in strands if len(s.points) > 8]
        wide = sorted(long, key=lambda s: -float(np.median(s.radius)))[:_TELLING]
        blurs = [_own_blurs(plane, strand) for strand in wide]
        return cls(plane, float(np.median(np.concatenate(blurs))) if wide else 1.0)

    def measure_widths(self, strand: Centreline, hidden: Mask | None = None, smoothing: float = 0.35) -> WidthProfile:
        """Rays along a strand, averaged over `smoothing` widths (deviation) along it; `hidden` (rows, columns) marks
        pixels of other vessels that a ray must not look at.
        """
        rough = max(2 * float(np.median(strand.radius)), 1.5)
        for _ in range(2):
            across = sample_cross_sections(self.plane, strand, rough, smoothing * rough, hidden)
            profiles = across.filled()
            width, place, depth, left = _best(profiles, self.blur / rough)
            typical = float(np.median(width))
            if 0.8 < typical < 1.25:
                break
            rough *= min(max(typical, 0.5), 2.0)
        variance = profiles.var(axis=1) + 1e-9
        fit = 1 - left / variance
        centres = across.centres + (place * rough)[:, None] * across.normals
        return WidthProfile(centres, across.normals, across.way, width * rough, depth, np.clip(fit, 0, 1))


def apparent_widths(grey: Floats, weight: Floats, blur: float) -> Floats:
    """How much of a vessel each ray sees, (n,): width (in rough widths) times depth (grey levels) of the column that
    fits best, by least squares over what could be looked at. `grey` and `weight` are (n, samples), `blur` is in rough
    widths. The area of a profile is not changed by blur, and falls alike with a vein's calibre and its contrast.
    """
    design, area = _designs(round(float(np.log(blur)) * _FINE))
    normal = np.einsum("ns,isp,jsp->npij", weight, design, design, optimize=True) + 1e-6 * np.eye(3)
    right = np.einsum("ns,isp->npi", weight * grey, design, optimize=True)
    solved = np.linalg.solve(normal, right[..., None])[..., 0]
    gain = np.where(solved[..., 2] > 0, (solved * right).sum(-1), -np.inf)
    best = gain.argmax(axis=1)
    return (solved[np.arange(len(best)), best, 2] * area[best]).clip(0)


@lru_cache(maxsize=64)
def _designs(step: int) -> tuple[Floats, Floats]:
    """Ground, slope and column (3, samples, templates), and the width of each template."""
    widths, places = np.exp(np.linspace(np.log(0.3), np.log(1.3), 12)), np.linspace(-0.3, 0.3, 9)
    width, place = (grid.ravel() for grid in np.meshgrid(widths, places, indexing="ij"))
    column = np.zeros((_SAMPLES, len(width)))
    for share, part in COLUMN:
        column += share * _box(OFFSETS, place, part * width, float(np.exp(step / _FINE)))
    ground = np.ones_like(column)
    return np.stack([ground, ground * OFFSETS[:, None], -column]), width


def _own_blurs(plane: NDArray[np.float32], strand: Centreline) -> Floats:
    """The blur, in pixels, with which the column fits each of this strand's rays best."""
    rough = 2 * float(np.median(strand.radius))
    profiles = sample_cross_sections(plane, strand, rough, rough).grey[::_SPARSE]
    return _lowest(np.log(_BLURS), np.stack([_best(profiles, blur / rough)[3] for blur in _BLURS]))


def _lowest(logs: Floats, left: Floats) -> Floats:
    """Where the parabola through the lowest of each column of `left` and its neighbours has its foot; the exponential
    of it.
    """
    k, each = left.argmin(axis=0).clip(1, len(left) - 2), np.arange(left.shape[1])
    low, mid, high = (left[k + d, each] for d in (-1, 0, 1))
    bend = low - 2 * mid + high
    shift = np.where(bend > 0, 0.5 * (low - high) / np.where(bend > 0, bend, 1.0), 0.0)
    return np.exp(logs[k] + shift.clip(-1, 1) * (logs[1] - logs[0]))


@dataclass(frozen=True, slots=True, eq=False)
class CrossSections:
    """Rays as they were read: `grey` (n, samples) averaged along the vessel, `weight` (n, samples) how much of that
    could be looked at, `centres` and unit `normals` (n, 2), `way` (n,) along the vessel.
    """

    grey: Floats
    weight: Floats
    centres: Points
    normals: Points
    way: Floats

    @property
    def clear(self) -> Floats:
        """Share of the vessel and its walls that could be looked at, (n,)."""
        return self.weight[:, np.abs(OFFSETS) < _MIDDLE].mean(axis=1)

    def filled(self) -> Floats:
        """The grey levels, with the ray's own background where nothing could be looked at."""
        known = self.weight > _KNOWN
        if known.all():
            return self.grey
        levels = np.where(known & (np.abs(OFFSETS) > 0.75), self.grey, np.nan)
        some = np.isfinite(levels).any(axis=1)
        levels[~some] = np.median(self.grey)
        return np.where(known, self.grey, np.nanmedian(levels, axis=1)[:, None])


def sample_cross_sections(
    plane: NDArray[np.float32],
    strand: Centreline,
    rough: float,
    smoothing: float,
    hidden: Mask | None = None,
    beside: Points | None = None,
) -> CrossSections:
    """Grey levels across a strand at `OFFSETS` times `rough` pixels, averaged along it with `smoothing` pixels'
    deviation; `hidden` pixels are left out.

    Rays are normal to the strand, or lean along `beside` (2,), the direction of a vessel that crosses it: then such a ray
    lies all beside that vessel or all on it. Offsets count square to the strand all the same.
    """
    way = along(strand.points)
    at = np.arange(0, way[-1] + 1e-9, max(_STEP, rough / 8))
    centres = np.column_stack([np.interp(at, way, strand.points[:, k]) for k in (0, 1)])
    step = at[1] - at[0] if len(at) > 1 else 1.0
    even = gaussian_filter1d(centres, max(1.0, 0.4 * rough / step), axis=0, mode="nearest") if len(at) > 2 else centres
    run = np.gradient(even, axis=0) if len(at) > 1 else np.array([[1.0, 0.0]])
    run = run / np.maximum(np.hypot(run[:, 0], run[:, 1]), 1e-9)[:, None]
    normals = np.column_stack([-run[:, 1], run[:, 0]])
    rays = normals if beside is None else normals + _lean(normals, run, beside)[:, None] * run
    rows, columns = (centres[:, k, None] + rays[:, k, None] * (rough * OFFSETS) for k in (0, 1))
    grey = _sampled(plane, rows, columns, cv2.INTER_CUBIC)
    sure = ((rows >= 0) & (columns >= 0) & (rows <= plane.shape[0] - 1) & (columns <= plane.shape[1] - 1)).astype(float)
    if hidden is not None:
        sure *= _sampled(hidden.astype(np.float32), rows, columns, cv2.INTER_LINEAR) < 0.05
    deviation = max(smoothing / step, 1e-3)
    weight = gaussian_filter1d(sure, deviation, axis=0, mode="nearest")
    total = gaussian_filter1d(sure * grey, deviation, axis=0, mode="nearest")
    return CrossSections(total / np.maximum(weight, 1e-9), weight, centres, normals, at)


def _lean(normals: Points, run: Points, beside: Points) -> Floats:
    """How far rays go along the vessel for each step square to it, (n,)."""
    square = normals @ beside
    square = np.where(np.abs(square) < 0.1, 0.1, square)
    return np.clip((run @ beside) / square, -_STEEPEST, _STEEPEST)


def _sampled(plane: NDArray[np.float32], rows: Floats, columns: Floats, how: int) -> Floats:
    x, y = columns.astype(np.float32), rows.astype(np.float32)
    parts = [slice(i, i + 30_000) for i in range(0, len(x), 30_000)]  # OpenCV maps no more than 32767 rows
    return np.vstack([cv2.remap(plane, x[p], y[p], how, borderMode=cv2.BORDER_REPLICATE) for p in parts]).astype(float)


def _best(profiles: Floats, blur: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Width and place (in rough widths), depth and mean squared rest of the column that fits each ray best."""
    base, column, reflex, norm = _templates(round(float(np.log(blur)) * _FINE))
    profiles = (profiles - profiles.mean(axis=1, keepdims=True)).astype(np.float32)  # half the time of float64
    energy = (profiles**2).sum(1) - ((profiles @ base) ** 2).sum(1)
    dark = np.maximum(-(profiles @ column), 0)
    gain = dark * dark
    lit = len(norm) - reflex.shape[1]  # the narrower ones have no reflex
    bright = np.maximum(profiles @ reflex, 0)
    gain[:, lit:] += bright * bright * (dark[:, lit:] > 0)
    k = gain.argmax(1)
    amount = dark[np.arange(len(k)), k] / norm[k]
    n_places = len(_PLACES)
    width = _refined(gain, k, n_places, len(_WIDTHS), np.log(_WIDTHS), major=True)
    place = _refined(gain, k, n_places, len(_WIDTHS), _PLACES, major=False)
    rest = (energy - gain[np.arange(len(k)), k]).clip(0) / _SAMPLES
    return np.exp(width), place, amount, rest


def _refined(gain: Floats, k: NDArray[np.int64], n_places: int, n_widths: int, values: Floats, major: bool) -> Floats:
    """The value at the top of a parabola through the best template and its two neighbours."""
    index = k // n_places if major else k % n_places
    stride, last = (n_places, n_widths - 1) if major else (1, n_places - 1)
    inner = np.clip(index, 1, last - 1)
    centre = k + (inner - index) * stride
    rows = np.arange(len(k))
    low, mid, high = (gain[rows, centre + d * stride] for d in (-1, 0, 1))
    bend = low - 2 * mid + high
    shift = np.where(bend < -1e-12, 0.5 * (low - high) / np.where(bend < -1e-12, bend, 1.0), 0.0)
    shift = np.where(inner == index, np.clip(shift, -1, 1), index - inner)
    return values[inner] + shift * (values[1] - values[0])


@lru_cache(maxsize=128)
def _templates(step: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Orthonormal ground (samples, 2); for each width and place the column beyond it, (samples, templates), and for the last of
    these, the wide ones in which the blur does not hide it, the reflex beyond both, each of length 1; and the column's
    length before that. The blur is exp(step / _FINE) rough widths: few enough blurs that their templates are kept.
    """
    blur = float(np.exp(step / _FINE))
    x = _REACH * np.linspace(-1, 1, _SAMPLES)
    base, _ = np.linalg.qr(np.column_stack([np.ones_like(x), x]))
    width, place = (grid.ravel() for grid in np.meshgrid(_WIDTHS, _PLACES, indexing="ij"))
    column = np.zeros((_SAMPLES, len(width)))
    for share, part in COLUMN:
        column += share * _box(x, place, part * width, blur)
    crest = _box(x, place, _CREST * width, blur)
    column -= np.where(blur < _LIT * width, 0.0, _USUAL) * crest
    column -= base @ (base.T @ column)
    norm = np.linalg.norm(column, axis=0)
    column /= norm
    lit = blur < _LIT * width
    reflex, beneath = crest[:, lit], column[:, lit]
    reflex -= base @ (base.T @ reflex)
    reflex -= beneath * (beneath * reflex).sum(0)
    reflex /= np.maximum(np.linalg.norm(reflex, axis=0), 1e-9)
    return base, column.astype(np.float32), reflex.astype(np.float32), norm


def _box(x: Floats, place: Floats, width: Floats, blur: float) -> Floats:
    """A box of depth 1 seen through a Gaussian blur, (samples, templates)."""
    from_centre = x[:, None] - place
    return ndtr((from_centre + width / 2) / blur) - ndtr((from_centre - width / 2) / blur)
