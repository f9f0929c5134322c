"""The vessels around an infant's disc: how wide and how tortuous they are, by quadrant.

Plus disease is judged in the vessels of the posterior pole (ICROP3, Ophthalmology 2021;128:e51). Here that is a ring around the
disc's centre, measured in disc diameters; its quadrants are those of the picture, since which side is temporal is known only where the
eye is. What is out of view, or where no disc is found, is None with its reason: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging import Pixels
from fundoscope.imaging.places import QUADRANTS
from fundoscope.languages import kept_text
from fundoscope.vessels import draw
from fundoscope.vessels.courses import follow_vessels, longest_run
from fundoscope.vessels.disc import INFANT, Disc, find_disc
from fundoscope.vessels.graph import Mask, Points, arc_length, smooth_path, vessel_graph
from fundoscope.vessels.multigraph import VesselGraph
from fundoscope.vessels.tortuosity import tortuosity

Floats = NDArray[np.float64]
Maps = NDArray[np.float32]

#: The ring around the disc's centre, and how far a vessel must run outwards in it to count, in disc diameters.
INNER, OUTER, LEAST = 1.0, 4.5, 1.0
LEAST_IN_VIEW = 0.5  # share of a quadrant of the ring from which on it is measured
LEAST_QUADRANTS = 2  # quadrants, as many as plus disease takes (ICROP3), from which on a photograph is measured

NO_DISC = kept_text("no disc was found")
FEW_QUADRANTS = kept_text("{n} of 4 quadrants around the disc are in view with vessels, 2 are needed")
OUT_OF_VIEW = "out of view"
NO_VESSELS = "no vessel runs through it"

_RIM = 0.8  # share of a disc's rim that must be seen
_LESS_RIM, _SECOND = 0.6, 0.2  # or so much, where the network's mean probability of a disc inside it is so high
_READINGS = (
    1.0,
    0.7,
    1.4,
    1.85,
)  # times the threshold: vessels are read off the map at each, and what they give is averaged
_WINDOW = 1.5  # disc diameters of a vessel's run over which its chord is laid
_SMOOTH = 2.0  # pixels over which a vessel's course is smoothed before its arc is measured
_TRIMMED = 0.1  # share of the windows, the straightest and the most bent, that are left out
_REACH = 1.75  # rough half widths to each side over which a vessel's map is summed up
_SAMPLES = 25  # of a cross-section


def find_infant_disc(graph: VesselGraph, likely: Maps, field: Mask, pixels: Pixels) -> Disc | None:
    """The disc of an infant's photograph (rows, columns, 3), by its vessel graph and its rim; None where none is believed.

    Two witnesses: the share of the rim that is seen, its `confidence`, and the network's map (rows, columns) of how `likely` a pixel is the
    disc's. The network alone misses many real discs and takes others for too small, so that it finds none, and only confirms.
    """
    disc = find_disc(graph, field, pixels, INFANT)
    if disc is None or disc.confidence < _LESS_RIM:
        return None
    down, right = (np.arange(side) for side in likely.shape)
    within = np.hypot(down[:, None] - disc.row, right[None, :] - disc.column) <= disc.radius
    return disc if disc.confidence >= _RIM or float(likely[within].mean()) >= _SECOND else None


@dataclass(frozen=True, slots=True, eq=False)
class PosteriorVessel:
    """One vessel in the ring: its `points` (n, 2) from the disc outwards, pixels of the map; its `width` there.

    `bends` (windows,) are arc over chord less 1 of the runs that begin along it, short ones, so that the arcade's own wide arc hardly
    counts; `weight` is length x width x the squared mean of the map along it: wide, certain vessels say most. `quadrant` is the index in
    `QUADRANTS` of most of it.
    """

    points: Points
    width: float
    bends: Floats
    weight: float
    quadrant: int


@dataclass(frozen=True, slots=True)
class PosteriorQuadrant:
    """A quadrant of the ring: the share of it `in_view`, how many `vessels`, their width in disc diameters and tortuosity.

    Both are weighted means, None where `reason` says why.
    """

    name: str
    in_view: float
    vessels: int
    width: float | None
    tortuosity: float | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class PosteriorVessels:
    """What was measured around the disc of one photograph, in pixels of the map; `disc` is None where none was found.

    The map is read at several thresholds: `readings` are the vessels of each, that of the map's own threshold first. `in_view` is the share of
    each quadrant of the ring that lies in the field.
    """

    disc: Disc | None
    readings: tuple[tuple[PosteriorVessel, ...], ...] = ()
    in_view: tuple[float, ...] = ()

    @property
    def vessels(self) -> tuple[PosteriorVessel, ...]:
        """The vessels at the map's own threshold."""
        return self.readings[0] if self.readings else ()

    @cached_property
    def quadrants(self) -> tuple[PosteriorQuadrant, ...]:
        """What was measured by quadrant, each the mean over the readings that show vessels there."""
        return tuple(self._quadrant(k) for k in range(len(self.in_view)))

    @cached_property
    def measured(self) -> list[PosteriorQuadrant]:
        """The quadrants that were measured."""
        return [each for each in self.quadrants if each.width is not None]

    @property
    def reason(self) -> str:
        """Why the photograph as a whole was not measured; blank where it was."""
        if self.disc is None:
            return NO_DISC
        return "" if len(self.measured) >= LEAST_QUADRANTS else FEW_QUADRANTS.format(n=len(self.measured))

    @property
    def width(self) -> float | None:
        """Mean width of all its vessels by their weights, in disc diameters; None where the photograph was not measured."""
        return None if self.reason else self._mean(self.readings)[0]

    @property
    def tortuosity(self) -> float | None:
        """Mean tortuosity of all its vessels by their weights; None where the photograph was not measured."""
        return None if self.reason else self._mean(self.readings)[1]

    def _quadrant(self, k: int) -> PosteriorQuadrant:
        own = [[each for each in reading if each.quadrant == k] for reading in self.readings]
        if self.in_view[k] < LEAST_IN_VIEW or not any(own):
            reason = OUT_OF_VIEW if self.in_view[k] < LEAST_IN_VIEW else NO_VESSELS
            return PosteriorQuadrant(QUADRANTS[k], self.in_view[k], len(own[0]), None, None, reason)
        return PosteriorQuadrant(QUADRANTS[k], self.in_view[k], len(own[0]), *self._mean(own))

    def _mean(self, readings: Iterable[Sequence[PosteriorVessel]]) -> tuple[float, float]:
        """Width in disc diameters and tortuosity: of each reading's vessels by their weights, then over the readings that have any."""
        assert self.disc is not None
        found = []
        for vessels in filter(len, readings):
            weights = [each.weight for each in vessels]
            each_bend = np.concatenate([np.full(len(each.bends), each.weight / len(each.bends)) for each in vessels])
            bends = trimmed_mean(np.concatenate([each.bends for each in vessels]), each_bend, _TRIMMED)
            found.append((np.average([each.width for each in vessels], weights=weights) / self.disc.diameter, bends))
        width, bent = np.mean(found, axis=0)
        return float(width), float(bent)

    def draw(self, canvas: Pixels) -> None:
        """Draw disc, ring and the vessels that count onto a photograph (rows, columns, 3) at the map's scale."""
        if self.disc is None:
            return
        self.disc.draw(canvas)
        for radius in (INNER, OUTER):
            draw.ring(canvas, self.disc.centre, radius * self.disc.diameter, draw.MARK)
        for vessel in self.vessels:
            draw.line(canvas, vessel.points, draw.WALL)


def measure_posterior_vessels(
    vessel: Maps, graph: VesselGraph, threshold: float, disc: Disc | None, field: Mask
) -> PosteriorVessels:
    """The vessels around the disc, by their map (rows, columns), 0 to 1, and its `graph` at a `threshold`.

    `field` (rows, columns) is the field of view.
    """
    if disc is None:
        return PosteriorVessels(None)
    graphs = (graph, *(vessel_graph((vessel >= share * threshold) & field) for share in _READINGS[1:]))
    readings = tuple(tuple(_measure_ring(vessel, each, disc)) for each in graphs)
    return PosteriorVessels(disc, readings, tuple(_shares_in_view(disc, field)))


def _measure_ring(vessel: Maps, graph: VesselGraph, disc: Disc) -> Iterator[PosteriorVessel]:
    """The vessels of one graph that run far enough through the ring."""
    unit = disc.diameter
    for line in follow_vessels(graph, disc.centre, INNER * unit, OUTER * unit):
        run = longest_run(line.points, disc.centre, INNER * unit, OUTER * unit, LEAST * unit)
        if run is None:
            continue
        points, radius = line.points[run], line.radius[run]
        down, right = (points - disc.centre).mean(axis=0)
        width = map_width(vessel, points, 2 * float(np.median(radius[radius > 0])) if radius.any() else 2.0)
        row, column = (np.ascontiguousarray(points[:, k, None], np.float32) for k in (0, 1))
        certainty = float(cv2.remap(vessel, column, row, cv2.INTER_LINEAR).mean())
        weight = float(arc_length(points)[-1]) * width * certainty**2
        yield PosteriorVessel(
            points, width, window_bends(points, _WINDOW * unit), weight, 2 * int(down >= 0) + int(right >= 0)
        )


def map_width(vessel: Maps, points: Points, rough: float) -> float:
    """Width in pixels of a vessel along `points` (n, 2): the median area under the map's cross-sections.

    It is finer than a pixel, and depends on no threshold. `rough` is its width on the mask: neighbours further away do not count.
    """
    path = smooth_path(points, 2.0)
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    reach = _REACH * max(rough, 2.0) / 2 + 1
    offsets = np.linspace(-reach, reach, _SAMPLES)
    row, column = (path[:, k, None] + offsets * normal[:, None] for k, normal in ((0, -along[:, 1]), (1, along[:, 0])))
    seen = cv2.remap(vessel, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR)
    return float(np.median(seen.sum(axis=1)) * (offsets[1] - offsets[0]))


def window_bends(points: Points, window: float) -> Floats:
    """Arc over chord less 1 of the runs of `window` pixels that begin at each pixel along a vessel (n, 2); (windows,).

    A vessel that is no longer than the window is one run.
    """
    path = smooth_path(points, _SMOOTH)
    way = arc_length(path)
    if way[-1] <= window:
        return np.array([tortuosity(points, _SMOOTH).distance])
    starts = np.arange(0, way[-1] - window, 1.0)
    chords = [np.interp(starts + window, way, path[:, k]) - np.interp(starts, way, path[:, k]) for k in (0, 1)]
    return window / np.maximum(np.hypot(*chords), 1e-9) - 1


def trimmed_mean(values: Floats, weights: Floats, share: float) -> float:
    """Weighted mean of `values` (n,) without those of the lowest and of the highest `share` of the weight."""
    order = np.argsort(values)
    ranks = np.cumsum(weights[order]) - weights[order] / 2
    kept = order[np.abs(ranks / weights.sum() - 0.5) <= 0.5 - share]
    kept = kept if len(kept) else order
    return float(np.average(values[kept], weights=weights[kept]))


def _shares_in_view(disc: Disc, field: Mask) -> list[float]:
    """Share of each quadrant of the ring that lies in the field, 0 to 1."""
    unit = disc.diameter
    rows, columns = (np.arange(side) for side in field.shape)
    down, right = rows[:, None] - disc.row, columns[None, :] - disc.column
    away = np.hypot(down, right)
    ring = field & (away >= INNER * unit) & (away <= OUTER * unit)
    whole = np.pi * (OUTER**2 - INNER**2) * unit**2 / 4
    sides = [(down < 0, right < 0), (down < 0, right >= 0), (down >= 0, right < 0), (down >= 0, right >= 0)]
    return [min(1.0, float((ring & up & left).sum() / whole)) for up, left in sides]
