"""Temperature and thresholds of one place, what its infants support, and figures that are honest about both.

The threshold of photographs and that of eyes are chosen alike (`evaluation.decisions.choose_local_point`). How the views of
an eye are combined stays as the bundle's card has it: chosen once more on so few eyes, the bound would no longer hold. The
figures are cross-fitted by group: each photograph is judged by the temperature and thresholds that the other parts chose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import StudyError, UsageError, counted
from fundoscope.evaluation import Estimate, estimates
from fundoscope.evaluation.decisions import (
    TARGETS,
    EyeRule,
    LocalPoint,
    Temperature,
    choose_local_point,
    fit_temperature,
    groups_enough,
    round_up_threshold,
    sensitivity_support,
)
from fundoscope.evaluation.decisions.local_points import MAX_SHORTFALL, MIN_LOCAL_GROUPS
from fundoscope.rop.recalibration.answers import LocalAnswers

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

_OF_PHOTOGRAPHS = ("auc", "sensitivity", "specificity", "brier", "ece")
_OF_EYES = ("sensitivity", "specificity")


@dataclass(frozen=True)
class LocalCalibration:
    """Temperature, the operating point of photographs, and that of eyes with its rule; None where no eye could be measured."""

    temperature: Temperature
    point: LocalPoint
    views: str
    eye_point: LocalPoint | None

    @property
    def stated(self) -> LocalPoint:
        """The operating point of what is decided: eyes where they were measured, else photographs."""
        return self.eye_point or self.point

    @property
    def eye_rule(self) -> EyeRule:
        """The rule for eyes: where none could be measured, any view decides at the threshold of a photograph."""
        point = self.eye_point
        return EyeRule("any", self.point.threshold) if point is None else EyeRule(self.views, point.threshold)


@dataclass(frozen=True)
class CrossFittedFigures:
    """Figures by photograph and (where eyes were measured) by eye, with intervals by group; each with its own thresholds."""

    photographs: dict[str, Estimate]
    eyes: dict[str, Estimate]
    parts: int


def calibrate_locally(answers: LocalAnswers, views: str, target: float, with_eyes: bool) -> LocalCalibration:
    """Temperature and thresholds from graded photographs; `views` is the bundle's rule for eyes, `target` the sensitivity."""
    kept = np.flatnonzero(answers.graded)
    y, logits, groups = answers.labels[kept], answers.logits[kept], answers.groups[kept]
    temperature = fit_temperature(logits, y)
    p = temperature.probabilities(logits)
    point = choose_local_point(y, p, groups, target)
    point = replace(point, threshold=min(1.0, point.threshold))
    if not with_eyes:
        return LocalCalibration(temperature, point, views, None)
    truth, p_eye, groups_of_eyes = eye_scores(answers, temperature, views)
    eye_point = choose_local_point(truth, p_eye, groups_of_eyes, target)
    eye_point = replace(eye_point, threshold=round_up_threshold(eye_point.threshold))
    return LocalCalibration(temperature, point, views, eye_point)


def eye_scores(answers: LocalAnswers, temperature: Temperature, views: str) -> tuple[Rows, Array, Rows]:
    """Labels, probabilities and groups of the eyes with a graded view, (eyes,) each; an eye is ill where any view is."""
    p = np.zeros(len(answers.labels))
    p[answers.graded] = temperature.probabilities(answers.logits[answers.graded])
    p_eye = EyeRule(views, 0.0).probabilities(p, answers.graded, answers.eyes)
    decided = np.flatnonzero(np.isfinite(p_eye))
    groups = answers.eyes.shared_values(answers.groups)
    return answers.eyes.any_positive(answers.labels)[decided], p_eye[decided], groups[decided]


def refuse_too_few(answers: LocalAnswers, target: float, unit: str) -> None:
    """Raise `StudyError` where the groups of either class do not support the target; it says which ones they do.

    `unit` is what a group is called: "infant", or "eye" where infants are unknown.
    """
    positive, negative = (
        len(np.unique(answers.groups[answers.graded & (answers.labels == label)])) for label in (1, 0)
    )
    units = counted(positive, unit)
    refused = answers.refused_positives
    beside = f" ({counted(refused, 'photograph')} with ROP refused)" if refused else ""
    if negative < MIN_LOCAL_GROUPS:
        raise StudyError(
            f"{counted(negative, unit)} with a graded photograph without ROP: too few to say what a threshold costs; "
            f"{MIN_LOCAL_GROUPS} are needed. Add normal photographs."
        )
    if sensitivity_support(target, positive).supported:
        return
    raise StudyError(
        f"{units} with a graded photograph of ROP{beside} are too few for a sensitivity of {target:g}: "
        f"{describe_support(target, positive)}. {_offer(positive)} Enough for {target:g} are "
        f"{max(groups_enough(target), MIN_LOCAL_GROUPS)}. Add photographs of ROP, or ask for another --sensitivity."
    )


def describe_support(target: float, groups: int) -> str:
    """What so many groups prove of a target, in words."""
    support = sensitivity_support(target, groups)
    if groups < MIN_LOCAL_GROUPS:
        return f"below {MIN_LOCAL_GROUPS} no threshold is set, and {support.hits} of {groups} called would prove {support.bound:.2f} only"
    return (
        f"{support.hits} of {groups} called prove no more than {support.bound:.2f}, and a bound more than "
        f"{MAX_SHORTFALL:g} below what is asked for says too little"
    )


def describe_targets(groups: int) -> list[str]:
    """A line for each usual target: the bound that so many groups support, or how many would be enough."""
    lines = []
    for target in TARGETS:
        support = sensitivity_support(target, groups)
        verdict = (
            "supported"
            if support.supported
            else f"not supported; {max(groups_enough(target), MIN_LOCAL_GROUPS)} would be enough"
        )
        lines.append(
            f"{target:.2f}: {support.hits} of {groups} must be called, which proves {support.bound:.2f}; {verdict}"
        )
    return lines


def _offer(groups: int) -> str:
    supported = [support for target in TARGETS if (support := sensitivity_support(target, groups)).supported]
    if not supported:
        return "So few support none of " + ", ".join(f"{target:g}" for target in TARGETS) + "."
    return "So few support " + ", ".join(f"{each.target:g} (bound {each.bound:.2f})" for each in supported) + "."


def cross_fit(
    answers: LocalAnswers, parts: Sequence[Rows], views: str, target: float, with_eyes: bool
) -> CrossFittedFigures:
    """The figures of the rule, each of `parts` (rows that it holds out) judged by what the others chose.

    Raises `UsageError` where the graded photographs outside a part are of one class.
    """
    n, every = len(answers.labels), np.arange(len(answers.labels))
    p, thresholds = np.full(n, np.nan), np.full(n, np.nan)
    eyes: list[tuple[Rows, Array, Rows, Array]] = []
    for held_out in parts:
        others = answers.select_rows(np.setdiff1d(every, held_out))
        if len(np.unique(others.labels[others.graded])) < 2:
            raise UsageError("The graded photographs outside a part are of one class. Add photographs of both classes.")
        chosen = calibrate_locally(others, views, target, with_eyes and others.decides_eyes)
        rows = held_out[answers.graded[held_out]]
        p[rows], thresholds[rows] = chosen.temperature.probabilities(answers.logits[rows]), chosen.point.threshold
        if with_eyes:
            own = answers.select_rows(held_out)
            truth, p_eye, groups = eye_scores(own, chosen.temperature, chosen.eye_rule.views)
            eyes.append((truth, p_eye, groups, np.full(len(truth), chosen.eye_rule.compared_threshold)))
    kept = answers.graded
    found = _estimates(answers.labels[kept], p[kept], thresholds[kept], answers.groups[kept], _OF_PHOTOGRAPHS)
    by_eye = _estimates(*_joined(eyes), _OF_EYES) if eyes else {}
    return CrossFittedFigures(found, by_eye, len(parts))


def _joined(parts: Sequence[tuple[Rows, Array, Rows, Array]]) -> tuple[Array, Array, Array, Array]:
    truth, p, groups, thresholds = (np.concatenate(each) for each in zip(*parts, strict=True))
    return truth, p, thresholds, groups


def _estimates(
    y: Rows | Array, p: Array, thresholds: Array, groups: Rows | Array, metrics: Sequence[str]
) -> dict[str, Estimate]:
    found = estimates(y, p, metrics=metrics, threshold=thresholds, groups=groups.tolist())
    return {str(name): estimate for name, estimate in found.items()}
