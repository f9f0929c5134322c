"""From logits to decisions, and what the decisions are worth. Everything chosen is chosen on inner data.

`temperature` calibrates logits; `operating_points` chooses thresholds, `local_points` those of
another place with a bound of their sensitivity; `abstention` chooses the probabilities from which a
person decides instead; `eye_views` combines the views of an eye; `cascade` scores two stages in a row as one grader;
`prevalence` carries figures over to a clinic with another mix of classes (weights, predictive values, net benefit).
"""

from fundoscope.evaluation.decisions.abstention import (
    AbstentionBand,
    CoverageRisk,
    choose_band,
    coverage_risk,
    decision_confidence,
)
from fundoscope.evaluation.decisions.cascade import Cascade, score_cascade
from fundoscope.evaluation.decisions.eye_views import (
    EYE_DIGITS,
    VIEW_RULES,
    EyeRule,
    EyeRuleChoice,
    EyeViews,
    RuleChoice,
    choose_eye_rule,
    choose_rule,
    round_up_threshold,
)
from fundoscope.evaluation.decisions.local_points import (
    LocalPoint,
    SensitivitySupport,
    choose_local_point,
    groups_enough,
    sensitivity_support,
)
from fundoscope.evaluation.decisions.operating_points import (
    TARGETS,
    InnerPredictions,
    OperatingPoint,
    max_accuracy,
    operating_rows,
    target_sensitivity,
    worst_target_sensitivity,
    youden,
)
from fundoscope.evaluation.decisions.prevalence import DecisionCurve, class_weights, decision_curve, predictive_values
from fundoscope.evaluation.decisions.temperature import Temperature, fit_temperature

__all__ = [
    "EYE_DIGITS",
    "TARGETS",
    "VIEW_RULES",
    "AbstentionBand",
    "Cascade",
    "CoverageRisk",
    "DecisionCurve",
    "EyeRule",
    "EyeRuleChoice",
    "EyeViews",
    "InnerPredictions",
    "LocalPoint",
    "OperatingPoint",
    "RuleChoice",
    "SensitivitySupport",
    "Temperature",
    "choose_band",
    "choose_eye_rule",
    "choose_local_point",
    "choose_rule",
    "class_weights",
    "coverage_risk",
    "decision_confidence",
    "decision_curve",
    "fit_temperature",
    "groups_enough",
    "max_accuracy",
    "operating_rows",
    "predictive_values",
    "round_up_threshold",
    "score_cascade",
    "sensitivity_support",
    "target_sensitivity",
    "worst_target_sensitivity",
    "youden",
]
