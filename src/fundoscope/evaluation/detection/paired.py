"""Two detectors on the same photographs: the difference of a figure, each the mean over several runs (seeds)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.evaluation.metrics.intervals import Difference, bootstrap

Array = NDArray[np.float64]

#: From weights of the photographs (B, n) to figures by name, each of every run, (B, runs).
FiguresOfRuns = Callable[[Array], Mapping[str, Array]]


def paired_differences(
    first: FiguresOfRuns, second: FiguresOfRuns, truths: ArrayLike, names: tuple[str, str] = ("first", "second"),
    seed: int = 0,
) -> dict[str, Difference]:  # fmt: skip
    """Each figure of the first less the second's, means over runs, with 95 % intervals that draw photographs and runs anew.

    `truths` (n,) counts the crossings of each photograph. The runs of both are drawn together where they are as many, since
    they share their seeds. Few runs are drawn from few: their share of the interval is too narrow rather than too wide.
    """
    rng = np.random.default_rng((seed, 1))
    counted = np.asarray(truths, float)
    everything = np.ones((1, len(counted)))
    ends = [{name: float(value.mean()) for name, value in each(everything).items()} for each in (first, second)]

    def differences(weights: Array) -> Mapping[str, Array]:
        as_given = (weights == 1).all(axis=1) | (weights.sum(axis=1) == 1)  # all photographs, or one of a few
        means, drawn = [], None
        for each in (first, second):
            figures = each(weights)
            shape = next(iter(figures.values())).shape
            if drawn is None or drawn.shape != shape:
                drawn = rng.multinomial(shape[1], np.full(shape[1], 1 / shape[1]), shape[0]).astype(float)
                drawn[as_given] = 1
            means.append({name: (value * drawn).mean(axis=1) for name, value in figures.items()})
        return {name: means[0][name] - means[1][name] for name in means[0]}

    found = bootstrap(differences, counted, seed=seed)
    return {name: Difference(value, ends[0][name], ends[1][name], names, name) for name, value in found.items()}
