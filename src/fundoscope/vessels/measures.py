"""What clinicians measure on the vessels around the disc: CRAE, CRVE and AVR in zones B and C, tortuosity, fractal dimension.

Zone B reaches from half a disc diameter to one from the disc's margin, zone C from half to two (Hubbard et al. 1999,
Ophthalmology 106:2269; Knudtson et al. 2003, Curr Eye Res 27:143, for the formulas). A vessel's width is the median over
its whole course in the zone. What lies out of view, or cannot be measured, is nan with its reason: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging import Pixels
from fundoscope.imaging.places import enlarged_window
from fundoscope.vessels import draw
from fundoscope.vessels.calibre import CalibreModel, WidthProfile
from fundoscope.vessels.courses import follow_vessels, longest_run
from fundoscope.vessels.disc import CONFIDENT, Disc
from fundoscope.vessels.equivalents import ARTERIOLES, FOUR, SIX, VENULES, equivalent
from fundoscope.vessels.fractal import fractal_dimension
from fundoscope.vessels.graph import Centreline, Mask, Points
from fundoscope.vessels.multigraph import VesselGraph
from fundoscope.vessels.tortuosity import tortuosity

Kind = Literal["artery", "vein"]

#: Zones by name: where they begin and end, in disc diameters from the disc's margin, and how many a vessel must run outwards
#: to count there: half of zone B's breadth, and a third of zone C's, of which most photographs show only the inner part.
ZONES = {"B": (0.5, 1.0, 0.25), "C": (0.5, 2.0, 0.5)}

NO_DISC = "no disc is seen"
UNSURE_DISC = "the disc is not seen well enough: {:.0%} of its rim"
TOO_FEW = "zone {}: {} of {} {} needed are in view"

_CLEAR, _EXPLAINED = 0.75, 0.5  # a cross-section counts whose vessel is that visible, and explained by its column
_LEAST_WIDTHS = 2.0  # widths of clear course from which on a width is known
_INDEPENDENT = 2.0  # widths between cross-sections whose errors are independent
_RINGS, _RAYS = 25, 360  # places at which it is asked what lies in view
_FAR_OFF = 2.0  # times wider, or narrower, than on its mask: the fit has found something else
_MARGIN = 4.0  # rough widths of the photograph around a vessel that are looked at

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Zone:
    """A ring around the disc: `name`, the radii `inner` and `outer` around its centre, in pixels, and how many pixels a
    vessel must at `least` run outwards to count in it.
    """

    name: str
    inner: float
    outer: float
    least: float

    @classmethod
    def around(cls, disc: Disc, name: str) -> Zone:
        """Zone B or C of a disc."""
        inner, outer, least = ZONES[name]
        return cls(
            name, disc.radius + inner * disc.diameter, disc.radius + outer * disc.diameter, least * disc.diameter
        )

    def run_of(self, line: Centreline, centre: Points) -> Points | None:
        """The points (n, 2) of a vessel in it, where the vessel runs far enough through it to count; else None."""
        run = longest_run(line.points, centre, self.inner, self.outer, self.least)
        return None if run is None else line.points[run]

    def share_in_view(self, disc: Disc, field: Mask) -> float:
        """Share of its area inside the field (rows, columns), 0 to 1."""
        radii = np.sqrt(np.linspace(self.inner**2, self.outer**2, _RINGS))  # rings of equal area
        angles = np.linspace(0, 2 * np.pi, _RAYS, endpoint=False)
        row = np.rint(disc.row + np.outer(radii, np.sin(angles))).astype(int)
        column = np.rint(disc.column + np.outer(radii, np.cos(angles))).astype(int)
        on_picture = (row >= 0) & (column >= 0) & (row < field.shape[0]) & (column < field.shape[1])
        return float(field[row[on_picture], column[on_picture]].sum() / row.size)


@dataclass(frozen=True, slots=True, eq=False)
class VesselCourse:
    """A vessel from the inner circle of zone C outwards: its `kind`, `line` and measured `profile`, in pixels of the photograph.

    `away` (n,) is the distance of each cross-section from the disc's centre, `clear` (n,) says which of them count.
    """

    kind: Kind
    line: Centreline
    profile: WidthProfile
    away: Floats
    clear: NDArray[np.bool_]

    def width_in(self, zone: Zone) -> tuple[float, float]:
        """Median width of its clear cross-sections in a zone, and its standard error, pixels; nan where too few are clear."""
        return self._typical_width(zone.inner, zone.outer, _LEAST_WIDTHS)

    def width_steps(self, zone: Zone, number: int) -> Floats:
        """Distance from the disc's centre, median width and its standard error, pixels, in each of `number` rings of a zone.

        (n, 3): rings without clear cross-sections are left out.
        """
        rings = np.linspace(zone.inner, zone.outer, number + 1)
        steps = [(low + high, *self._typical_width(low, high, 0.0)) for low, high in pairwise(rings.tolist())]
        found = np.array([(both / 2, width, error) for both, width, error in steps]).reshape(-1, 3)
        return found[np.isfinite(found[:, 1])]

    def _typical_width(self, nearest: float, farthest: float, least_widths: float) -> tuple[float, float]:
        """Errors of cross-sections that are less than two widths apart are alike, so that they count as one."""
        widths = self.profile.width[self.clear & (self.away >= nearest) & (self.away <= farthest)]
        step = float(np.median(np.diff(self.profile.way))) if len(self.profile.way) > 1 else 0.0
        if not len(widths) or len(widths) * step < least_widths * np.median(widths):
            return float("nan"), float("nan")
        width = float(np.median(widths))
        spread = 1.4826 * float(np.median(np.abs(widths - width)))  # of a normal distribution
        independent = max(len(widths) * step / (_INDEPENDENT * width), 1.0)
        return width, 1.2533 * spread / float(np.sqrt(independent))

    def runs_through(self, zone: Zone, centre: Points) -> Points | None:
        """Its points (n, 2) in a zone, where it runs through enough of it to count; else None."""
        return zone.run_of(self.line, centre)

    def draw(self, canvas: Pixels) -> None:
        """Draw its centreline onto a photograph (rows, columns, 3), and its walls where they count."""
        colour = draw.ARTERY if self.kind == "artery" else draw.VEIN
        for side in (0, 1):
            edges = self.profile.edges[:, side]
            for run in np.split(np.arange(len(edges)), np.flatnonzero(np.diff(self.clear.astype(int))) + 1):
                if self.clear[run[0]]:
                    draw.line(canvas, edges[run], colour)


@dataclass(frozen=True, slots=True)
class CountedVessel:
    """A vessel that counts in a zone: its index among all `courses`, median `width` and standard error in pixels."""

    index: int
    width: float
    width_se: float


@dataclass(frozen=True, slots=True)
class ZoneCalibres:
    """The vessels that count in a zone, widest first, and what they amount to, in pixels of the photograph.

    `in_view` is the share of the zone inside the field. An equivalent is nan where fewer than six vessels are in view, and
    `reason` says so.
    """

    zone: Zone
    in_view: float
    arterioles: tuple[CountedVessel, ...]
    venules: tuple[CountedVessel, ...]

    @property
    def crae(self) -> float:
        """Central retinal arteriolar equivalent."""
        return equivalent([vessel.width for vessel in self.arterioles], ARTERIOLES)

    @property
    def crve(self) -> float:
        """Central retinal venular equivalent."""
        return equivalent([vessel.width for vessel in self.venules], VENULES)

    @property
    def avr(self) -> float:
        """CRAE / CRVE."""
        return self.crae / self.crve

    @property
    def ratio_of_four(self) -> float:
        """The same ratio of only the four widest of each kind: not the AVR, but known in views that show no six."""
        arterioles, venules = ([each.width for each in vessels] for vessels in (self.arterioles, self.venules))
        return equivalent(arterioles, ARTERIOLES, FOUR) / equivalent(venules, VENULES, FOUR)

    @property
    def taken(self) -> tuple[CountedVessel, ...]:
        """The vessels from which the equivalents are made."""
        return (*self.arterioles[:SIX], *self.venules[:SIX])

    @property
    def reason(self) -> str:
        """Why an equivalent is missing; blank where none is."""
        counts = (("arterioles", len(self.arterioles)), ("venules", len(self.venules)))
        return "; ".join(TOO_FEW.format(self.zone.name, n, SIX, name) for name, n in counts if n < SIX)


@dataclass(frozen=True, slots=True, eq=False)
class VesselMeasures:
    """Measures of the vessels around the disc of one photograph; lengths in its pixels.

    `disc` is None, and `zones` are empty, where no disc was found. `artery_tortuosity` and `vein_tortuosity` are arc over
    chord less 1, the mean over the vessels that count in zone C, each by its length. nan stands for what was not measured.
    """

    disc: Disc | None
    courses: tuple[VesselCourse, ...] = ()
    zones: tuple[ZoneCalibres, ...] = ()
    artery_tortuosity: float = float("nan")
    vein_tortuosity: float = float("nan")
    fractal_dimension: float = float("nan")

    @property
    def reason(self) -> str:
        """Why measures are missing; blank where none is."""
        if self.disc is None:
            return NO_DISC
        if not self.zones:
            return UNSURE_DISC.format(self.disc.confidence)
        return "; ".join(filter(None, (zone.reason for zone in self.zones)))

    def draw(self, canvas: Pixels) -> None:
        """Draw disc, zones and the walls of the vessels taken onto a photograph (rows, columns, 3)."""
        if self.disc is None:
            return
        self.disc.draw(canvas)
        for radius in sorted({radius for each in self.zones for radius in (each.zone.inner, each.zone.outer)}):
            draw.ring(canvas, self.disc.centre, radius, draw.MARK)
        for index in sorted({vessel.index for zone in self.zones for vessel in zone.taken}):
            self.courses[index].draw(canvas)


#: Widths along a vessel of a kind, in pixels of the photograph.
MeasureWidths = Callable[[Centreline, Kind], WidthProfile]


@dataclass(frozen=True, slots=True, eq=False)
class VesselTrees:
    """The graphs of a photograph's arteries, of its veins, and of both, and the `field` of view (rows, columns).

    `scale` is how many of the photograph's pixels make one of theirs.
    """

    artery: VesselGraph
    vein: VesselGraph
    all: VesselGraph
    field: Mask
    scale: float = 1.0


def measure_vessels(trees: VesselTrees, disc: Disc | None, measure_widths: MeasureWidths) -> VesselMeasures:
    """The measures of a photograph by its graphs and its disc, in the graphs' pixels; widths by `measure_widths`."""
    fractal = fractal_dimension(trees.all)
    if disc is None or disc.confidence < CONFIDENT:
        found = None if disc is None else disc.scaled(trees.scale)
        return VesselMeasures(found, fractal_dimension=fractal)
    large, small = disc.scaled(trees.scale), [Zone.around(disc, name) for name in ZONES]
    whole = small[-1]
    graphs: tuple[tuple[Kind, VesselGraph], ...] = (("artery", trees.artery), ("vein", trees.vein))
    courses = []
    for kind, graph in graphs:
        for line in follow_vessels(graph, disc.centre, whole.inner, whole.outer):
            if any(zone.run_of(line, disc.centre) is not None for zone in small):
                courses.append(_measure_course(kind, line.scaled(trees.scale), large, measure_widths))
    zones = []
    for zone, own in zip((Zone.around(large, name) for name in ZONES), small, strict=True):
        counted = [_count_vessels(courses, kind, zone, large) for kind, _ in graphs]
        zones.append(ZoneCalibres(zone, own.share_in_view(disc, trees.field), *counted))
    outermost = zones[-1]
    twists = [
        _mean_tortuosity(courses, own, outermost.zone, large) for own in (outermost.arterioles, outermost.venules)
    ]
    return VesselMeasures(large, tuple(courses), tuple(zones), *twists, fractal)


def photograph_widths(model: CalibreModel, artery: Mask, vein: Mask, scale: float) -> MeasureWidths:
    """Widths from the photograph's own edges, by its calibre model; vessels of the other kind are left out.

    One pixel of the masks (rows, columns) is `scale` of the photograph's.
    """
    hiding = {"artery": vein, "vein": artery}

    def measure(line: Centreline, kind: Kind) -> WidthProfile:
        reach = _MARGIN * max(2 * float(np.median(line.radius)), 2 * scale)
        low = np.maximum(np.floor(line.points.min(axis=0) - reach), 0).astype(int)
        high = np.minimum(np.ceil(line.points.max(axis=0) + reach).astype(int) + 1, model.plane.shape)
        window = np.s_[low[0] : high[0], low[1] : high[1]]
        here = Centreline(line.points - low, line.radius, 0)
        profile = model.within(window).measure_widths(here, enlarged_window(hiding[kind], window, scale))
        return replace(profile, centres=profile.centres + low)

    return measure


def _measure_course(kind: Kind, line: Centreline, disc: Disc, measure_widths: MeasureWidths) -> VesselCourse:
    profile = measure_widths(line, kind)
    drawn = 2 * float(np.median(line.radius[line.radius > 0])) if line.radius.any() else float("nan")
    likely = (profile.width > drawn / _FAR_OFF) & (profile.width < drawn * _FAR_OFF)
    clear = likely & (profile.visible >= _CLEAR) & (profile.fit >= _EXPLAINED)
    return VesselCourse(kind, line, profile, np.hypot(*(profile.centres - disc.centre).T), clear)


def _count_vessels(courses: Sequence[VesselCourse], kind: Kind, zone: Zone, disc: Disc) -> tuple[CountedVessel, ...]:
    """The vessels of a kind that run through a zone and could be measured there, widest first."""
    counted = []
    for index, course in enumerate(courses):
        if course.kind == kind and course.runs_through(zone, disc.centre) is not None:
            width, error = course.width_in(zone)
            if np.isfinite(width):
                counted.append(CountedVessel(index, width, error))
    return tuple(sorted(counted, key=lambda vessel: -vessel.width))


def _mean_tortuosity(
    courses: Sequence[VesselCourse], counted: Sequence[CountedVessel], zone: Zone, disc: Disc
) -> float:
    """Mean arc over chord less 1 of the vessels that count in a zone, each weighted by its length; nan without any."""
    runs = [courses[vessel.index].runs_through(zone, disc.centre) for vessel in counted]
    found = [tortuosity(run) for run in runs if run is not None]
    if not found:
        return float("nan")
    return float(np.average([each.distance for each in found], weights=[each.length for each in found]))
