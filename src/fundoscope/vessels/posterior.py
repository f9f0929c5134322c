"""The vessels around an infant's disc: how wide and how tortuous they are, by quadrant.

Plus disease is judged in the vessels of the posterior pole (ICROP3, Ophthalmology 2021;128:e51). Here that is a ring around the
disc's centre, measured in disc diameters; its quadrants are those of the picture, since which side is temporal is known only where the
eye is. What is out of view, or where no disc is found, is None with its reason: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from fundoscope.vessels.disc import Disc
from fundoscope.vessels.graph import Mask, Points, arc_length, smooth_path, vessel_graph
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

_RADII = (8.0, 30.0)  # pixels of a disc's radius at a field of 540: infants' lie around 16
_CERTAIN = 0.5  # probability from which on a pixel is the disc's
_WINDOW = 1.5  # disc diameters of a vessel's run over which its chord is laid
_REACH = 1.75  # rough half widths to each side over which a vessel's map is summed up
_SAMPLES = 25  # of a cross-section


def find_disc_on_map(disc: Maps, field: Mask) -> Disc | None:
    """The disc as a circle, by the map (rows, columns) of the probability that a pixel is the disc's; None where none is likely.

    It is the likeliest patch of the map: its centre and area are weighted by probability. `confidence` is the mean probability in it.
    """
    likely = np.where(field, disc, 0).astype(np.float32)
    n, labels, _, _ = cv2.connectedComponentsWithStats((likely > _CERTAIN).astype(np.uint8))
    if n < 2:
        return None
    mass = np.bincount(labels.ravel(), likely.ravel(), n)
    mass[0] = 0
    inside = labels == int(mass.argmax())
    near = cv2.dilate(inside.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0  # the soft rim counts by its probability
    weight = np.where(near, likely, 0)
    radius = float(np.sqrt(weight.sum() / np.pi))
    if not _RADII[0] <= radius <= _RADII[1]:
        return None
    row, column = np.nonzero(near)
    at = np.average(np.column_stack([row, column]), axis=0, weights=weight[near])
    return Disc(float(at[0]), float(at[1]), radius, float(likely[inside].mean()))


@dataclass(frozen=True, slots=True, eq=False)
class PosteriorVessel:
    """One vessel in the ring: its `points` (n, 2) from the disc outwards and `length`, pixels of the map; `width` there.

    `tortuosity` is arc over chord less 1, the mean over windows of the run, so that the arcade's own wide arc hardly counts; `quadrant` the
    index in `QUADRANTS` of most of it.
    """

    points: Points
    length: float
    width: float
    tortuosity: float
    quadrant: int


@dataclass(frozen=True, slots=True)
class PosteriorQuadrant:
    """A quadrant of the ring: the share of it `in_view`, how many `vessels`, their width in disc diameters and tortuosity.

    Both are means by length, None where `reason` says why.
    """

    name: str
    in_view: float
    vessels: int
    width: float | None
    tortuosity: float | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class PosteriorVessels:
    """What was measured around the disc of one photograph, in pixels of the map; `disc` is None where none was found."""

    disc: Disc | None
    vessels: tuple[PosteriorVessel, ...] = ()
    quadrants: tuple[PosteriorQuadrant, ...] = ()

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
        """Mean width of all its vessels by their lengths, in disc diameters; None where the photograph was not measured."""
        if self.disc is None or self.reason:
            return None
        return self._mean([each.width for each in self.vessels]) / self.disc.diameter

    @property
    def tortuosity(self) -> float | None:
        """Mean tortuosity of all its vessels by their lengths; None where the photograph was not measured."""
        return None if self.reason else self._mean([each.tortuosity for each in self.vessels])

    def _mean(self, values: Sequence[float]) -> float:
        return float(np.average(values, weights=[each.length for each in self.vessels]))

    def draw(self, canvas: Pixels) -> None:
        """Draw disc, ring and the vessels that count onto a photograph (rows, columns, 3) at the map's scale."""
        if self.disc is None:
            return
        self.disc.draw(canvas)
        for radius in (INNER, OUTER):
            draw.ring(canvas, self.disc.centre, radius * self.disc.diameter, draw.MARK)
        for vessel in self.vessels:
            draw.line(canvas, vessel.points, draw.WALL)


def measure_posterior_vessels(vessel: Maps, disc: Disc | None, field: Mask, threshold: float) -> PosteriorVessels:
    """The vessels around the disc, by their map (rows, columns), 0 to 1; from `threshold` on a pixel is a vessel's.

    `field` (rows, columns) is the field of view.
    """
    if disc is None:
        return PosteriorVessels(None)
    unit = disc.diameter
    graph = vessel_graph((vessel >= threshold) & field)
    vessels = []
    for line in follow_vessels(graph, disc.centre, INNER * unit, OUTER * unit):
        run = longest_run(line.points, disc.centre, INNER * unit, OUTER * unit, LEAST * unit)
        if run is None:
            continue
        points, radius = line.points[run], line.radius[run]
        down, right = (points - disc.centre).mean(axis=0)
        width = map_width(vessel, points, 2 * float(np.median(radius[radius > 0])) if radius.any() else 2.0)
        length = float(arc_length(points)[-1])
        bent = windowed_tortuosity(points, _WINDOW * unit)
        vessels.append(PosteriorVessel(points, length, width, bent, 2 * int(down >= 0) + int(right >= 0)))
    shares = _shares_in_view(disc, field)
    quadrants = tuple(
        _measure_quadrant(name, share, [each for each in vessels if each.quadrant == k], unit)
        for k, (name, share) in enumerate(zip(QUADRANTS, shares, strict=True))
    )
    return PosteriorVessels(disc, tuple(vessels), quadrants)


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


def windowed_tortuosity(points: Points, window: float) -> float:
    """Mean of arc over chord less 1 over the runs of `window` pixels that begin at each point of a vessel (n, 2).

    A vessel that is no longer than the window is one run.
    """
    path = smooth_path(points, 1.0)
    way = arc_length(path)
    if way[-1] <= window:
        return tortuosity(points).distance
    starts = np.arange(0, way[-1] - window, 1.0)
    chords = [np.interp(starts + window, way, path[:, k]) - np.interp(starts, way, path[:, k]) for k in (0, 1)]
    return float(np.mean(window / np.maximum(np.hypot(*chords), 1e-9) - 1))


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


def _measure_quadrant(name: str, in_view: float, vessels: Sequence[PosteriorVessel], unit: float) -> PosteriorQuadrant:
    if in_view < LEAST_IN_VIEW or not vessels:
        reason = OUT_OF_VIEW if in_view < LEAST_IN_VIEW else NO_VESSELS
        return PosteriorQuadrant(name, in_view, len(vessels), None, None, reason)
    lengths = [each.length for each in vessels]
    width = float(np.average([each.width for each in vessels], weights=lengths)) / unit
    bent = float(np.average([each.tortuosity for each in vessels], weights=lengths))
    return PosteriorQuadrant(name, in_view, len(vessels), width, bent)
