"""How good a grader is, how sure that is, and what it may have been reading instead of disease.

Numbers in, tables with intervals and figures out; no model, no torch. Here stand the parts that need numbers
only. `figures` (matplotlib), `baselines`, `nuisance` and `controls` (photographs) are imported by their
names.
"""

from fundoscope.evaluation.controls.shuffled_labels import ShuffleControl, shuffle_verdict
from fundoscope.evaluation.decisions.calibration import (
    OperatingPoint,
    Temperature,
    fit_temperature,
    max_accuracy,
    target_sensitivity,
    youden,
)
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
from fundoscope.evaluation.metrics.scores import NAMES, auc, average_precision, measure
from fundoscope.evaluation.metrics.tables import results_table

__all__ = [
    "NAMES",
    "Difference",
    "Estimate",
    "OperatingPoint",
    "ShuffleControl",
    "Temperature",
    "auc",
    "average_precision",
    "clopper_pearson",
    "difference",
    "estimate",
    "estimates",
    "fit_temperature",
    "lower_bound_with_no_misses",
    "max_accuracy",
    "measure",
    "results_table",
    "shuffle_verdict",
    "target_sensitivity",
    "wilson",
    "youden",
]
