"""Calibre: a vessel's width from sub-pixel edges found on the photograph, not on a thresholded map.

Cross-sections of the photograph are fitted by a model: a column of blood, seen through the photograph's own blur, on a
background that slopes. Width, position and depth of the column come out together (a physical relative of the profile
fits of Lowell et al. 2004, IEEE TMI 23:1196). Blur is part of the model, so it does not widen thin vessels. The area of
the fitted column, width times depth, is the apparent width of a vein that tapers and fades.

The fit is a search over templates with a parabola through the best one. It stays ours: one matrix product fits all
cross-sections of a vessel, where `scipy.optimize` fits one at a time.
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
from fundoscope.vessels.graph import Centreline, Mask, Points, arc_length

Floats = NDArray[np.float64]

#: The round column of blood as nested boxes: (share of the depth, share of the width) of each.
COLUMN = ((0.68, 1.0), (0.32, 0.62))
_REFLEX_WIDTH = 0.22  # share of the vessel's width that the light reflex on its crest takes
_REFLEX_DEPTH = 0.2  # of the column's depth, where blur hides the reflex and it cannot be fitted
_REFLEX_BLUR = 0.3  # vessel widths of blur from which on the reflex is hidden
_REACH = 1.75  # rough widths that a cross-section extends to each side
_SAMPLES = 71  # of a cross-section
#: Positions of the samples of a cross-section, in rough widths from its centre.
OFFSETS = _REACH * np.linspace(-1, 1, _SAMPLES)
_VESSEL_REACH = 0.7  # rough widths to each side that hold a vessel and its walls
_MAX_SLANT = 1.4  # steps along the vessel for one step across it that a slanted cross-section takes at most
_MIN_WEIGHT = 0.02  # weight below which a sample counts as unknown
_WIDTHS = np.exp(np.linspace(np.log(0.3), np.log(2.2), 41))  # of the templates, in rough widths
_POSITIONS = np.linspace(-0.5, 0.5, 13)  # of the templates, in rough widths
#: Samples lie 3/60 rough widths apart and positions 5/60: so few distances there are of one from the other, in sixtieths
#: (samples, positions), and in rough widths.
_STEPS_AWAY = np.abs(3 * np.arange(-35, 36)[:, None] - 5 * np.arange(-6, 7))
_DISTANCES = np.arange(_STEPS_AWAY.max() + 1) / 60
_BLUR_STEPS = 20  # templates are kept for blurs 5 % apart
_BLURS = 0.35 * 1.35 ** np.arange(12)  # pixels, tried when the photograph's blur is fitted
_BLUR_VESSELS = 120  # widest vessels that the blur is fitted on: enough that those beside the disc do not decide
_BLUR_STRIDE = 4  # every so many of their cross-sections are used: neighbours are averaged and nearly equal
_ROUNDS = 2  # of fits to one vessel at most
_MIN_STEP = 0.5  # pixels between cross-sections at the least; an eighth of a wide vessel's width


@dataclass(frozen=True, slots=True, eq=False)
class WidthProfile:
    """Widths measured along a vessel, one row a cross-section; lengths in pixels of the photograph.

    `centres` and unit `normals` (n, 2; row, column); (n,) each: `way` the length along the vessel, `width`, `depth` of
    the blood column in grey levels, `fit` the share of the cross-section's variance that the column explains (0 to 1),
    `visible` the share of the vessel and its walls that no other vessel hides (0 to 1).
    """

    centres: Points
    normals: Points
    way: Floats
    width: Floats
    depth: Floats
    fit: Floats
    visible: Floats

    @property
    def edges(self) -> Floats:
        """Both walls at each cross-section, (n, 2, 2): cross-section, side, (row, column)."""
        half = (self.width / 2)[:, None] * self.normals
        return np.stack([self.centres - half, self.centres + half], axis=1)

    def draw(self, canvas: Pixels) -> None:
        """Draw each cross-section from wall to wall onto the photograph (rows, columns, 3)."""
        for edge in self.edges:
            draw.line(canvas, edge, draw.WALL)


@dataclass(frozen=True, slots=True, eq=False)
class CalibreModel:
    """Measures the vessels of one photograph: its green `plane` (rows, columns), float32, its `blur`, the standard
    deviation in pixels of the Gaussian through which edges are seen, and its `red` plane, None where there is none.
    """

    plane: NDArray[np.float32]
    blur: float
    red: NDArray[np.float32] | None = None

    @classmethod
    def fit(cls, pixels: Pixels, centrelines: Iterable[Centreline]) -> CalibreModel:
        """The model of an RGB photograph (rows, columns, 3), its blur fitted on its wider vessels (1 without any)."""
        red, plane = (np.ascontiguousarray(pixels[..., k], np.float32) for k in (0, 1))
        return cls(plane, 1.0, red).fitted_to(centrelines)

    def fitted_to(self, centrelines: Iterable[Centreline]) -> CalibreModel:
        """The same photograph with its blur fitted on the wider ones of some vessels (1 without any)."""
        # a line that bridges a gap of the mask has no width, and tells no blur
        long = [line for line in centrelines if len(line.points) > 8 and np.median(line.radius) > 0]
        wide = sorted(long, key=lambda line: -float(np.median(line.radius)))[:_BLUR_VESSELS]
        blurs = [_fitted_blurs(self.plane, line) for line in wide]
        return CalibreModel(self.plane, float(np.median(np.concatenate(blurs))) if wide else 1.0, self.red)

    def on(self, pixels: Pixels) -> CalibreModel:
        """The same blur on other pixels (rows, columns, 3): a part of the photograph, or a changed copy of it."""
        red, plane = (np.ascontiguousarray(pixels[..., k], np.float32) for k in (0, 1))
        return CalibreModel(plane, self.blur, red)

    def within(self, window: tuple[slice, slice]) -> CalibreModel:
        """The model of some rows and columns of the same photograph."""
        return CalibreModel(self.plane[window], self.blur, None if self.red is None else self.red[window])

    @property
    def planes(self) -> list[NDArray[np.float32]]:
        """The planes that there are, green first."""
        return [self.plane] if self.red is None else [self.plane, self.red]

    def measure_widths(
        self, centreline: Centreline, hidden: Mask | None = None, smoothing: float = 0.35
    ) -> WidthProfile:
        """Widths along a vessel.

        Cross-sections are averaged along it over `smoothing` vessel widths (standard deviation). Pixels of `hidden`
        (rows, columns), those of other vessels, are left out.
        """
        wanted = max(2 * float(np.median(centreline.radius)), 1.5)
        for _ in range(_ROUNDS):  # again where the rough width was far off
            rough = wanted
            sections = sample_cross_sections(self.plane, centreline, rough, smoothing * rough, hidden)
            grey = sections.filled()
            width, position, depth, residual = _fit_columns(grey, self.blur / rough)
            typical = float(np.median(width))
            if 0.8 < typical < 1.25:
                break
            wanted = rough * min(max(typical, 0.5), 2.0)
        fit = 1 - residual / (grey.var(axis=1) + 1e-9)
        centres = sections.centres + (position * rough)[:, None] * sections.normals
        return WidthProfile(
            centres, sections.normals, sections.way, width * rough, depth, np.clip(fit, 0, 1), sections.visible
        )


def apparent_widths(grey: Floats, weight: Floats, blur: float) -> Floats:
    """Apparent width of a vessel at each cross-section, (n,): width (in rough widths) times depth (grey levels) of the
    column that fits best, by weighted least squares.

    `grey` and `weight` are (n, samples), `blur` is in rough widths. Blur does not change this area, and it falls alike
    with a vein's calibre and with its contrast.
    """
    design, pairs, area = _least_squares_templates(round(float(np.log(blur)) * _BLUR_STEPS))
    number, samples, templates = design.shape
    normal = (weight @ pairs).reshape(-1, number, number, templates).transpose(0, 3, 1, 2) + 1e-6 * np.eye(number)
    right = ((weight * grey) @ design.transpose(1, 0, 2).reshape(samples, -1)).reshape(-1, number, templates)
    right = right.transpose(0, 2, 1)
    solved = np.linalg.solve(normal, right[..., None])[..., 0]
    gain = np.where(solved[..., 2] > 0, (solved * right).sum(-1), -np.inf)
    best = gain.argmax(axis=1)
    return (solved[np.arange(len(best)), best, 2] * area[best]).clip(0)


@lru_cache(maxsize=64)
def _least_squares_templates(step: int) -> tuple[Floats, Floats, Floats]:
    """Constant, slope and column of each template, (3, samples, templates), their products in pairs (samples, 9 x
    templates), and each template's width in rough widths.

    The blur is exp(step / _BLUR_STEPS) rough widths.
    """
    widths, positions = np.exp(np.linspace(np.log(0.3), np.log(1.3), 12)), np.linspace(-0.3, 0.3, 9)
    width, position = (grid.ravel() for grid in np.meshgrid(widths, positions, indexing="ij"))
    column = np.zeros((_SAMPLES, len(width)))
    for share, part in COLUMN:
        column += share * _blurred_box(OFFSETS, position, part * width, float(np.exp(step / _BLUR_STEPS)))
    constant = np.ones_like(column)
    design = np.stack([constant, constant * OFFSETS[:, None], -column])
    pairs = (design[:, None] * design[None]).transpose(2, 0, 1, 3).reshape(_SAMPLES, -1)
    return design, pairs, width


def _fitted_blurs(plane: NDArray[np.float32], centreline: Centreline) -> Floats:
    """The blur in pixels with which the column fits best, for every few cross-sections of one vessel."""
    rough = 2 * float(np.median(centreline.radius))
    grey = sample_cross_sections(plane, centreline, rough, rough).grey[::_BLUR_STRIDE]
    centred, energy = _centred(grey)
    residual = np.stack([energy - _gains(centred, blur / rough)[0].max(axis=1) for blur in _BLURS])
    residual = residual.clip(0) / _SAMPLES
    logs, k, each = np.log(_BLURS), residual.argmin(axis=0).clip(1, len(residual) - 2), np.arange(residual.shape[1])
    low, mid, high = (residual[k + d, each] for d in (-1, 0, 1))
    curvature = low - 2 * mid + high  # of the parabola through the best blur and its two neighbours
    shift = np.where(curvature > 0, 0.5 * (low - high) / np.where(curvature > 0, curvature, 1.0), 0.0)
    return np.exp(logs[k] + shift.clip(-1, 1) * (logs[1] - logs[0]))


@dataclass(frozen=True, slots=True, eq=False)
class CrossSections:
    """Grey levels read across a vessel, one row a cross-section.

    `grey` (n, samples) averaged along the vessel, `weight` (n, samples) the share of that average that was not hidden,
    `centres` and unit `normals` (n, 2), `way` (n,) the length along the vessel in pixels.
    """

    grey: Floats
    weight: Floats
    centres: Points
    normals: Points
    way: Floats

    @property
    def visible(self) -> Floats:
        """Share of the vessel and its walls that is not hidden at each cross-section, (n,)."""
        return self.weight[:, np.abs(OFFSETS) < _VESSEL_REACH].mean(axis=1)

    def filled(self) -> Floats:
        """The grey levels (n, samples), with the median of the cross-section's background in place of hidden samples."""
        known = self.weight > _MIN_WEIGHT
        if known.all():
            return self.grey
        background = np.where(known & (np.abs(OFFSETS) > 0.75), self.grey, np.nan)
        background[~np.isfinite(background).any(axis=1)] = np.median(self.grey)
        return np.where(known, self.grey, np.nanmedian(background, axis=1)[:, None])


def sample_cross_sections(
    plane: NDArray[np.float32],
    centreline: Centreline,
    rough: float,
    smoothing: float,
    hidden: Mask | None = None,
    parallel_to: Points | None = None,
) -> CrossSections:
    """Grey levels across a vessel at `OFFSETS` times `rough` pixels.

    They are averaged along the vessel with a standard deviation of `smoothing` pixels, without the pixels of `hidden`
    (rows, columns). Cross-sections are square to the vessel; or they slant along `parallel_to`, the unit direction (2,)
    of a vessel that crosses it: then each lies beside that vessel or on it as a whole. Offsets are counted square to the
    vessel all the same.
    """
    way = arc_length(centreline.points)
    at = np.arange(0, way[-1] + 1e-9, max(_MIN_STEP, rough / 8))
    centres = np.column_stack([np.interp(at, way, centreline.points[:, k]) for k in (0, 1)])
    step = at[1] - at[0] if len(at) > 1 else 1.0
    smooth = (
        gaussian_filter1d(centres, max(1.0, 0.4 * rough / step), axis=0, mode="nearest") if len(at) > 2 else centres
    )
    tangents = np.gradient(smooth, axis=0) if len(at) > 1 else np.array([[1.0, 0.0]])
    tangents = tangents / np.maximum(np.hypot(tangents[:, 0], tangents[:, 1]), 1e-9)[:, None]
    normals = np.column_stack([-tangents[:, 1], tangents[:, 0]])
    rays = normals
    if parallel_to is not None:
        across = normals @ parallel_to
        across = np.where(np.abs(across) < 0.1, 0.1, across)
        slant = np.clip((tangents @ parallel_to) / across, -_MAX_SLANT, _MAX_SLANT)
        rays = normals + slant[:, None] * tangents
    rows, columns = (centres[:, k, None] + rays[:, k, None] * (rough * OFFSETS) for k in (0, 1))
    grey = _sampled(plane, rows, columns, cv2.INTER_CUBIC)
    inside = (rows >= 0) & (columns >= 0) & (rows <= plane.shape[0] - 1) & (columns <= plane.shape[1] - 1)
    sure = inside.astype(float)
    if hidden is not None:
        sure *= _sampled(hidden.astype(np.float32), rows, columns, cv2.INTER_LINEAR) < 0.05
    deviation = max(smoothing / step, 1e-3)
    weight = gaussian_filter1d(sure, deviation, axis=0, mode="nearest")
    total = gaussian_filter1d(sure * grey, deviation, axis=0, mode="nearest")
    return CrossSections(total / np.maximum(weight, 1e-9), weight, centres, normals, at)


def _sampled(plane: NDArray[np.float32], rows: Floats, columns: Floats, interpolation: int) -> Floats:
    """Values of the plane at sub-pixel positions (n, samples)."""
    x, y = columns.astype(np.float32), rows.astype(np.float32)
    parts = [slice(i, i + 30_000) for i in range(0, len(x), 30_000)]  # OpenCV maps no more than 32767 rows
    values = [cv2.remap(plane, x[p], y[p], interpolation, borderMode=cv2.BORDER_REPLICATE) for p in parts]
    return np.vstack(values).astype(float)


def _fit_columns(grey: Floats, blur: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Width and position (in rough widths), depth (grey levels) and mean squared residual of the column that fits each
    cross-section (n, samples) best, (n,) each; `blur` is in rough widths.
    """
    centred, energy = _centred(grey)
    gain, dark, length = _gains(centred, blur)
    best, row = gain.argmax(1), np.arange(len(gain))
    shape = (len(_WIDTHS), len(_POSITIONS))
    width = _parabola_top(gain, best, shape, np.log(_WIDTHS), axis=0)
    position = _parabola_top(gain, best, shape, _POSITIONS, axis=1)
    residual = (energy - gain[row, best]).clip(0) / _SAMPLES
    return np.exp(width), position, dark[row, best] / length[best], residual


def _centred(grey: Floats) -> tuple[NDArray[np.float32], Floats]:
    """Cross-sections (n, samples) less their means, in float32, which takes half the time; and what of their squares no
    sloping background explains, (n,).
    """
    grey = (grey - grey.mean(axis=1, keepdims=True)).astype(np.float32)
    return grey, (grey**2).sum(1) - ((grey @ _background()) ** 2).sum(1)


def _gains(grey: NDArray[np.float32], blur: float) -> tuple[Floats, Floats, Floats]:
    """What each template explains of the squares of centred cross-sections, and its depth there, (n, templates) both; and
    its length (templates,). `blur` is in rough widths.
    """
    column, reflex, length = _templates(round(float(np.log(blur)) * _BLUR_STEPS))
    dark = np.maximum(-(grey @ column), 0)
    gain = dark * dark
    first_lit = len(length) - reflex.shape[1]  # the narrower templates have no reflex
    bright = np.maximum(grey @ reflex, 0)
    gain[:, first_lit:] += bright * bright * (dark[:, first_lit:] > 0)
    return gain, dark, length


def _parabola_top(gain: Floats, best: NDArray[np.int64], shape: tuple[int, int], values: Floats, axis: int) -> Floats:
    """Value (of width or position) at the top of a parabola through the best template and its two neighbours, (n,).

    `gain` is (n, templates), templates are numbered over `shape` (widths, positions), and `values` go along `axis`.
    """
    stride = shape[1] if axis == 0 else 1
    index = best // stride % shape[axis]
    inner = np.clip(index, 1, shape[axis] - 2)
    centre = best + (inner - index) * stride
    row = np.arange(len(best))
    low, mid, high = (gain[row, centre + d * stride] for d in (-1, 0, 1))
    curvature = low - 2 * mid + high
    peaked = curvature < -1e-12
    shift = np.where(peaked, 0.5 * (low - high) / np.where(peaked, curvature, 1.0), 0.0)
    shift = np.where(inner == index, np.clip(shift, -1, 1), index - inner)
    return values[inner] + shift * (values[1] - values[0])


@lru_cache(maxsize=1)
def _background() -> Floats:
    """The orthonormal background, constant and slope, (samples, 2)."""
    background, _ = np.linalg.qr(np.column_stack([np.ones_like(OFFSETS), OFFSETS]))
    return background


@lru_cache(maxsize=128)
def _templates(step: int) -> tuple[NDArray[np.float32], NDArray[np.float32], Floats]:
    """Templates for a blur of exp(step / _BLUR_STEPS) rough widths: few enough blurs that all can be kept.

    Returns the column of each width and position, orthogonal to the background and of length 1, (samples, templates); the
    light reflex, orthogonal to both, of the last templates only, those wide enough that blur does not hide it; and the
    length of each column before it was made 1, (templates,).
    """
    blur, background = float(np.exp(step / _BLUR_STEPS)), _background()
    nested = np.zeros((len(_DISTANCES), len(_WIDTHS)))
    for share, part in COLUMN:
        nested += share * _blurred_box(_DISTANCES, 0.0, part * _WIDTHS, blur)
    crests = _blurred_box(_DISTANCES, 0.0, _REFLEX_WIDTH * _WIDTHS, blur)
    column, crest = (_at_positions(each) for each in (nested, crests))
    has_reflex = np.repeat(blur < _REFLEX_BLUR * _WIDTHS, len(_POSITIONS))
    column -= np.where(has_reflex, 0.0, _REFLEX_DEPTH) * crest
    column -= background @ (background.T @ column)
    length = np.linalg.norm(column, axis=0)
    column /= length
    reflex, beneath = crest[:, has_reflex], column[:, has_reflex]
    reflex -= background @ (background.T @ reflex)
    reflex -= beneath * (beneath * reflex).sum(0)
    reflex /= np.maximum(np.linalg.norm(reflex, axis=0), 1e-9)
    return column.astype(np.float32), reflex.astype(np.float32), length


def _at_positions(profiles: Floats) -> Floats:
    """The templates at all positions, (samples, templates), of profiles by distance from the middle, (distances, widths)."""
    return profiles[_STEPS_AWAY].transpose(0, 2, 1).reshape(_SAMPLES, -1)


def _blurred_box(x: Floats, position: Floats | float, width: Floats, blur: float) -> Floats:
    """Boxes of depth 1 seen through a Gaussian of standard deviation `blur`, (samples, templates)."""
    from_centre = x[:, None] - position
    return ndtr((from_centre + width / 2) / blur) - ndtr((from_centre - width / 2) / blur)
