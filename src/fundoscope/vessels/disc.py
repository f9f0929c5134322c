"""The optic disc as a circle: wide vessels point to it, and the photograph brightens across its rim.

The lines that prolong the vessels vote for the places they pass, wide vessels with more weight (voting along lines: Hough
1962; for fundus photographs Hoover and Goldbaum 2003, IEEE TMI 22:951). Circles of many radii are laid around every place
of the photograph without its vessels, and the picture's gradient towards their centre is averaged along each (circles by
gradients: Kimme et al. 1975, CACM 18:120). The mean of n samples is known to 1 / sqrt(n), so that a larger circle needs a
smaller mean to be as sure: without that, the rim of the cup would often win over the rim of the disc.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging import Pixels
from fundoscope.vessels import draw
from fundoscope.vessels.graph import Mask, Points, arc_length
from fundoscope.vessels.multigraph import VesselGraph

#: Confidence from which on a disc is believed; `benchmarks/discs.py` counts discs that are, in view and out of view.
CONFIDENT = 0.7

_VOTE_EVERY = 4  # points of a centreline
_REACH = 200.0  # pixels that a vessel is prolonged to each side; as all lengths here, in a field of 540 pixels
_FLOOR = 0.05  # share of the most votes that every place has
_FLAT = 95  # percentile of the gradients' lengths beyond which they count as a full edge, whatever their height
_ANGLES = np.linspace(0, 2 * np.pi, 72, endpoint=False)
_SEEN = 0.35  # gradient towards the centre, of a full edge, from which on the rim counts as seen

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DiscLook:
    """How discs look in some photographs whose field is 540 pixels across; lengths in these pixels.

    `smallest` and `largest` radius, of which `radii` are tried; at the radius `usual` a rim counts as its mean. Votes are counted, and circles
    first laid, in cells of `cell`; a vessel's direction is taken over `direction` points to each side, votes are pooled with a deviation of
    `pooling`, and their logarithm weighs `votes` beside the rim; a place with less than `least` of the most votes is no disc. A window of `vein` closes over vessels. `steps`: by which the circle is
    moved and widened at last, finer each time.
    """

    smallest: float
    largest: float
    radii: int
    usual: float
    cell: int
    direction: int
    pooling: float
    votes: float
    least: float
    vein: int
    steps: tuple[float, ...]

    @property
    def tried(self) -> NDArray[np.float64]:
        """The radii that are tried, pixels."""
        return np.exp(np.linspace(np.log(self.smallest), np.log(self.largest), self.radii))


#: Discs of adults in fields of 60 to 25 degrees.
ADULT = DiscLook(22.0, 72.0, 14, 40.0, 4, 12, 22.0, 0.2, 0.0, 13, (3.0, 1.5, 0.75))
#: Discs of infants in fields of 130 to 120 degrees.
INFANT = DiscLook(12.0, 32.0, 11, 20.0, 2, 10, 10.0, 0.15, 0.1, 9, (2.0, 1.0, 0.5))


@dataclass(frozen=True, slots=True)
class Disc:
    """The optic disc as a circle: `row` and `column` of its centre and its `radius`, in pixels of one picture.

    `confidence`, 0 to 1, is the share of its rim at which the photograph brightens inwards; from `CONFIDENT` on it is believed.
    """

    row: float
    column: float
    radius: float
    confidence: float

    @property
    def centre(self) -> Points:
        """Row and column of the centre, (2,)."""
        return np.array([self.row, self.column])

    @property
    def diameter(self) -> float:
        """Diameter in pixels: the unit of zones, and of widths in disc diameters."""
        return 2 * self.radius

    def scaled(self, scale: float) -> Disc:
        """The same disc in a picture that is resampled to `scale` times the size."""
        row, column = (self.centre + 0.5) * scale - 0.5
        return Disc(float(row), float(column), self.radius * scale, self.confidence)

    def draw(self, canvas: Pixels) -> None:
        """Draw the rim onto a photograph (rows, columns, 3)."""
        draw.ring(canvas, self.centre, self.radius, draw.MARK)


def find_disc(graph: VesselGraph, field: Mask, pixels: Pixels, look: DiscLook = ADULT) -> Disc | None:
    """The disc of a photograph (rows, columns, 3) whose field is 540 pixels across, by its vessel graph; None where there are no vessels.

    `field` (rows, columns) is the field of view; the disc's centre is looked for inside it only.
    """
    votes = _count_votes(graph, field.shape, look)
    if not votes.any():
        return None
    plane, cell = _without_vessels(pixels, look.vein), look.cell
    size = votes.shape[::-1]
    seen = cv2.resize(field.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    down, right = _edges(np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32), seen)
    prior = look.votes * np.log(votes / votes.max() + _FLOOR)
    scores = np.stack([_rims(down, right, radius / cell) * np.sqrt(radius / look.usual) for radius in look.tried])
    scores += prior
    scores[:, ~seen | (votes < look.least * votes.max())] = -np.inf
    k, row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    smooth = np.asarray(cv2.GaussianBlur(plane, (0, 0), cell / 2), np.float32)
    return _refined(*_edges(smooth, field), cell * np.array([row, column]), look.tried[k], look)


def _count_votes(graph: VesselGraph, shape: tuple[int, ...], look: DiscLook) -> NDArray[np.float64]:
    """The vessels' votes for each cell, pooled."""
    cell, direction = look.cell, look.direction
    rows, columns = (side // cell + 1 for side in shape)
    starts, runs, weights = [np.zeros((0, 2))], [np.zeros((0, 2))], [np.zeros(0)]
    for *_, data in graph.edges():
        path = data["path"]
        if len(path) < 2 or arc_length(path)[-1] < direction:
            continue
        at = np.arange(0, len(path), _VOTE_EVERY)
        ahead, back = np.minimum(at + direction, len(path) - 1), np.maximum(at - direction, 0)
        starts.append(path[at])
        runs.append(path[ahead] - path[back])
        weights.append(data["radius"][at] ** 2)
    start, run = (np.concatenate(parts) / cell for parts in (starts, runs))
    run /= np.maximum(np.hypot(*run.T), 1e-9)[:, None]
    reach = np.arange(-_REACH, _REACH + 1, cell) / cell
    row, column = (np.rint(start[:, k, None] + reach * run[:, k, None]).astype(np.int32) for k in (0, 1))
    inside = (row >= 0) & (column >= 0) & (row < rows) & (column < columns)
    weight = np.broadcast_to(np.concatenate(weights)[:, None], inside.shape)
    votes = np.bincount(row[inside] * columns + column[inside], weight[inside], rows * columns).astype(float)
    return np.asarray(cv2.GaussianBlur(votes.reshape(rows, columns), (0, 0), look.pooling / cell), float)


def _without_vessels(pixels: Pixels, vein: int) -> Plane:
    """Mean of red and green (rows, columns), closed over the vessels: a disc is brighter in both, a cup in green above all."""
    plane = cv2.addWeighted(pixels[..., 0], 0.5, pixels[..., 1], 0.5, 0)
    window = cv2.getStructuringElement(cv2.MORPH_RECT, (vein, vein))
    return np.asarray(cv2.morphologyEx(plane, cv2.MORPH_CLOSE, window), np.float32)


def _edges(plane: Plane, field: Mask) -> tuple[Plane, Plane]:
    """Gradient downwards and to the right, of length 0 to 1: high edges count hardly more than middling ones."""
    down, right = cv2.Sobel(plane, cv2.CV_32F, 0, 1), cv2.Sobel(plane, cv2.CV_32F, 1, 0)
    inner = cv2.erode(field.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=0) > 0
    length = np.hypot(down, right)
    if not inner.any():
        return np.zeros_like(plane), np.zeros_like(plane)
    weight = inner / (length + max(float(np.percentile(length[inner], _FLAT)), 1e-6))
    return (down * weight).astype(np.float32), (right * weight).astype(np.float32)


def _rims(down: Plane, right: Plane, radius: float) -> Plane:
    """Mean gradient towards each place along the circle of `radius` pixels around it."""
    rows, columns = _rim_kernels(radius)
    sums = [cv2.filter2D(a, -1, b, borderType=cv2.BORDER_CONSTANT) for a, b in ((down, rows), (right, columns))]
    return np.asarray(sums[0] + sums[1], np.float32)


@lru_cache(maxsize=64)
def _rim_kernels(radius: float) -> tuple[Plane, Plane]:
    half = int(np.ceil(radius)) + 1
    row, column = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
    distance = np.maximum(np.hypot(row, column), 1e-9)
    weight = np.clip(1 - np.abs(distance - radius), 0, None)
    weight /= weight.sum() * distance
    return (-weight * row).astype(np.float32), (-weight * column).astype(np.float32)


def _refined(down: Plane, right: Plane, centre: Points, radius: float, look: DiscLook) -> Disc:
    """The circle near `centre` and `radius` along which the gradient towards its own centre is most."""
    best, seen = np.array([*centre, radius], float), 0.0
    for step in look.steps:
        moves = step * np.arange(-2, 3)
        circles = best + np.stack(np.meshgrid(moves, moves, moves, indexing="ij"), -1).reshape(-1, 3)
        circles = circles[circles[:, 2] >= look.smallest]
        row, column = (circles[:, k, None] + circles[:, 2:] * wave(_ANGLES) for k, wave in ((0, np.sin), (1, np.cos)))
        x, y = column.astype(np.float32), row.astype(np.float32)
        inwards = -sum(
            wave(_ANGLES) * cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
            for plane, wave in ((down, np.sin), (right, np.cos))
        )
        k = int((inwards.mean(axis=1) * np.sqrt(circles[:, 2])).argmax())
        best, seen = circles[k], float((inwards[k] >= _SEEN).mean())
    return Disc(*map(float, best), seen)
