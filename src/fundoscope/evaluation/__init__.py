"""How good a grader is, how sure that is, and whether it reads disease or something else. Arrays in, figures out; no torch.

    metrics     AUC, sensitivity, calibration, kappa ... each with its interval; curves; tables of results
    decisions   from logits to decisions: temperature, operating points, abstention, eyes, cascades, prevalence
    controls    what a network must beat or withstand: trivial, nuisance and vessel baselines, matched photographs,
                shuffled labels
    detection   how well crossings are found (matching, COCO's scores), and where activation maps point
    likeness    whether photographs look like those that a grader learnt from, told without labels
    forensics   whether whole-number tables can have given the figures of a published table

Each part exports its public names: `from fundoscope.evaluation.decisions import Cascade`. The names that nearly every
study needs stand here too.
"""

from fundoscope.evaluation.decisions.operating_points import OperatingPoint, max_accuracy, target_sensitivity, youden
from fundoscope.evaluation.decisions.temperature import Temperature, fit_temperature
from fundoscope.evaluation.metrics.intervals import (
    Difference,
    Estimate,
    clopper_pearson,
    difference,
    estimate,
    estimates,
    lower_bound_with_no_misses,
    wilson,
)
from fundoscope.evaluation.metrics.scores import METRICS, auc, average_precision, compute_metrics
from fundoscope.evaluation.metrics.tables import results_table

__all__ = [
    "METRICS",
    "Difference",
    "Estimate",
    "OperatingPoint",
    "Temperature",
    "auc",
    "average_precision",
    "clopper_pearson",
    "compute_metrics",
    "difference",
    "estimate",
    "estimates",
    "fit_temperature",
    "lower_bound_with_no_misses",
    "max_accuracy",
    "results_table",
    "target_sensitivity",
    "wilson",
    "youden",
]
