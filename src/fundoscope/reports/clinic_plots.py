"""Figures for the clinic in the style of `plots`: what acting on a grader gains, and who the infants are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fundoscope.reports.plots import GREY, PlottedCurve, line_style, refuse_nothing, styled_axes, styled_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROOM = 1.15  # of the greatest net benefit, shown above 0
_BELOW = -0.35  # of it, shown below 0: how bad a model is that does harm matters less than that it does
_REFERENCE_LINES = ("--", ":")


def draw_net_benefit(
    path: Path, models: Sequence[PlottedCurve], references: Sequence[PlottedCurve], prevalence: float, title: str = ""
) -> Path:
    """Net benefit over threshold probabilities: a line a model, and grey ones for treating all and none."""
    refuse_nothing(models)
    with styled_axes(path, (6.4, 4.4)) as axes:
        for style, curve in zip(_REFERENCE_LINES, references, strict=False):
            axes.plot(*curve.runs[0], color=GREY, linewidth=0.9, linestyle=style, label=curve.legend)
        for index, curve in enumerate(models):
            axes.plot(*curve.runs[0], label=curve.legend, **line_style(index))
        top = max(float(np.max([prevalence, *np.asarray(curve.runs[0][1], float)])) for curve in models)
        axes.set(xlim=(0, 1), ylim=(_BELOW * top, _ROOM * top))
        axes.set(xlabel="threshold probability", ylabel="net benefit (true positives a photograph)")
        axes.set_title(title or f"prevalence {prevalence:.2f}")
        axes.legend(loc="upper right")
    return path


def draw_coverage(
    path: Path, errors: Sequence[PlottedCurve], sensitivities: Sequence[PlottedCurve], title: str = ""
) -> Path:
    """Above the error among the kept against the share kept, below the sensitivity among them."""
    refuse_nothing(errors)
    with styled_figure(path, (6.4, 5.6)) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True)
        for index, (error, sensitivity) in enumerate(zip(errors, sensitivities, strict=True)):
            upper.plot(*error.runs[0], label=error.legend, **line_style(index))
            lower.plot(*sensitivity.runs[0], **line_style(index))
        upper.set(ylabel="error among the kept", xlim=(0, 1.01))
        upper.set_ylim(bottom=0)
        upper.set_title(title)
        upper.legend(loc="best")
        lower.set(ylabel="sensitivity among the kept", xlabel="coverage: share of photographs kept")
    return path


def draw_histograms(path: Path, columns: Mapping[str, Mapping[str, Any]], title: str = "") -> Path:
    """A panel a column, counted by class; the panel's title counts the unknown.

    Of each column: `unit`, `edges` (bins + 1,), `unknown`, and `classes`, of each `n`, `median` (None where none is known)
    and `counts` (bins,).
    """
    refuse_nothing(columns)
    with styled_figure(path, (4.6 * len(columns), 3.6)) as figure:
        panels = np.ravel(figure.subplots(1, len(columns)))
        for axes, (name, column) in zip(panels, columns.items(), strict=True):
            _histogram(axes, column)
            axes.set(xlabel=f"{name} ({column['unit']})", ylabel="number" if axes is panels[0] else "")
        if title:
            figure.suptitle(title)
    return path


def _histogram(axes: Axes, column: Mapping[str, Any]) -> None:
    for index, (name, found) in enumerate(column["classes"].items()):
        middle = "none known" if found["median"] is None else f"median {found['median']:.4g}"
        label = f"{name} (n={found['n']}, {middle})"
        axes.stairs(found["counts"], column["edges"], label=label, **line_style(index))
    known = sum(found["n"] for found in column["classes"].values())
    axes.set_title(f"n={known}" + (f", {column['unknown']} unknown" if column["unknown"] else ""))
    axes.set_ylim(top=1.35 * max(1.0, axes.get_ylim()[1]))  # room for the legend
    axes.legend(loc="upper left")


def draw_confusions(
    path: Path, tables: Mapping[str, ArrayLike], names: tuple[str, str] = ("no", "yes"), title: str = ""
) -> Path:
    """Matrices side by side: of each name counts (2, 2), truth by row and decision by column, with shares of the row.

    `names` are those of the two classes. A row without a photograph shows no share.
    """
    refuse_nothing(tables)
    with styled_figure(path, (3.4 * len(tables), 3.6)) as figure:
        for axes, (name, table) in zip(np.ravel(figure.subplots(1, len(tables))), tables.items(), strict=True):
            counts = np.asarray(table, np.int64)
            _matrix(axes, counts, names)
            axes.set_title(f"{name} (n={counts.sum()})")
        if title:
            figure.suptitle(title)
    return path


def _matrix(axes: Axes, counts: Any, names: tuple[str, str]) -> None:
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(1, totals)[:, None]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(counts):
        share = f"\n{shares[i, j]:.0%}" if totals[i] else ""
        colour = "white" if shares[i, j] > 0.6 else "black"
        axes.text(j, i, f"{count}{share}", ha="center", va="center", color=colour)
    axes.set_xticks([0, 1], [f"called {name}" for name in names])
    axes.set_yticks([0, 1], [f"{name}\n(n={total})" for name, total in zip(names, totals, strict=True)])
