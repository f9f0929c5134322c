"""The vessels around the disc in a report: zones and vessels laid over the photograph, their widths with error bands, a table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging import Pixels
from fundoscope.languages import gettext as _
from fundoscope.reports.overlay import jpeg_uri
from fundoscope.vessels.disc import Disc
from fundoscope.vessels.measures import CountedVessel, VesselCourse, VesselMeasures, Zone, ZoneCalibres

_SIDE = 640  # pixels of the picture's longer side
_AROUND = 1.06  # times the outer circle of zone C that the picture shows to each side
_POINTS = 36  # of a vessel's wall in the picture, at most
_RINGS = 16  # of zone C in which a width is taken for its curve
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = (
    196,
    92,
    30,
    190,
    8,
    74,
)  # of a curve's drawing, and of what is drawn in it
_BAND = 1.96  # standard errors to each side: 95 %

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class MeasuresCard:
    """The measures of a photograph as a page shows them; `mm_per_pixel` is the size of a pixel where it is known."""

    measures: VesselMeasures
    mm_per_pixel: float | None = None


def describe_measures(card: MeasuresCard, pixels: Pixels) -> dict[str, Any]:
    """What the template `vessel_measures.html.j2` draws: picture, circles, vessels, curves, the table of zones, remarks."""
    measures, disc = card.measures, card.measures.disc
    values: dict[str, Any] = {
        "reason": measures.reason, "zones": [_describe_zone(zone, card) for zone in measures.zones], "picture": None,
        "artery_tortuosity": _told(measures.artery_tortuosity), "vein_tortuosity": _told(measures.vein_tortuosity),
        "fractal_dimension": _told(measures.fractal_dimension), "curves": [],
        "confidence": "" if disc is None else f"{100 * disc.confidence:.0f} %",
    }  # fmt: skip
    if disc is None or not measures.zones:
        return values
    named = _name_vessels(measures)
    values["picture"] = _draw_picture(pixels, measures, disc, named)
    highest = max((counted.width for counted in named.values()), default=1.0) * 1.35
    values["curves"] = [
        _draw_curve(name, counted, measures, disc, highest, card.mm_per_pixel) for name, counted in named.items()
    ]
    return values


def _name_vessels(measures: VesselMeasures) -> dict[str, CountedVessel]:
    """The vessels taken, by their names: A1 the widest arteriole, V1 the widest venule; those of zone C alone come last."""
    named: dict[str, CountedVessel] = {}
    for kind in ("artery", "vein"):
        own: dict[int, CountedVessel] = {}
        for vessel in (vessel for zone in measures.zones for vessel in zone.taken):
            if measures.courses[vessel.index].kind == kind:
                own.setdefault(vessel.index, vessel)
        named |= {f"{kind[0].upper()}{number}": vessel for number, vessel in enumerate(own.values(), 1)}
    return named


def _describe_zone(zone: ZoneCalibres, card: MeasuresCard) -> dict[str, Any]:
    disc = card.measures.disc
    assert disc is not None
    in_view = f"{100 * zone.in_view:.0f} %"
    lengths = {"crae": zone.crae, "crve": zone.crve}
    return {
        "name": zone.zone.name, "in_view": in_view, "whole": zone.in_view > 0.995,
        "arterioles": len(zone.arterioles), "venules": len(zone.venules), "avr": _known(zone.avr), "four": _known(zone.ratio_of_four),
        **{name: _lengths(value, disc, card.mm_per_pixel) for name, value in lengths.items()},
    }  # fmt: skip


def _lengths(value: float, disc: Disc, mm_per_pixel: float | None) -> list[str]:
    """A length in micrometres where they are known, in pixels, in disc diameters; empty where it was not measured."""
    if not math.isfinite(value):
        return []
    micrometres = [] if mm_per_pixel is None else [f"{1000 * mm_per_pixel * value:.0f} µm"]
    return [*micrometres, f"{value:.1f} px", f"{value / disc.diameter:.3f} DD"]


def _draw_picture(
    pixels: Pixels, measures: VesselMeasures, disc: Disc, named: dict[str, CountedVessel]
) -> dict[str, Any]:
    """The photograph around the disc, and over it the zones' circles and the walls of the vessels, in its own pixels."""
    reach = _AROUND * measures.zones[-1].zone.outer
    low = np.maximum(np.floor(disc.centre - reach).astype(int), 0)
    high = np.minimum(np.ceil(disc.centre + reach).astype(int), pixels.shape[:2])
    part = pixels[low[0] : high[0], low[1] : high[1]]
    share = min(2.0, _SIDE / max(part.shape[:2]))
    vessels = []
    for name, counted in named.items():
        course = measures.courses[counted.index]
        outline, tip = _outline(course, low, share)
        vessels.append({"name": name, "kind": course.kind, "outline": outline, "x": tip[1], "y": tip[0]})
    return {
        "uri": jpeg_uri(np.ascontiguousarray(part), _SIDE, 85),
        "width": round(part.shape[1] * share), "height": round(part.shape[0] * share),
        "x": round((disc.column - low[1] + 0.5) * share, 1), "y": round((disc.row - low[0] + 0.5) * share, 1),
        "disc": round(disc.radius * share, 1),
        "circles": sorted({round(r * share, 1) for z in measures.zones for r in (z.zone.inner, z.zone.outer)}),
        "vessels": vessels,
    }  # fmt: skip


def _outline(course: VesselCourse, low: NDArray[np.int64], share: float) -> tuple[str, tuple[float, float]]:
    """The walls of a vessel as a path of the picture, in runs that count, and (row, column) of its outer end."""
    edges = (course.profile.edges - low + 0.5) * share
    runs = np.split(np.arange(len(edges)), np.flatnonzero(np.diff(course.clear.astype(int))) + 1)
    paths = []
    for run in runs:
        if course.clear[run[0]] and len(run) > 1:
            some = edges[run[np.unique(np.linspace(0, len(run) - 1, min(len(run), _POINTS)).astype(int))]]
            ring = np.concatenate([some[:, 0], some[::-1, 1]])
            paths.append("M" + "L".join(f"{column:.1f} {row:.1f}" for row, column in ring) + "Z")
    row, column = (course.line.points[-1] - low + 0.5) * share
    return "".join(paths), (round(float(row), 1), round(float(column), 1))


def _draw_curve(
    name: str, counted: CountedVessel, measures: VesselMeasures, disc: Disc, highest: float, mm_per_pixel: float | None
) -> dict[str, Any]:
    """The width of one vessel away from the disc, with its 95 % band; `highest` pixels are the top of the drawing."""
    course, whole = measures.courses[counted.index], measures.zones[-1].zone
    steps = course.width_steps(whole, _RINGS)
    x, y = _across(steps[:, 0], whole), _up(steps[:, 1], highest)
    error = _BAND * steps[:, 2]
    top, bottom = _up(steps[:, 1] + error, highest), _up(steps[:, 1] - error, highest)
    inner = measures.zones[0].zone
    unit = 1.0 if mm_per_pixel is None else 1000 * mm_per_pixel
    middle = highest / 1.35
    return {
        "name": name, "kind": course.kind, "width": _WIDTH, "height": _HEIGHT, "left": _LEFT, "right": _RIGHT, "top": _TOP, "bottom": _BOTTOM,
        "zone": (round(float(_across(np.array([inner.inner]), whole)[0]), 1), round(float(_across(np.array([inner.outer]), whole)[0]), 1)),
        "curve": " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True)),
        "band": " ".join(f"{a:.1f},{b:.1f}" for a, b in [*zip(x, top, strict=True), *zip(x[::-1], bottom[::-1], strict=True)]),
        "level": round(float(_up(np.array([counted.width]), highest)[0]), 1),
        "scale": [(f"{value * unit:.0f}", round(float(_up(np.array([value]), highest)[0]), 1)) for value in (0.0, middle)],
        "told": f"{counted.width * unit:.1f} ± {_BAND * counted.width_se * unit:.1f} {'px' if mm_per_pixel is None else 'µm'}",
        "in_zone": not any(vessel is counted for vessel in measures.zones[0].taken),
    }  # fmt: skip


def _across(away: Floats, zone: Zone) -> Floats:
    return _LEFT + (_RIGHT - _LEFT) * (away - zone.inner) / (zone.outer - zone.inner)


def _up(width: Floats, highest: float) -> Floats:
    return _BOTTOM - (_BOTTOM - _TOP) * np.clip(width / highest, 0, 1)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _told(value: float) -> str:
    """A number with three decimals, or that it was not measured."""
    return f"{value:.3f}" if math.isfinite(value) else _("not measured")
