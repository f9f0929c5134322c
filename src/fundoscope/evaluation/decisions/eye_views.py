"""Several views of an eye, an exam or an infant combined to one probability and one label.

The caller's keys define the units: (infant, eye, exam) for an eye at one visit, the infant alone for all its photographs.
A photograph of an unknown infant gets a key of its own. `EyeRule` is the rule by which eyes are decided: a study
measures it, the card of a bundle carries it, and screening decides by it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError, nearest
from fundoscope.evaluation.decisions.operating_points import OperatingPoint, target_sensitivity
from fundoscope.evaluation.metrics.intervals import group_codes
from fundoscope.evaluation.metrics.recalibration import log_odds
from fundoscope.evaluation.metrics.scores import auc, check_scores

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

#: The probability of a unit is that of its highest view, of its second highest (or only) view, or the mean of its views in
#: log-odds. The first rule is the simplest; it is chosen where no other is better on inner data.
VIEW_RULES = ("any", "second", "mean")

_IN_WORDS = {"any": "the highest view", "second": "the second highest view", "mean": "the mean of the log-odds"}
_TIE = 1e-9  # AUCs nearer than this are equal but for rounding

#: Digits to which an eye's probability and its threshold are compared: those of a photograph's row in results.csv.
EYE_DIGITS = 4


@dataclass(frozen=True, slots=True, eq=False)
class EyeViews:
    """Which unit each of n photographs shows, `codes` (n,), 0 to U - 1 in the order of first appearance.

    `first` (U,) is the first row of each unit, `counts` (U,) its number of views.
    """

    codes: Rows
    first: Rows
    counts: Rows

    @classmethod
    def from_keys(cls, keys: Sequence[Hashable]) -> EyeViews:
        """The units that n `keys` name, a key a photograph."""
        codes = group_codes(keys, len(keys))
        _, first, counts = np.unique(codes, return_index=True, return_counts=True)
        return cls(codes, first, counts)

    @property
    def n_units(self) -> int:
        """How many units there are."""
        return len(self.first)

    def combine(self, p: ArrayLike, rule: str = "any") -> Array:
        """One probability for each unit by a rule of `VIEW_RULES`: (U,) for `p` (n,), (seeds, U) for (seeds, n)."""
        if rule not in VIEW_RULES:
            raise UsageError(f"There is no rule '{rule}': {nearest(rule, VIEW_RULES)}")
        _, scores = check_scores(np.zeros(len(self.codes)), p)
        if scores.size and (scores.min() < 0 or scores.max() > 1):
            raise UsageError("Views are combined as probabilities. Give values from 0 to 1.")
        units = np.array([self._combined(run, rule) for run in np.atleast_2d(scores)])
        return units[0] if scores.ndim == 1 else units

    def _combined(self, p: Array, rule: str) -> Array:
        if rule == "mean":
            from scipy.special import expit

            mean = np.bincount(self.codes, weights=log_odds(p), minlength=self.n_units) / self.counts
            # an only view is left as it is, to the last digit
            return np.where(self.counts == 1, p[self.first], expit(mean))
        ascending = p[np.lexsort((p, self.codes))]
        highest = np.cumsum(self.counts) - 1
        return ascending[highest - (self.counts > 1) if rule == "second" else highest]

    def any_positive(self, labels: ArrayLike) -> Rows:
        """1 for each unit (U,) of which any view's label (n,) is 1, else 0."""
        marks, _ = check_scores(labels, np.zeros(len(self.codes)))
        return (np.bincount(self.codes, weights=marks, minlength=self.n_units) > 0).astype(np.int64)

    def shared_values(self, values: ArrayLike) -> NDArray:
        """The value that all views of a unit share, (..., U) from (..., n): their group, fold or threshold.

        Raises `UsageError` where the views of one unit differ: the unit would stand on two sides of a split.
        """
        each = np.asarray(values)
        units = each[..., self.first]
        if (units[..., self.codes] != each).any():
            raise UsageError(
                "Views of one unit differ in what they must share. Make folds and groups hold whole units."
            )
        return units


@dataclass(frozen=True, slots=True)
class RuleChoice:
    """The `rule` that inner data chose, and why, in words."""

    rule: str
    text: str


def choose_rule(y_unit: ArrayLike, p: ArrayLike, views: EyeViews) -> RuleChoice:
    """The rule with the greatest AUC over units; call it with inner data only, since it is a choice between models.

    `y_unit` is (U,), `p` (n,) or (seeds, n): then the mean AUC over seeds decides. "any" wins ties, and where
    no unit has a second view or the units are of one class.
    """
    on = f"{views.n_units} inner units of {len(views.codes)} views"
    if (views.counts == 1).all():
        return RuleChoice(
            VIEW_RULES[0], f"{VIEW_RULES[0]} ({_IN_WORDS[VIEW_RULES[0]]}): none of {on} has a second view"
        )
    aucs = {
        rule: float(np.mean([auc(y_unit, run) for run in np.atleast_2d(views.combine(p, rule))])) for rule in VIEW_RULES
    }
    if np.isnan(aucs[VIEW_RULES[0]]):
        return RuleChoice(
            VIEW_RULES[0], f"{VIEW_RULES[0]} ({_IN_WORDS[VIEW_RULES[0]]}): {on} are of one class and tell nothing"
        )
    best = next(rule for rule in VIEW_RULES if aucs[rule] >= max(aucs.values()) - _TIE)
    beside = ", ".join(f"{rule} {value:.3f}" for rule, value in aucs.items() if rule != best)
    return RuleChoice(best, f"{best} ({_IN_WORDS[best]}): AUC {aucs[best]:.3f} on {on}; {beside}")


@dataclass(frozen=True, slots=True)
class EyeRule:
    """How the views of an eye become its decision: `views` is a rule of `VIEW_RULES`, an eye is suspected from `threshold` on.

    Only graded views count: a photograph that screening refuses has no part in the decision, and an eye without a graded
    view is not decided.
    """

    views: str
    threshold: float

    def probabilities(self, p: ArrayLike, graded: ArrayLike, eyes: EyeViews) -> Array:
        """Each eye's probability, (U,) for `p` (n,) or (seeds, U) for (seeds, n); nan for an eye without a graded view.

        `graded` (n,) says which photographs screening grades. Probabilities are rounded to `EYE_DIGITS` first.
        """
        scores, kept = np.round(np.asarray(p, float), EYE_DIGITS), np.flatnonzero(graded)
        found = np.full((*scores.shape[:-1], eyes.n_units), np.nan)
        if kept.size:
            shown = EyeViews.from_keys(eyes.codes[kept].tolist())
            found[..., eyes.codes[kept][shown.first]] = shown.combine(scores[..., kept], self.views).round(EYE_DIGITS)
        return found

    @property
    def compared_threshold(self) -> float:
        """The threshold as probabilities of eyes are compared with it."""
        return round(self.threshold, EYE_DIGITS)

    def suspects(self, p_eye: ArrayLike) -> NDArray[np.bool_]:
        """Where an eye is suspected, in the shape of `p_eye`; never where it is nan."""
        return np.asarray(p_eye, float) >= self.compared_threshold


@dataclass(frozen=True, slots=True)
class EyeRuleChoice:
    """The `rule` that inner data chose and why, in words; `point` is its operating point, None where no eye could choose."""

    rule: EyeRule
    point: OperatingPoint | None
    text: str


def choose_eye_rule(
    y: ArrayLike, p: ArrayLike, graded: ArrayLike, eyes: EyeViews, target: float, photograph_threshold: float
) -> EyeRuleChoice:
    """The rule of the greatest AUC over inner eyes with the highest threshold that keeps the sensitivity `target` there.

    `y` and `p` (n,) are labels and probabilities of inner photographs, `graded` (n,) which of them screening grades. Where
    they leave no eye of two views or eyes of one class only, nothing can be chosen: any view then decides, at
    `photograph_threshold`, as if it were alone.
    """
    labels, kept = eyes.any_positive(y), np.flatnonzero(graded)
    shown = EyeViews.from_keys(eyes.codes[kept].tolist())
    truth = labels[eyes.codes[kept][shown.first]]
    if not 0 < truth.sum() < len(truth) or shown.counts.max() == 1:
        text = f"any view, at the photograph's threshold: {shown.n_units} inner eyes of {len(kept)} graded views cannot choose"
        return EyeRuleChoice(EyeRule(VIEW_RULES[0], photograph_threshold), None, text)
    choice = choose_rule(truth, np.asarray(p, float)[kept], shown)
    p_eye = EyeRule(choice.rule, 0.0).probabilities(p, graded, eyes)
    point = target_sensitivity(truth, p_eye[eyes.codes[kept][shown.first]], target)
    threshold = round_up_threshold(point.threshold)
    return EyeRuleChoice(EyeRule(choice.rule, threshold), replace(point, threshold=threshold), choice.text)


def round_up_threshold(threshold: float) -> float:
    """The next number of `EYE_DIGITS` digits, at most 1: it parts the same eyes, since their probabilities have as many."""
    return min(1.0, float(np.ceil(threshold * 10**EYE_DIGITS - 1e-6)) / 10**EYE_DIGITS)
