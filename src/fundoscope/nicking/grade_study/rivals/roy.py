"""A classifier on widths of the crossing, after Roy et al. 2014 (EMBC): edges refined on the photograph, widths normalised
for each vessel.

Which features and which classifier they took is not public. Widths here are what is seen of the vein (width times depth,
`vessels.narrowing`), as shares of its own undisturbed median, and a random forest (Breiman 2001, Machine Learning 45:5)
decides: "both sides beyond a limit", which grade 3 means, is a step on two axes, as its trees take them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline

from fundoscope.errors import UsageError
from fundoscope.nicking.grade_study.rivals.trivial import Floats, Grades, check_grades
from fundoscope.vessels import Narrowing
from fundoscope.vessels.grade_rule import GRADES

#: What is known of a crossing, in this order; nan where it was not measured.
FEATURES = (
    "worse narrowing", "lesser narrowing", "least share", "spread of shares", "mean share on the worse side",
    "mean share on the lesser side", "unevenness away from the crossing", "vein over artery width",
)  # fmt: skip

_NEAR = 1.8  # vein widths from the artery's wall in which a nick ends (`simulate.nicking`)
_TREES, _LEAF = 300, 3


def features(narrowing: Narrowing | None) -> Floats:
    """The measures called `FEATURES`, (k,); all nan where there is no crossing. Where a side was not measured, nobody
    knows which one is the worse, and what is said of the worse and of the lesser side is nan.
    """
    if narrowing is None:
        return np.full(len(FEATURES), np.nan)
    bins = narrowing.profile
    share = bins.apparent_width / bins.undisturbed_width() if len(bins.apparent_width) else bins.apparent_width
    near = bins.distance < _NEAR
    sides = np.array(narrowing.sides)
    order = np.argsort(-sides)
    means = [_mean(share[near & (bins.side == side + 1)]) for side in order]
    if not np.isfinite(sides).all():
        sides, means = np.full(2, np.nan), [np.nan, np.nan]
    known = share[near & np.isfinite(share)]
    least, spread = (float(known.min()), float(known.std())) if len(known) else (np.nan, np.nan)
    ratio = narrowing.vein_width / narrowing.artery_width
    return np.array([*sides[order], least, spread, *means, bins.variation(), ratio])


def _mean(share: Floats) -> float:
    return float(share.mean()) if len(share) else float("nan")


@dataclass(frozen=True)
class RoyModel:
    """A fitted forest; `unmeasured` is the number of training patches of which nothing was known."""

    forest: Pipeline
    unmeasured: int

    def probabilities(self, features: ArrayLike) -> Floats:
        """Of grades 0 to 3, (n, 4), for features (n, k); a grade that was not trained on has 0."""
        given = np.zeros((len(np.asarray(features)), GRADES))
        given[:, self.forest.classes_] = self.forest.predict_proba(_check_features(features))
        return given

    def grades(self, features: ArrayLike) -> Grades:
        """The likeliest grade, (n,)."""
        return self.probabilities(features).argmax(axis=1)


def fit(features: ArrayLike, grades: ArrayLike, seed: int = 0) -> RoyModel:
    """The forest of training patches: features (n, k) and grades (n,).

    What is missing is the training median, with a column that says so. Raises `UsageError` for other shapes and grades.
    """
    known = _check_features(features)
    imputer = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    forest = RandomForestClassifier(_TREES, min_samples_leaf=_LEAF, random_state=seed, n_jobs=1)
    model = make_pipeline(imputer, forest).fit(known, check_grades(grades, len(known)))
    return RoyModel(model, int(np.isnan(known).all(axis=1).sum()))


def _check_features(features: ArrayLike) -> Floats:
    given = np.asarray(features, np.float64)
    if given.ndim != 2 or given.shape[1] != len(FEATURES):
        raise UsageError(f"Features of shape {given.shape} were given. Give (n, {len(FEATURES)}), a row a patch.")
    return given
