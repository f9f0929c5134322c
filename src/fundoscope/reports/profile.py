"""The small drawing of a vein's width on both sides of its artery: lines and marks for the template."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fundoscope.languages import gettext as _
from fundoscope.vessels import Narrowing

WIDTH, HEIGHT = 400, 196
_LEFT, _TOP, _BOTTOM = 34, 40, 162  # of what is drawn in
_MIDDLE = (WIDTH + _LEFT) / 2 - 4
_FAR = 5.0  # vein widths from the artery's wall that are shown
_GAP = 0.6  # vein widths between bins that are not neighbours
_HIGHEST = 1.5  # undisturbed widths
_ARTERY = (6.0, 24.0)  # pixels that half an artery may take in the drawing


def draw_profile(narrowing: Narrowing | None) -> dict[str, Any] | None:
    """Coordinates of the drawing, `WIDTH` by `HEIGHT` pixels: a curve a side, the ringed bin beside the artery.

    Heights are in undisturbed widths of the vein; where none could be measured, in its median width, and `level` is
    None. None where no width of the vein was measured at all.
    """
    if narrowing is None or not len(narrowing.profile.distance):
        return None
    bins = narrowing.profile
    level = bins.undisturbed_width()
    known = bool(np.isfinite(level))
    seen = bins.apparent_width / (level if known else max(float(np.median(bins.apparent_width)), 1e-9))
    artery = narrowing.artery_width / narrowing.unit if np.isfinite(narrowing.artery_width) else 1.0
    half = float(np.clip(artery / 2 * _scale(0.0), *_ARTERY))
    sides = [_side(narrowing, k, seen, half, known) for k in (1, 2)]
    return {
        "width": WIDTH, "height": HEIGHT, "left": _LEFT, "right": WIDTH - 8, "top": _TOP, "bottom": _BOTTOM,
        "artery": (_rounded(_MIDDLE - half), _rounded(2 * half)), "middle": _rounded(_MIDDLE), "sides": sides,
        "level": _rounded(_height(1.0)) if known else None,
        "rises": [(text, _rounded(_height(value))) for text, value in (("0", 0.0), ("½", 0.5), ("1", 1.0))],
        "steps": [(str(n), _rounded(_across(float(n), k, half))) for k in (1, 2) for n in (1, 3, 5)],
        "label": _label(narrowing),
    }  # fmt: skip


def percent(narrowing: float | None) -> str:
    """A narrowing in words, such as "38 % narrower"; blank where there is none."""
    if narrowing is None or not np.isfinite(narrowing):
        return ""
    share = round(100 * abs(narrowing))
    if not share:
        return _("as wide")
    return (_("{share} % narrower") if narrowing > 0 else _("{share} % wider")).format(share=share)


def signed(narrowing: float | None) -> str:
    """A narrowing in percent for a table, negative where the vein is wider; blank where there is none."""
    if narrowing is None or not np.isfinite(narrowing):
        return ""
    return f"{round(100 * narrowing)} %".replace("-", "\N{MINUS SIGN}")


def _side(narrowing: Narrowing, side: int, seen: NDArray[np.float64], half: float, known: bool) -> dict[str, Any]:
    bins = narrowing.profile
    own = np.flatnonzero((bins.side == side) & (bins.distance <= _FAR))
    points = [(_across(float(bins.distance[k]), side, half), _height(float(seen[k]))) for k in own]
    beside = next((point for k, point in zip(own, points, strict=True) if bins.beside_artery[k]), None)
    value = narrowing.side_1 if side == 1 else narrowing.side_2
    drawn = known and beside is not None and bool(np.isfinite(value))  # the fit may know what no single bin shows
    return {
        "number": side,
        "curves": [
            " ".join(f"{points[k][0]:.1f},{points[k][1]:.1f}" for k in run)
            for run in _runs(bins.distance[own])
            if len(run) > 1
        ],
        "points": [(_rounded(x), _rounded(y)) for x, y in points],
        "beside": (_rounded(beside[0]), _rounded(beside[1])) if beside is not None else None,
        "words": percent(value) or _("not measured"),
        "measured": drawn,
    }


def _runs(place: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """VeinProfile that lie next to each other: over a stretch that was not seen no line is drawn."""
    return np.split(np.arange(len(place)), np.flatnonzero(np.diff(place) > _GAP) + 1)


def _scale(half: float) -> float:
    """Pixels of a vein's width."""
    return (WIDTH - 8 - _MIDDLE - half) / _FAR


def _across(place: float, side: int, half: float) -> float:
    away = half + max(place, 0.0) * _scale(half)
    return _MIDDLE + (away if side == 2 else -away)


def _height(share: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * min(max(share, 0.0), _HIGHEST) / _HIGHEST


def _label(narrowing: Narrowing) -> str:
    words = [percent(value) or _("not measured") for value in (narrowing.side_1, narrowing.side_2)]
    told = _("Seen width of the vein beside the artery against further away: side 1 {first}, side 2 {second}")
    return told.format(first=words[0], second=words[1])


def _rounded(value: float) -> float:
    return round(value, 1)
