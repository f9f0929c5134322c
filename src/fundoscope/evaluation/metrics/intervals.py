"""Intervals of metrics: the group bootstrap, paired differences, and exact bounds of proportions.

Photographs of one infant resemble each other, so infants are drawn, not photographs (Field and Welsh 2007). Fewer than
`MIN_GROUPS` groups support no interval; then the value of each group is given instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.metrics.scores import LOWER_IS_BETTER, METRICS, check_metric, check_scores, weighted_metrics

Array = NDArray[np.float64]

#: A name of `METRICS`, or any function of labels (m,) and scores (m,).
Metric = str | Callable[[Array, Array], float]

Name = TypeVar("Name")

MIN_GROUPS = 10
REPLICATES = 2000
LEVEL = 0.95
#: The note of an AUC that compares photographs by one camera only.
WITHIN_CAMERAS = "pairs by one camera"
_MIN_DEFINED = 0.9  # share of resamples in which a figure must exist for its percentiles to mean anything
_CHUNK = 250_000  # weights held at once


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric with its 95 % interval and what it was measured on: `n` photographs, `positives` of them, `groups`.

    `low` and `high` are nan where no interval is given; below `MIN_GROUPS` groups `points` holds the value of
    each group instead (nan where a group holds one class only). `note` is a remark that belongs beside the figure.
    """

    value: float
    low: float
    high: float
    n: int
    positives: int
    groups: int
    points: tuple[float, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        basis = f"n={self.n}, {self.positives} positive, {self.groups} groups"
        value = "undefined" if math.isnan(self.value) else f"{self.value:.3f}"
        if self.points:
            each = ", ".join("-" if math.isnan(point) else f"{point:.2f}" for point in self.points)
            spread = f"{self.groups} groups are too few for an interval, one by one: {each}; {basis}"
        elif math.isnan(self.low):
            spread = f"no interval; {basis}"
        else:
            spread = f"{self.low:.2f} to {self.high:.2f}; {basis}"
        return f"{value} ({spread})" + (f" [{self.note}]" if self.note else "")


@dataclass(frozen=True, slots=True)
class Difference:
    """The metric of a first grader minus that of a second on the same photographs, with its interval and verdict."""

    estimate: Estimate
    first: float
    second: float
    names: tuple[str, str]
    metric: str

    @property
    def differs(self) -> bool:
        """Whether the interval excludes 0."""
        return self.estimate.low > 0 or self.estimate.high < 0

    @property
    def verdict(self) -> str:
        """Who is better, or `cannot tell them apart` where the interval includes 0 or there is none."""
        if not self.differs:
            return f"cannot tell them apart ({self.names[0]}, {self.names[1]})"
        higher = self.estimate.value > 0
        word = "lower" if self.metric in LOWER_IS_BETTER else "higher"
        winner = self.names[0] if higher == (word == "higher") else self.names[1]
        return f"{winner} has the {word} {self.metric}"

    def __str__(self) -> str:
        return f"{self.first:.3f} - {self.second:.3f} = {self.estimate}: {self.verdict}"


@dataclass(frozen=True, slots=True)
class _ScoredSample:
    """Labels (n,), scores (seeds, n), thresholds of that shape, and perhaps the number of each photograph's camera (n,)."""

    y: Array
    p: Array
    threshold: Array
    cameras: NDArray[np.int64] | None = None

    def values(self, weights: Array, metrics: Sequence[Metric]) -> dict[Metric, Array]:
        """Mean over the seeds of each metric under B weightings, (B,); nan where one seed's is undefined."""
        seeds = [self._seed_values(p, t, weights, metrics) for p, t in zip(self.p, self.threshold, strict=True)]
        return {metric: np.mean([values[metric] for values in seeds], axis=0) for metric in metrics}

    def _seed_values(
        self, p: Array, threshold: Array, weights: Array, metrics: Sequence[Metric]
    ) -> dict[Metric, Array]:
        named = [metric for metric in metrics if isinstance(metric, str)]
        values: dict[Metric, Array] = dict(weighted_metrics(self.y, p, weights, threshold, named, self.cameras))
        for metric in metrics:
            if not isinstance(metric, str):
                rows = [np.repeat(np.arange(len(self.y)), drawn.astype(int)) for drawn in weights]
                values[metric] = np.array([metric(self.y[row], p[row]) for row in rows], float)
        return values


def estimate(
    y: ArrayLike,
    p: ArrayLike,
    metric: Metric = "auc",
    *,
    threshold: ArrayLike = 0.5,
    groups: Sequence[object] | NDArray | None = None,
    weights: ArrayLike | None = None,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Estimate:
    """One metric with its percentile group-bootstrap 95 % interval (Efron and Tibshirani 1993, chapter 13).

    `y` (n,) holds 0 and 1; `p` holds scores (n,), or (seeds, n): then the metric is the mean over seeds, on the same
    resamples. `groups` (n,) names the infant of each photograph (default: each photograph is its own group). `threshold`
    is one number or has the shape (n,) or (seeds, n). `weights` (n,; above 0) say how much each photograph counts
    (`decisions.class_weights` gives classes the shares they have elsewhere); the estimate's `n` and `positives` are not
    weighted, and a metric that is a function takes no weights. Equal seeds give equal answers. Raises `UsageError` for
    shapes that do not match.
    """
    return estimates(
        y,
        p,
        metrics=(metric,),
        threshold=threshold,
        groups=groups,
        weights=weights,
        seed=seed,
        replicates=replicates,
    )[metric]


def estimates(
    y: ArrayLike,
    p: ArrayLike,
    *,
    metrics: Sequence[Metric] = METRICS,
    threshold: ArrayLike = 0.5,
    groups: Sequence[object] | NDArray | None = None,
    weights: ArrayLike | None = None,
    seed: int = 0,
    replicates: int = REPLICATES,
    cameras: Sequence[object] | NDArray | None = None,
) -> dict[Metric, Estimate]:
    """Several metrics, each as in `estimate`, all on the same resamples.

    With `cameras` (n,) the AUC counts only pairs of photographs by one camera, and its note says so: what tells cameras apart
    tells their patients apart, and earns nothing there.
    """
    graded = _scored_sample(y, p, threshold, metrics, weights, cameras)

    def values(drawn: Array) -> dict[Metric, Array]:
        return graded.values(drawn, metrics)

    found = bootstrap(values, graded.y, groups, weights=weights, seed=seed, replicates=replicates)
    if cameras is not None and "auc" in found:
        notes = [each for each in (WITHIN_CAMERAS, found["auc"].note) if each]
        found["auc"] = replace(found["auc"], note="; ".join(notes))
    return found


def difference(
    y: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    metric: Metric = "auc",
    *,
    thresholds: tuple[ArrayLike, ArrayLike] = (0.5, 0.5),
    groups: Sequence[object] | NDArray | None = None,
    weights: ArrayLike | None = None,
    names: tuple[str, str] = ("first", "second"),
    cameras: Sequence[object] | NDArray | None = None,
) -> Difference:
    """The metric of `first` minus that of `second` (scores as in `estimate`, each with its own seeds), on the same resamples;
    `cameras` as in `estimates`.
    """
    pairs = zip((first, second), thresholds, strict=True)
    a, b = (_scored_sample(y, p, at, (metric,), weights, cameras) for p, at in pairs)

    def values(drawn: Array) -> dict[Metric, Array]:
        return {metric: a.values(drawn, (metric,))[metric] - b.values(drawn, (metric,))[metric]}

    found = bootstrap(values, a.y, groups, weights=weights)[metric]
    whole = check_weights(weights, len(a.y))[None]
    ends = (float(graded.values(whole, (metric,))[metric][0]) for graded in (a, b))
    label = metric if isinstance(metric, str) else getattr(metric, "__name__", "metric")
    return Difference(found, *ends, names, label)


def _scored_sample(
    y: ArrayLike,
    p: ArrayLike,
    threshold: ArrayLike,
    metrics: Sequence[Metric],
    weights: ArrayLike | None,
    cameras: Sequence[object] | NDArray | None = None,
) -> _ScoredSample:
    labels, scores = check_scores(y, p)
    scores = np.atleast_2d(scores)
    for metric in metrics:
        if isinstance(metric, str):
            check_metric(metric)
        elif weights is not None:
            raise UsageError("A metric that is a function takes no weights. Name one of `METRICS`, or give none.")
    numbers = None if cameras is None else group_codes(cameras, len(labels))
    return _ScoredSample(labels, scores, broadcast_thresholds(scores, threshold), numbers)


def broadcast_thresholds(scores: Array, threshold: ArrayLike) -> Array:
    """Thresholds (one number, (n,) or (seeds, n)) in the shape of the scores; `UsageError` where they do not fit."""
    try:
        return np.broadcast_to(np.asarray(threshold, float), scores.shape)
    except ValueError as error:
        given = np.shape(threshold)
        raise UsageError(
            f"Thresholds {given} do not fit scores {scores.shape}. Give one, (n,) or (seeds, n)."
        ) from error


def group_codes(groups: Sequence[object] | NDArray | None, n: int) -> NDArray[np.int64]:
    """The number of each photograph's group, 0 to G - 1."""
    if groups is None:
        return np.arange(n)
    if len(groups) != n:
        raise UsageError(f"{len(groups)} groups stand beside {n} photographs. Name one group a photograph.")
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.int64)


def bootstrap(
    values: Callable[[Array], Mapping[Name, Array]],
    y: Array,
    groups: Sequence[object] | NDArray | None = None,
    *,
    weights: ArrayLike | None = None,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> dict[Name, Estimate]:
    """Estimates of the metrics that `values` computes: from weightings (B, n) to one array (B,) for each name.

    `y` (n,) is 1 for the photographs that the estimates count as positives; the rest is as in `estimate`.
    """
    n, codes, scale = len(y), group_codes(groups, len(y)), check_weights(weights, len(y))
    count = int(codes.max(initial=-1)) + 1
    whole = values(scale[None])
    few = count < MIN_GROUPS
    weightings = [np.eye(count)[:, codes]] if few else resample_weights(codes, seed, replicates)
    parts = [values(part * scale) for part in weightings] if count else []
    drawn = {name: np.concatenate([part[name] for part in parts] or [np.empty(0)]) for name in whole}
    basis = (n, int(y.sum()), count)
    if few:
        return {
            m: Estimate(float(v[0]), math.nan, math.nan, *basis, tuple(map(float, drawn[m]))) for m, v in whole.items()
        }
    return {name: _summary(name, float(value[0]), drawn[name], y, codes) for name, value in whole.items()}


def estimate_share(hits: ArrayLike, groups: Sequence[object] | NDArray | None = None) -> Estimate:
    """The share of ones among `hits` (n,), 0 or 1, with its interval; nan where n is 0."""
    hit = np.asarray(hits, float)
    return bootstrap(lambda w: {"share": (w @ hit) / w.sum(axis=1)}, hit, groups)["share"]


def check_weights(weights: ArrayLike | None, n: int) -> Array:
    """The weight of each photograph (n,), 1 where none is given; `UsageError` unless all are above 0."""
    if weights is None:
        return np.ones(n)
    each = np.asarray(weights, float)
    if each.shape != (n,) or not np.isfinite(each).all() or (each <= 0).any():
        raise UsageError(
            f"Weights {each.shape} of {n} photographs must be (n,), finite and above 0. "
            "Leave a photograph that is not to count out of the arrays."
        )
    return each


def resample_weights(codes: NDArray[np.int64], seed: int, replicates: int = REPLICATES) -> Iterator[Array]:
    """How often each photograph is drawn when G groups are drawn G times with return, in blocks (b, n) of all replicates."""
    rng = np.random.default_rng(seed)
    count = int(codes.max()) + 1
    rows = max(1, _CHUNK // len(codes))
    for start in range(0, replicates, rows):
        size = min(rows, replicates - start)
        drawn = rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        yield times[:, codes].astype(float)


def _summary(metric: object, value: float, drawn: Array, y: Array, codes: NDArray[np.int64]) -> Estimate:
    defined = drawn[np.isfinite(drawn)]
    low, high, note = math.nan, math.nan, ""
    if math.isfinite(value) and len(defined) >= _MIN_DEFINED * len(drawn):
        tail = (1 - LEVEL) / 2
        low, high = (float(edge) for edge in np.quantile(defined, [tail, 1 - tail]))
        note = _degenerate(metric, y, codes, value) if low == high == value and value in (0.0, 1.0) else ""
    elif math.isfinite(value):
        note = f"undefined in {1 - len(defined) / len(drawn):.0%} of the resamples"
    return Estimate(value, low, high, len(y), int(y.sum()), int(codes.max()) + 1, note=note)


def _degenerate(metric: object, y: Array, codes: NDArray[np.int64], value: float) -> str:
    """The note for a share of 0 or 1, which no resample changes: what the number of groups supports by the exact bound."""
    rows = {"accuracy": y >= 0, "sensitivity": y == 1, "specificity": y == 0}.get(
        metric if isinstance(metric, str) else ""
    )
    text = "no resample differs, so the bootstrap tells nothing"
    if rows is None:
        return text
    seen = len(np.unique(codes[rows]))
    bound = lower_bound_with_no_misses(seen)
    supported = f"at least {bound:.3f}" if value else f"no more than {1 - bound:.3f}"
    return f"{text}; {seen} groups support {supported} by the exact bound"


def wilson(hits: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927); (0, 1) when n is 0. Raises `UsageError` unless 0 <= hits <= n."""
    return _proportion_interval(hits, n, level, "wilson")


def clopper_pearson(hits: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Exact interval of a proportion (Clopper and Pearson 1934), never too narrow; (0, 1) when n is 0; errors as `wilson`."""
    return _proportion_interval(hits, n, level, "exact")


def _proportion_interval(hits: int, n: int, level: float, method: str) -> tuple[float, float]:
    _check_counts(hits, n)
    if n == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest

    interval = binomtest(int(hits), int(n)).proportion_ci(level, method=method)
    return max(0.0, float(interval.low)), min(1.0, float(interval.high))


def lower_bound_with_no_misses(n: int, level: float = LEVEL) -> float:
    """The lower bound of a share after n hits in n tries, one-sided: (1 - level)^(1/n), the rule of three; 0 for n = 0."""
    _check_counts(n, n)
    return (1 - level) ** (1 / n) if n else 0.0


def _check_counts(hits: int, n: int) -> None:
    if not 0 <= hits <= n:
        raise UsageError(f"{hits} hits in {n} tries cannot be. Give 0 <= hits <= n.")
