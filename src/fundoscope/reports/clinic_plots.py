"""Figures for the clinic in the style of `figures`: what acting on a grader gains, and who the infants are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.decisions import CoverageRisk, DecisionCurve
from fundoscope.evaluation.metrics import check_scores, parse_numbers
from fundoscope.reports.plots import _GREY, _axes, _figure, _line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = 12
_ROOM = 1.15  # of the greatest net benefit, shown above 0
_BELOW = -0.35  # of it, shown below 0: how bad a model is that does harm matters less than that it does


def decision(path: Path, curves: Mapping[str, DecisionCurve], title: str = "") -> Path:
    """Net benefit over thresholds, a line a model, with treat all and treat none of the first as references."""
    first = next(iter(_some(curves).values()))
    with _axes(path, (6.4, 4.4)) as axes:
        axes.plot(first.thresholds, first.treat_all, color=_GREY, linewidth=0.9, linestyle="--", label="treat all")
        axes.plot(first.thresholds, first.treat_none, color=_GREY, linewidth=0.9, linestyle=":", label="treat none")
        for index, (name, curve) in enumerate(curves.items()):
            axes.plot(curve.thresholds, curve.model, label=name, **_line(index))
        top = max(float(curve.model.max(initial=curve.prevalence)) for curve in curves.values())
        axes.set(xlim=(0, 1), ylim=(_BELOW * top, _ROOM * top))
        axes.set(xlabel="threshold probability", ylabel="net benefit (true positives a photograph)")
        axes.set_title(title or f"prevalence {first.prevalence:.2f}")
        axes.legend(loc="upper right")
    return path


def coverage(path: Path, curves: Mapping[str, CoverageRisk], title: str = "") -> Path:
    """Above the error of what is kept against the share kept, below the sensitivity; the area is in the legend."""
    _some(curves)
    with _figure(path, (6.4, 5.6)) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True)
        for index, (name, curve) in enumerate(curves.items()):
            label = f"{name}: area {curve.aurc:.3f}, all kept {curve.error[-1]:.3f}"
            upper.plot(curve.coverage, curve.error, label=label, **_line(index))
            lower.plot(curve.coverage, curve.sensitivity, **_line(index))
        upper.set(ylabel="error among the kept", xlim=(0, 1.01))
        upper.set_ylim(bottom=0)
        upper.set_title(title or f"n={max(len(curve.coverage) for curve in curves.values())}")
        upper.legend(loc="best")
        lower.set(ylabel="sensitivity among the kept", xlabel="coverage: share of photographs kept")
    return path


def histograms(
    path: Path, columns: Mapping[str, tuple[Sequence[object] | NDArray, str]], classes: Sequence[str], title: str = ""
) -> Path:
    """A panel a column, its values (n,) counted by class; the panel's title counts the unknown.

    `columns` holds the values and their unit by name, as "birth weight": (values, "g"); `classes` (n,) the name
    of each one's class, shown in the order of first appearance. Raises `UsageError` where lengths differ, or
    where a cell is neither blank nor a number.
    """
    _some(columns)
    for name, (values, _) in columns.items():
        if len(values) != len(classes):
            raise UsageError(f"'{name}' has {len(values)} values for {len(classes)} classes. Give one for each.")
    with _figure(path, (4.6 * len(columns), 3.6)) as figure:
        panels = np.ravel(figure.subplots(1, len(columns)))
        for axes, (name, (values, unit)) in zip(panels, columns.items(), strict=True):
            _histogram(axes, parse_numbers(values), classes)
            axes.set(xlabel=f"{name} ({unit})", ylabel="number" if axes is panels[0] else "")
        if title:
            figure.suptitle(title)
    return path


def _histogram(axes: Axes, values: NDArray[np.float64], classes: Sequence[str]) -> None:
    known = np.isfinite(values)
    edges = np.histogram_bin_edges(values[known], _BINS)
    for index, name in enumerate(dict.fromkeys(classes)):
        own = values[known & (np.asarray(classes) == name)]
        middle = f"median {np.median(own):.4g}" if own.size else "none known"
        label = f"{name} (n={own.size}, {middle})"
        axes.stairs(np.histogram(own, edges)[0], edges, label=label, **_line(index))
    unknown = int((~known).sum())
    axes.set_title(f"n={int(known.sum())}" + (f", {unknown} unknown" if unknown else ""))
    axes.set_ylim(top=1.35 * max(1.0, axes.get_ylim()[1]))  # room for the legend
    axes.legend(loc="upper left")


def confusions(
    path: Path,
    pairs: Sequence[tuple[str, ArrayLike, ArrayLike]],
    names: tuple[str, str] = ("no", "yes"),
    title: str = "",
) -> Path:
    """Matrices side by side, of each (name, y, called): truth by row, decision by column, counts and row shares.

    `y` and `called` (n,) hold 0 and 1; `names` are those of the two classes. A row without a photograph shows
    no share.
    """
    if not pairs:
        raise UsageError("There is nothing to draw. Give at least one.")
    tables = [(name, _cells(y, called)) for name, y, called in pairs]
    with _figure(path, (3.4 * len(pairs), 3.6)) as figure:
        for axes, (name, cells) in zip(np.ravel(figure.subplots(1, len(pairs))), tables, strict=True):
            _matrix(axes, cells, names)
            axes.set_title(f"{name} (n={cells.sum()})")
        if title:
            figure.suptitle(title)
    return path


def _cells(y: ArrayLike, called: ArrayLike) -> NDArray[np.int64]:
    """Counts (2, 2) by truth and decision."""
    labels, decisions = check_scores(y, called)
    if decisions.ndim != 1 or not np.isin(decisions, (0, 1)).all():
        raise UsageError("Decisions must be (n,) of 0 and 1. Apply the operating point first.")
    return np.bincount((2 * labels + decisions).astype(np.int64), minlength=4).reshape(2, 2)


def _matrix(axes: Axes, cells: NDArray[np.int64], names: tuple[str, str]) -> None:
    totals = cells.sum(axis=1)
    shares = cells / np.maximum(1, totals)[:, None]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(cells):
        share = f"\n{shares[i, j]:.0%}" if totals[i] else ""
        colour = "white" if shares[i, j] > 0.6 else "black"
        axes.text(j, i, f"{count}{share}", ha="center", va="center", color=colour)
    axes.set_xticks([0, 1], [f"called {name}" for name in names])
    axes.set_yticks([0, 1], [f"{name}\n(n={total})" for name, total in zip(names, totals, strict=True)])


def _some(items: Mapping) -> Mapping:
    if not items:
        raise UsageError("There is nothing to draw. Give at least one.")
    return items
