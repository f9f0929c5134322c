"""The figures of what networks look at, as rows with intervals, from the files of `explanations/`. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fundoscope.evaluation.metrics import Estimate
from fundoscope.nicking.grade_study.prediction_table import ACTIVATIONS, CHANGES, DELETIONS
from fundoscope.nicking.grade_study.resampling import Resamples

Row = dict[str, Any]


def pointing_figures(explained: Path) -> Iterator[Row]:
    """For each network and stream: the share of its activation on the venous flanks of nicked patches, and that share over
    the flanks' share of the area, which chance would give.
    """
    for about, found, resamples in _by(explained / ACTIVATIONS, ["grader", "stream"]):
        mass, area = (resamples.weights @ found[name].to_numpy() for name in ("mass", "area"))
        yield about | {
            "over_chance": _estimate(resamples, mass / area),
            "mass": _mean(resamples, found["mass"].to_numpy()),
        }


def deletion_figures(explained: Path) -> Iterator[Row]:
    """For each network: by how much the probability of a nick falls in nicked patches, by what is blanked; and paired, how much
    more at the marked place than elsewhere on vessels.
    """
    for about, found, resamples in _by(explained / DELETIONS, ["grader"]):
        falls = {name: found[name].to_numpy() for name in ("before", "marked", "elsewhere", "least")}
        falls["marked_less_elsewhere"] = falls["marked"] - falls["elsewhere"]
        yield about | {name: _mean(resamples, values) for name, values in falls.items()}


def change_figures(explained: Path) -> Iterator[Row]:
    """For each network, stream and change of the input: the share of the class activation that stays, as the mean over grades,
    and of each grade.
    """
    for about, found, resamples in _by(explained / CHANGES, ["grader", "stream", "change"]):
        grades = [name for name in found.columns if name.startswith("stays_")]
        each = found[grades].to_numpy()
        known = np.isfinite(each)
        mean = np.where(known, each, 0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
        shares = {"stays": mean, **dict(zip(grades, each.T, strict=True))}
        yield about | {name: _mean(resamples, values) for name, values in shares.items()}


def _by(path: Path, keys: list[str]) -> Iterator[tuple[Row, pd.DataFrame, Resamples]]:
    """The rows of a file by these columns, in their order, each with resamples of its patches; none without the file."""
    rows = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=keys)
    for _, found in rows.groupby(keys, sort=False):
        resamples = Resamples.draw(found["photograph"].astype(str).tolist(), found["crossing"].astype(str).tolist())
        yield dict(found.iloc[0][keys]), found, resamples


def _mean(resamples: Resamples, values: NDArray[np.float64]) -> Estimate:
    """The mean of values (n,), without those that are nan."""
    known = np.isfinite(values)
    if not known.any():
        return _estimate(resamples, np.full(len(resamples.weights), np.nan), known)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (resamples.weights @ np.where(known, values, 0)) / (resamples.weights @ known.astype(float))
    return _estimate(resamples, means, known)


def _estimate(resamples: Resamples, values: NDArray[np.float64], known: NDArray[np.bool_] | None = None) -> Estimate:
    every = np.ones(len(resamples.photographs), bool)
    return resamples.estimate(values, every, every if known is None else known)
