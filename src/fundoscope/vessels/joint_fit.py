"""A vein beside the artery that crosses it, as one model of the straightened vein in all colours together.

The vein is a round column of blood of smooth width and contrast, narrowed on each side of the artery by a share of its own;
the artery lies across it as an oblique band that hides it; both are seen through the photograph's blur, on a background that
varies slowly along and across. Narrowing is full from the artery's wall to 0.4 vein widths beyond it and gone at 1.7; it
takes two thirds of itself from the calibre and one third from the contrast (both as logarithms). Those three numbers are
fixed, since a few pixels cannot tell them: left free they made narrowing less sure on photographs that chose them.

Fitted by Levenberg-Marquardt steps (Marquardt 1963) on a robust loss, with the background projected out (Golub & Pereyra
1973) and analytic derivatives. `scipy.optimize.least_squares` takes a singular value decomposition a step, this one a system
of some twenty equations, which is what makes it fast enough for each crossing of a photograph.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.special import ndtr

from fundoscope.vessels.crossings import MeasuredCrossing
from fundoscope.vessels.graph import Mask, Points, arc_length

Floats = NDArray[np.float64]
Plane = NDArray[np.float32]

# Lengths in vein widths, unless said otherwise
_ALONG, _ACROSS = 0.3, 0.17  # steps of the grid, at least ...
_LEAST_ALONG, _LEAST_ACROSS = 1.0, 0.8  # ... pixels
_REACH, _FLANK = 5.0, 1.5  # from the crossing along the vein (and an artery's width), and from its middle across it
_GONE, _FULL = 1.7, 0.22  # beyond the artery's wall where a narrowing is gone; the share of that up to which it is full
_CALIBRE = 0.67  # share of the logarithm of the narrowing that is calibre, the rest is contrast
_COLUMN = ((0.68, 1.0), (0.32, 0.62))  # the column of blood: share of the depth, share of the width
_REFLEX = 0.22  # share of the width that the reflex on the crest takes, ...
_VEIN_REFLEX, _ARTERY_REFLEX = 0.14, 0.34  # ... and its share of the depth
_HIDES = 0.8  # of the vein beneath an artery
_HALO = 0.25  # blurs beyond the artery's wall up to which the crossing itself is left out
_BESIDE = 1.1  # beside the vein's middle from where on the artery is seen alone
_BACKGROUND_KNOTS, _POSITION_KNOTS = 2.2, 2.0
_FEWEST = 80  # samples
_ROBUST = 1.0  # deviations from where on a residual counts less
_STEPS, _ENOUGH = 3, 3e-3  # evaluations of the model, and the relative gain at which it is good enough
_LAG = 1.5  # over which residuals are taken to be correlated
_LEAST_ERROR = 0.03  # of a narrowing: the model's own
_INFLATION = 1.5  # of a standard error, since a background that is fitted takes some of the noise with it

#: Standard deviations of what is known beforehand: logarithm of the vein's width and its slope, slope of the logarithm of
#: the contrast (both a vein width), narrowing of both sides, logarithm of the artery's width, its offset (artery widths).
_PRIOR = (0.35, 0.003, 0.005, 0.3, 0.3, 0.15, 0.15)
_POSITION = 0.12  # the same of the vein's offset from its mapped line
_WIDTH, _SLOPE, _FADE, _SIDE_1, _SIDE_2, _ARTERY, _OFFSET, _PLACES = range(8)
_LOW, _HIGH = (
    np.array([-1.2, -0.1, -0.2, -1.5, -1.5, -0.7, -np.inf]),
    np.array([1.2, 0.1, 0.2, 0.93, 0.93, 0.7, np.inf]),
)


@dataclass(frozen=True, slots=True, eq=False)
class FittedCrossing:
    """What the model found at a crossing: narrowing and its standard error on each side, widths of vein and artery in
    pixels, and for each side the share of the vein beside the artery that is seen (`seen`), of its flanks that other vessels
    fill (`filled`), and how far it runs on beyond the wall (`room`, vein widths). `middle` (n, 2) are the points of the
    vein's middle.
    """

    narrowing: tuple[float, float]
    errors: tuple[float, float]
    vein_width: float
    artery_width: float
    middle: Points
    seen: tuple[float, float]
    filled: tuple[float, float]
    room: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class StraightenedVein:
    """The photograph along a vein, (along, across): `grey` a picture a colour, `free` where no other vessel lies.

    `centres` and unit `normals` (along, 2); `along` and `across` in vein widths from the crossing and from the mapped line; `from_artery` (along, across) from
    that one's middle, pixels; `beyond` (along,) from the artery's wall, vein widths, `side` (along,) 0 or 1. `width` and
    `artery_width` by the map and `blur` in pixels.
    """

    grey: list[Floats]
    free: Mask
    centres: Points
    normals: Points
    along: Floats
    across: Floats
    from_artery: Floats
    beyond: Floats
    side: NDArray[np.int64]
    width: float
    artery_width: float
    blur: float

    @classmethod
    def straighten(
        cls, planes: list[Plane], blur: float, crossing: MeasuredCrossing, hidden: Mask
    ) -> StraightenedVein | None:
        """The vein (`second`) of a crossing, read from `planes` (rows, columns each); None where it is too short."""
        vein = crossing.second
        width, artery_width = (max(2 * float(np.median(line.radius)), 1.5) for line in (vein, crossing.first))
        step, step_across = max(_LEAST_ALONG, _ALONG * width), max(_LEAST_ACROSS, _ACROSS * width)
        way = arc_length(vein.points)
        way = way - way[vein.crossing_index]
        reach = _REACH * width + artery_width
        along = np.arange(max(way[0], -reach), min(way[-1], reach) + 1e-9, step)
        if len(along) < 12:
            return None
        spacing = max((way[-1] - way[0]) / (len(way) - 1), 1e-6)
        smooth = gaussian_filter1d(vein.points, max(1.0, 0.3 * width / spacing), axis=0, mode="nearest")
        centres = np.column_stack([np.interp(along, way, smooth[:, k]) for k in (0, 1)])
        tangents = np.gradient(gaussian_filter1d(centres, 0.5 * width / step, axis=0, mode="nearest"), axis=0)
        tangents /= np.maximum(np.hypot(*tangents.T), 1e-9)[:, None]
        number = int(np.ceil(_FLANK * width / step_across))
        across = step_across * np.arange(-number, number + 1)
        normals = np.column_stack([-tangents[:, 1], tangents[:, 0]])
        rows, columns = (centres[:, k, None] + normals[:, k, None] * across for k in (0, 1))
        softened = 0.35 * step if step > 1.6 else 0.0
        grey, free = _read(planes, hidden, (rows, columns), softened)
        from_artery, direction = _from_artery(crossing, (rows, columns), max(3 * width, 2.5 * artery_width))
        near = np.flatnonzero(np.abs(along) <= 1.2 * width + artery_width)
        at = near[np.abs(from_artery[near, number]).argmin()]
        sine = max(float(np.sqrt(max(0.0, 1 - (tangents[at] @ direction) ** 2))), 0.3)
        beyond = (np.abs(along - along[at]) - artery_width / 2 / sine) / width
        side = (np.arange(len(along)) >= at).astype(np.int64)
        return cls(
            grey, free, centres, normals, np.asarray((along - along[at]) / width), np.asarray(across / width, float),
            from_artery, beyond, side, width, artery_width, float(np.hypot(blur, softened)),
        )  # fmt: skip

    def shifted_middle(self, offsets: Floats) -> Points:
        """The mapped line (along, 2) moved across by `offsets` (along,) pixels."""
        return self.centres + offsets[:, None] * self.normals

    @property
    def used(self) -> Mask:
        """The samples that are fitted: free of other vessels, and not where the two lie on each other."""
        crossing = np.abs(self.from_artery) < self.artery_width / 2 + _HALO * self.blur
        return self.free & ~(crossing & (np.abs(self.across) < _BESIDE))

    def clearness(self, side: int) -> tuple[float, float, float]:
        """Of one side (0 or 1): `seen`, `filled` and `room` as in `FittedCrossing`."""
        own = self.side == side
        nick, flank = own & (self.beyond > -0.1) & (self.beyond < 0.8), own & (self.beyond > -0.1) & (self.beyond < 1.5)
        body = np.abs(self.across) < 0.6
        whole = 0.8 / (self.along[1] - self.along[0]) * body.sum()
        seen = float(self.used[nick][:, body].sum() / whole)
        filled = float(1 - self.free[flank].mean()) if flank.any() else 1.0
        return seen, filled, float(self.beyond[own].max(initial=-np.inf))


def fit_crossing(planes: list[Plane], blur: float, crossing: MeasuredCrossing, hidden: Mask) -> FittedCrossing | None:
    """Fit a crossing's vein (`second`) beneath its artery (`first`) in all `planes` (rows, columns each) together.

    `blur` in pixels; pixels of `hidden` (rows, columns), those of other vessels, are left out. None where too little of
    the vein is left, or where nothing dark lies along it.
    """
    vein = StraightenedVein.straighten(planes, blur, crossing, hidden)
    if vein is None or vein.used.sum() < _FEWEST:
        return None
    model = _Model(vein)
    start = model.start()
    if start is None:
        return None
    values, residuals, jacobian = _descend(model, start)
    errors = _standard_errors(model, residuals, jacobian)
    first, second = vein.clearness(0), vein.clearness(1)
    return FittedCrossing(
        (float(values[_SIDE_1]), float(values[_SIDE_2])), errors, vein.width * float(np.exp(values[_WIDTH])),
        vein.artery_width * float(np.exp(values[_ARTERY])), vein.shifted_middle(model.offsets(values)),
        *((first[k], second[k]) for k in range(3)),
    )  # fmt: skip


def _read(
    planes: list[Plane], hidden: Mask, places: tuple[Floats, Floats], softened: float
) -> tuple[list[Floats], Mask]:
    """Grey levels of each plane at rows and columns, after a Gaussian of `softened` pixels; and where nothing is hidden."""
    rows, columns = places
    shape = np.array(planes[0].shape)
    low = np.clip(np.floor([rows.min() - 4, columns.min() - 4]).astype(int), 0, shape - 1)
    high = np.clip(np.ceil([rows.max() + 5, columns.max() + 5]).astype(int), low + 1, shape)
    window = np.s_[low[0] : high[0], low[1] : high[1]]
    x, y = (columns - low[1]).astype(np.float32), (rows - low[0]).astype(np.float32)
    grey = []
    for plane in planes:
        part = np.ascontiguousarray(plane[window])
        part = cv2.GaussianBlur(part, (0, 0), softened) if softened else part
        grey.append(cv2.remap(part, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(float))
    inside = (rows >= 0) & (columns >= 0) & (rows <= shape[0] - 1) & (columns <= shape[1] - 1)
    filled = cv2.remap(hidden[window].astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return grey, inside & (filled < 0.05)


def _from_artery(crossing: MeasuredCrossing, places: tuple[Floats, Floats], reach: float) -> tuple[Floats, Points]:
    """Signed distance of the places from the artery's middle, a parabola over `reach` pixels, and its direction (2,)."""
    artery = crossing.first
    way = arc_length(artery.points)
    points = artery.points[np.abs(way - way[artery.crossing_index]) <= reach]
    run = points[-1] - points[0]
    run = run / max(float(np.hypot(*run)), 1e-9)
    normal = np.array([-run[1], run[0]])
    along, off = (points - crossing.at) @ run, (points - crossing.at) @ normal
    bend = np.polyfit(along, off, 2 if np.ptp(along) > 3 and len(along) > 8 else 0)
    rows, columns = places[0] - crossing.at[0], places[1] - crossing.at[1]
    here = np.clip(rows * run[0] + columns * run[1], along.min(), along.max())
    return rows * normal[0] + columns * normal[1] - np.polyval(bend, here), run


def _blurred_column(x: Floats, width: Floats | float, blur: float, reflex: float) -> NDArray[np.float32]:
    """A column of depth 1 at `x` (n,) pixels from its middle, seen through the blur, and its derivatives by x and by width,
    (3, n); in float32, which halves the time.
    """
    found = np.zeros((3, len(x)), np.float32)
    x = (x / blur).astype(np.float32)
    half = np.asarray(width / (2 * blur), np.float32)
    for share, part in (*_COLUMN, (-reflex, _REFLEX)):
        edges = np.stack([x + np.float32(part) * half, x - np.float32(part) * half])
        found[0] += np.float32(share) * np.subtract(*ndtr(edges))
        rise, fall = np.exp(-0.5 * edges * edges) * np.float32(share / blur / np.sqrt(2 * np.pi))
        found[1] += rise - fall
        found[2] += np.float32(part / 2) * (rise + fall)
    return found


def _hats(x: Floats, spacing: float) -> Floats:
    """Weights (n, knots) of a broken line through knots about `spacing` apart."""
    knots = np.linspace(x[0], x[-1], max(2, round((x[-1] - x[0]) / spacing) + 1))
    return np.stack([np.interp(x, knots, row) for row in np.eye(len(knots))], axis=1)


class _Model:
    """Residuals of a straightened vein and their derivatives by the model's numbers.

    The numbers are those of `_PRIOR`, the vein's offset at each knot, and its and the artery's depth in each colour.
    """

    def __init__(self, vein: StraightenedVein) -> None:
        self.vein = vein
        self.at = np.flatnonzero(vein.used)
        row, column = np.divmod(self.at, len(vein.across))
        self.side, self.along, self.across = vein.side[row], vein.along[row], vein.across[column] * vein.width
        self.from_artery = vein.from_artery.ravel()[self.at]
        z = np.clip((vein.beyond[row] / _GONE - _FULL) / (1 - _FULL), 0, 1)
        self.extent = 1 - z * z * (3 - 2 * z)
        self.knots = _hats(vein.along, _POSITION_KNOTS)
        self.hats = self.knots[row]
        powers = (vein.across[:, None] / _FLANK) ** np.arange(3)
        background = _hats(vein.along, _BACKGROUND_KNOTS)[row][:, :, None] * powers[column][:, None]
        self.background = _orthonormal(background.reshape(len(self.at), -1))
        self.seen = [self._projected(grey.ravel()[self.at]) for grey in vein.grey]
        colours = len(self.seen)
        places = self.hats.shape[1]
        self.depths = [_PLACES + places + k for k in range(colours)]
        self.artery_depths = [_PLACES + places + colours + k for k in range(colours)]
        self.size = _PLACES + places + 2 * colours
        prior = np.array([*_PRIOR, *places * [_POSITION * vein.width]])
        prior[_OFFSET] *= vein.artery_width
        self.precision = np.concatenate([prior**-2, np.zeros(2 * colours)])
        self.noise = np.ones(colours)
        self._evaluated: Floats | None = None

    def offsets(self, values: Floats) -> Floats:
        """The vein's offset from its mapped line along its whole length, (along,) pixels."""
        return self.knots @ values[_PLACES : self.depths[0]]

    def _projected(self, columns: Floats) -> Floats:
        """Without what the background explains."""
        return np.asarray(columns - self.background @ (self.background.T @ columns), float)

    def start(self) -> Floats | None:
        """Nothing narrowed, widths by the map, depths by least squares; sets `noise`. None where nothing dark is there."""
        values = np.zeros(self.size)
        self._evaluated = self._projected(self._parts(values))
        parts = self._evaluated[:, [0, 1 + self.depths[0]]]
        for k, seen in enumerate(self.seen):
            depth = np.linalg.lstsq(-parts, seen, rcond=None)[0]
            self.noise[k] = max(1.4826 * float(np.median(np.abs(seen + parts @ depth))), 0.3)
            values[self.depths[k]], values[self.artery_depths[k]] = depth
        return values if values[self.depths[0]] > 0 else None

    def _parts(self, values: Floats) -> Floats:
        """Columns of a sample each (n, numbers + 4): the vein's darkness of depth 1 and its derivatives by all numbers but
        the depths, then the artery's and its derivatives by width and offset.
        """
        blur, shared = self.vein.blur, self.depths[0]
        sides = values[[_SIDE_1, _SIDE_2]][self.side]
        left = np.maximum(1 - sides * self.extent, 0.05)
        width = self.vein.width * np.exp(values[_WIDTH] + values[_SLOPE] * self.along) * left**_CALIBRE
        fade = np.exp(values[_FADE] * self.along) * left ** (1 - _CALIBRE)
        offset = self.hats @ values[_PLACES:shared]
        vein, by_x, by_width = _blurred_column(self.across - offset, width, blur, _VEIN_REFLEX)
        wide = self.vein.artery_width * float(np.exp(values[_ARTERY]))
        artery, artery_by_x, artery_by_width = band = np.zeros((3, len(self.at)))
        near = np.flatnonzero(np.abs(self.from_artery) < wide + 4 * blur)
        band[:, near] = _blurred_column(self.from_artery[near] - values[_OFFSET], wide, blur, _ARTERY_REFLEX)
        clear = fade * (1 - _HIDES * np.clip(artery, 0, 1))
        parts = np.empty((len(self.at), shared + 4))
        parts[:, 0] = clear * vein
        by_log_width = clear * by_width * width
        by_side = (_CALIBRE * by_log_width + (1 - _CALIBRE) * parts[:, 0]) * (-self.extent / left)
        derivatives = parts[:, 1:]
        derivatives[:, _WIDTH] = by_log_width
        derivatives[:, _SLOPE] = by_log_width * self.along
        derivatives[:, _FADE] = parts[:, 0] * self.along
        derivatives[:, _SIDE_1] = np.where(self.side == 0, by_side, 0)
        derivatives[:, _SIDE_2] = np.where(self.side == 1, by_side, 0)
        derivatives[:, _ARTERY] = -_HIDES * fade * vein * artery_by_width * wide
        derivatives[:, _OFFSET] = _HIDES * fade * vein * artery_by_x
        derivatives[:, _PLACES:shared] = -(clear * by_x)[:, None] * self.hats
        derivatives[:, shared], derivatives[:, shared + 1] = artery, artery_by_width * wide
        derivatives[:, shared + 2] = -artery_by_x
        return parts

    def residuals(self, values: Floats) -> tuple[Floats, Floats]:
        """Residuals (colours x samples,) in deviations of the noise, and their derivatives (.., numbers)."""
        shared = self.depths[0]
        parts = self._evaluated if self._evaluated is not None else self._projected(self._parts(values))
        self._evaluated = None  # those of the start serve the first call, which differs from it in the depths alone
        number = len(self.at)
        residuals, jacobian = np.empty(len(self.seen) * number), np.zeros((len(self.seen) * number, self.size))
        for k, seen in enumerate(self.seen):
            own = np.s_[k * number : (k + 1) * number]
            depth, artery = values[self.depths[k]] / self.noise[k], values[self.artery_depths[k]] / self.noise[k]
            residuals[own] = -depth * parts[:, 0] - artery * parts[:, 1 + shared] - seen / self.noise[k]
            np.multiply(parts[:, 1 : 1 + shared], -depth, out=jacobian[own, :shared])
            jacobian[own, _ARTERY] -= artery * parts[:, 2 + shared]
            jacobian[own, _OFFSET] -= artery * parts[:, 3 + shared]
            jacobian[own, self.depths[k]] = -parts[:, 0] / self.noise[k]
            jacobian[own, self.artery_depths[k]] = -parts[:, 1 + shared] / self.noise[k]
        return residuals, jacobian


def _orthonormal(columns: Floats) -> Floats:
    """Orthonormal columns that span the same, by Cholesky; with a trace of ridge, since some may be nearly unseen."""
    gram = columns.T @ columns
    gram += 1e-6 * np.trace(gram) / len(gram) * np.eye(len(gram))
    inverse = np.linalg.inv(np.linalg.cholesky(gram))
    return np.ascontiguousarray(columns @ inverse.T)


def _weights(residuals: Floats) -> Floats:
    """Weight of each residual under the soft-l1 loss."""
    return 1 / np.sqrt(1 + (residuals / _ROBUST) ** 2)


def _descend(model: _Model, values: Floats) -> tuple[Floats, Floats, Floats]:
    """The numbers that fit best, with residuals and derivatives there; the noise is taken anew after the first step."""

    def cost(residuals: Floats, values: Floats) -> float:
        robust = 2 * _ROBUST**2 * (np.sqrt(1 + (residuals / _ROBUST) ** 2) - 1).sum()
        return float(robust + (model.precision * values**2).sum())

    residuals, jacobian = model.residuals(values)
    best, damping = cost(residuals, values), 1e-3
    for _ in range(_STEPS):
        weighted = jacobian * _weights(residuals)[:, None]
        hessian = weighted.T @ jacobian + np.diag(model.precision)
        slope = weighted.T @ residuals + model.precision * values
        diagonal = np.diag(hessian)
        step = np.linalg.solve(hessian + np.diag(damping * diagonal + 1e-9 * diagonal.max()), slope)
        tried = values - step
        tried[:_PLACES] = np.clip(tried[:_PLACES], _LOW, _HIGH)
        there, derivatives = model.residuals(tried)
        found = cost(there, tried)
        if found < best:
            gain = (best - found) / best
            values, residuals, jacobian, best, damping = tried, there, derivatives, found, max(damping / 5, 1e-6)
            if gain < _ENOUGH:
                break
        else:
            damping *= 8
    return values, residuals, jacobian


def _standard_errors(model: _Model, residuals: Floats, jacobian: Floats) -> tuple[float, float]:
    """Standard errors of both sides: the fit's covariance with what the residuals say of the noise, correlation too.

    A residual moves a side by its influence, so that the variance is the influences' autocorrelation times the residuals'
    autocovariance (White 1980; Conley 1999), here both on the straightened grid; and what the prior leaves open.
    """
    vein, number = model.vein, len(model.at)
    weighted = jacobian * _weights(residuals)[:, None]
    inverse = np.linalg.inv(weighted.T @ jacobian + np.diag(model.precision) + 1e-9 * np.eye(model.size))
    rows = inverse[[_SIDE_1, _SIDE_2]]
    influence = rows @ weighted.T
    variance = (rows**2 * model.precision).sum(axis=1)
    shape = vein.free.shape
    double = [2 * side for side in shape]
    lags = [
        np.minimum(np.arange(2 * n), 2 * n - np.arange(2 * n)) * (x[1] - x[0])
        for n, x in zip(shape, (vein.along, vein.across), strict=True)
    ]
    window = np.exp(-0.5 * (lags[0][:, None] ** 2 + lags[1] ** 2) / _LAG**2)
    grid = np.zeros((4, *shape))
    flat = grid.reshape(4, -1)
    flat[3, model.at] = 1
    for k in range(len(model.seen)):
        own = np.s_[k * number : (k + 1) * number]
        flat[0, model.at], flat[1:3, model.at] = np.clip(residuals[own], -4, 4), influence[:, own]
        residual, *moved, known = np.fft.irfft2(np.abs(np.fft.rfft2(grid, double)) ** 2, double)
        covariance = np.where(known > 0.5, residual / np.maximum(known, 1), 0) * window
        variance += [float((each * covariance).sum()) for each in moved]
    first, second = np.sqrt(_INFLATION**2 * np.maximum(variance, 0) + _LEAST_ERROR**2)
    return float(first), float(second)
