"""Figures in one style: each function draws one PNG and returns its path.

Colours are those of Okabe and Ito (2008), told apart by the colour-blind; line styles differ as well, for
print. Legends carry the figure with its interval, titles what it was measured on. matplotlib is loaded when
something is drawn, and its global state stays as it was.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Generator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import MissingExtraError, StudyError, UsageError, counted
from fundoscope.evaluation.metrics import (
    FALSE_POSITIVE_RATES,
    Estimate,
    check_scores,
    estimate,
    pr_points,
    roc_band,
    roc_points,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Okabe and Ito (2008), without the yellow that is lost on white: blue, vermillion, green, purple, orange,
#: sky, black.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

_LINES = ("-", "--", "-.", ":")
GREY = "#767676"
_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "savefig.dpi": 150,
}


@dataclass(frozen=True, slots=True, eq=False)
class PlottedCurve:
    """A curve to draw: what the `legend` says, and the points (x, y) of each of its `runs`, the first drawn strongest.

    `band` is (x, low, high), shaded, or None.
    """

    legend: str
    runs: Sequence[tuple[ArrayLike, ArrayLike]]
    band: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One grader whose points are not computed yet: its `name`, labels `y` (n,), scores `p` (n,) or (seeds, n), `groups`."""

    name: str
    y: ArrayLike
    p: ArrayLike
    groups: Sequence[object] | NDArray | None = None

    def plotted(self, metric: str, short: str, points: Callable[..., tuple[Any, Any]], band: bool) -> PlottedCurve:
        """The points of each seed, with the metric and its interval in the legend."""
        y, p = check_scores(self.y, self.p)
        legend = f"{self.name}: {short} {brief(estimate(self.y, self.p, metric, groups=self.groups))}"
        runs = [points(y, run) for run in np.atleast_2d(p)]  # raises for one class only
        shade = (FALSE_POSITIVE_RATES, *roc_band(self.y, self.p, self.groups)) if band and p.ndim == 1 else None
        return PlottedCurve(legend, runs, shade)


def roc(path: Path, curves: Sequence[Curve], title: str = "") -> Path:
    """`draw_roc` of graders; a 95 % band where there are at most two, and one run each."""
    refuse_nothing(curves)
    plotted = [curve.plotted("auc", "AUC", roc_points, band=len(curves) <= 2) for curve in curves]
    return draw_roc(path, plotted, title or _basis(curves[0].y, curves[0].groups))


def precision_recall(path: Path, curves: Sequence[Curve], title: str = "") -> Path:
    """`draw_precision_recall` of graders."""
    refuse_nothing(curves)
    plotted = [curve.plotted("average_precision", "AP", pr_points, band=False) for curve in curves]
    prevalence = float(np.mean(np.asarray(curves[0].y, float)))
    return draw_precision_recall(path, plotted, prevalence, title or _basis(curves[0].y, curves[0].groups))


def draw_roc(path: Path, curves: Sequence[PlottedCurve], title: str) -> Path:
    """ROC curves over each other: x is 1 - specificity, y sensitivity."""
    refuse_nothing(curves)
    with styled_axes(path, (5.2, 5.2)) as axes:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", label="chance")
        for index, curve in enumerate(curves):
            for number, (x, y) in enumerate(curve.runs):
                label = curve.legend if number == 0 else None
                axes.plot(x, y, label=label, alpha=1 if number == 0 else 0.5, **line_style(index))
            if curve.band is not None:
                axes.fill_between(*curve.band, color=PALETTE[index], alpha=0.15, linewidth=0)
        _unit(axes, "1 - specificity", "sensitivity", title)
        axes.legend(loc="lower right")
    return path


def draw_precision_recall(path: Path, curves: Sequence[PlottedCurve], prevalence: float, title: str) -> Path:
    """Precision-recall steps over each other (x is recall), with the prevalence as the line of chance."""
    refuse_nothing(curves)
    with styled_axes(path, (5.2, 5.2)) as axes:
        label = f"chance: prevalence {prevalence:.2f}"
        axes.axhline(prevalence, color=GREY, linewidth=0.8, linestyle=":", label=label)
        for index, curve in enumerate(curves):
            for number, (x, y) in enumerate(curve.runs):
                label = curve.legend if number == 0 else None
                recall, precision = np.asarray(x, float), np.asarray(y, float)
                # the step form belongs to the average precision: precision holds back to the recall before
                axes.step([0, *recall], [precision[0], *precision], where="pre", label=label,
                          alpha=1 if number == 0 else 0.5, **line_style(index))  # fmt: skip
        _unit(axes, "recall (sensitivity)", "precision", title)
        axes.legend(loc="lower left")
    return path


def grade_confusion(path: Path, cells: NDArray[np.int64], title: str = "") -> Path:
    """The same of grades: `cells` (k, k), how often each grade was told as each."""
    return _matrix(path, cells, [f"grade {k}" for k in range(len(cells))], title or f"n={cells.sum()}")


def _matrix(path: Path, cells: NDArray[np.int64], names: Sequence[str], title: str) -> Path:
    shares = cells / np.maximum(1, cells.sum(axis=1, keepdims=True))
    many = range(len(names))
    with styled_axes(path, (3.0 + 0.7 * len(names), 2.4 + 0.7 * len(names))) as axes:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (i, j), count in np.ndenumerate(cells):
            colour = "white" if shares[i, j] > 0.6 else "black"
            axes.text(j, i, f"{count}\n{shares[i, j]:.0%}", ha="center", va="center", color=colour)
        axes.set_xticks(many, [f"called {name}" for name in names])
        axes.set_yticks(many, [f"{name}\n(n={n})" for name, n in zip(names, cells.sum(axis=1), strict=True)])
        axes.set_title(title)
    return path


@dataclass(frozen=True, slots=True, eq=False)
class ReliabilityPoints:
    """Bins of like probability, each array (bins,): mean `score`, `share` of positives with its interval `low` to `high`,
    and `n` photographs.
    """

    score: ArrayLike
    share: ArrayLike
    low: ArrayLike
    high: ArrayLike
    n: ArrayLike


def draw_reliability(path: Path, bins: ReliabilityPoints, notes: Sequence[str] = (), title: str = "") -> Path:
    """Share of positives against mean probability, with intervals, n beside each bin, and `notes` in the legend."""
    x, share, low, high = (np.asarray(each, float) for each in (bins.score, bins.share, bins.low, bins.high))
    bars = np.stack([share - low, high - share]).clip(0)
    with styled_axes(path, (5.2, 5.2)) as axes:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", label="ideal")
        axes.errorbar(x, share, yerr=bars, fmt="o-", color=PALETTE[0], capsize=2, label="observed, 95 % Wilson")
        for place, height, n in zip(x, share, np.asarray(bins.n, int), strict=True):
            axes.annotate(f"n={n}", (place, height), (5, -11), textcoords="offset points", fontsize=8)
        _unit(axes, "predicted probability", "share of positives", title)
        for note in notes:
            axes.plot([], [], " ", label=note)
        axes.legend(loc="upper left")
    return path


def learning_curve(path: Path, epochs: Path, columns: Sequence[str] | None = None, title: str = "") -> Path:
    """The columns of a CSV of epochs: losses above, all else below, each with its best epoch marked.

    The CSV has a column `epoch`; rows of one epoch are put together and blanks passed over (Lightning writes
    training and validation apart). Default columns: all numeric ones but step, seconds, time and learning
    rate. Raises `StudyError` where the file holds no epoch.
    """
    series = _series(epochs, columns)
    losses = {name: points for name, points in series.items() if "loss" in name.lower()}
    others = {name: points for name, points in series.items() if name not in losses}
    panels = [panel for panel in (losses, others) if panel]
    with styled_figure(path, (6.4, 2.6 * len(panels))) as figure:
        for index, (panel, axes) in enumerate(zip(panels, np.ravel(figure.subplots(len(panels), 1)), strict=True)):
            _plot_series(axes, panel, falling=panel is losses)
            axes.set_title(title if index == 0 else "")
        axes.set_xlabel("epoch")
    return path


def losses_by_step(path: Path, steps: Path, columns: Sequence[str], title: str = "") -> Path:
    """Columns of a CSV with a column `step`, each over the steps, on a logarithmic axis; nothing where it has no row."""
    with steps.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with styled_axes(path, (6.4, 3.2)) as axes:
        for index, name in enumerate(columns):
            points = [(float(row["step"]), float(row[name])) for row in rows if _number(row.get(name))]
            axes.plot(*np.array(points).reshape(-1, 2).T, label=name, **line_style(index))
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.set_title(title)
        axes.legend(loc="upper right", ncols=2)
    return path


def _series(source: Path, columns: Sequence[str] | None) -> dict[str, list[tuple[float, float]]]:
    """(epoch, value) points of each column."""
    with source.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("epoch")]
    if not rows:
        raise StudyError(f"{source} holds no epoch. Train at least one, or name the right file.")
    names = [name for name in rows[0] if not _aside(name)] if columns is None else list(columns)
    series = {
        name: [(float(row["epoch"]), float(row[name])) for row in rows if _number(row.get(name))] for name in names
    }
    series = {name: points for name, points in series.items() if points}
    if not series:
        raise StudyError(f"{source} holds no number in {', '.join(names)}. Name columns of the file.")
    return series


def _aside(name: str) -> bool:
    word = name.lower()
    return word in ("epoch", "step", "lr") or any(part in word for part in ("second", "time", "learning_rate", "lr-"))


def _number(text: Any) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except (TypeError, ValueError):
        return False


def _plot_series(axes: Axes, panel: Mapping[str, list[tuple[float, float]]], falling: bool) -> None:
    for index, (name, points) in enumerate(panel.items()):
        x, values = np.array(points).T
        best = int(values.argmin() if falling else values.argmax())
        axes.plot(x, values, label=f"{name} (best {values[best]:.3f} at epoch {x[best]:.0f})", **line_style(index))
        axes.plot(x[best], values[best], "o", color=PALETTE[index % len(PALETTE)])
    axes.set_ylabel("loss" if falling else "value")
    axes.legend(loc="best")


def brief(each: Estimate) -> str:
    """A figure with its interval, as legends carry it."""
    if np.isnan(each.low):
        return f"{each.value:.3f} ({each.groups} groups, no interval)"
    return f"{each.value:.3f} ({each.low:.2f} to {each.high:.2f})"


def _basis(y: ArrayLike, groups: Sequence[object] | NDArray | None) -> str:
    labels = np.asarray(y, float)
    text = f"n={len(labels)}, {int(labels.sum())} positive"
    return text if groups is None else f"{text}, {counted(len(set(groups)), 'group')}"


def line_style(index: int) -> dict[str, Any]:
    """Colour and style of the line with this number, for matplotlib."""
    return {"color": PALETTE[index % len(PALETTE)], "linestyle": _LINES[index % len(_LINES)]}


def refuse_nothing(items: Sized) -> None:
    """Raise `UsageError` where there is nothing to draw."""
    if not len(items):
        raise UsageError("There is nothing to draw. Give at least one curve, column or table.")


def _unit(axes: Axes, x: str, y: str, title: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y, title=title)
    axes.set_aspect("equal")


@contextmanager
def styled_axes(path: Path, size: tuple[float, float]) -> Generator[Axes, None, None]:
    """The axes of `styled_figure` with one panel."""
    with styled_figure(path, size) as figure:
        yield figure.subplots()


@contextmanager
def styled_figure(path: Path, size: tuple[float, float]) -> Generator[Any, None, None]:
    """A figure of `size` inches in the common style, written as PNG when the block ends well."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Drawing figures", "analysis") from error
    with rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        # without the version of matplotlib in it, equal figures are equal files
        figure.savefig(path, format="png", metadata={"Software": None})
