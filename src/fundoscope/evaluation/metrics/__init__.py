"""Figures of merit, each with its interval and what it was measured on.

`scores` holds the metrics of binary scores and works each out for many bootstrap weightings at once; `recalibration` the
slope and intercept of predicted log-odds; `intervals` the group bootstrap (`estimate`, `estimates`, `difference`) and exact
bounds of proportions; `curves` the points of ROC, precision-recall and reliability curves; `grades` kappas and recalls of
grades 0 to 3; `agreement` how far two graders agree who both may be wrong; `tables` rows for subgroups and the table of results that every study writes.
"""

from fundoscope.evaluation.metrics.agreement import Agreement, Readings, agreement_estimates, class_counts, settle
from fundoscope.evaluation.metrics.curves import (
    FALSE_POSITIVE_RATES,
    ReliabilityBin,
    pr_points,
    reliability_bins,
    roc_band,
    roc_points,
)
from fundoscope.evaluation.metrics.grades import (
    GRADE_METRICS,
    PAPER_MIX,
    grade_counts,
    grade_difference,
    grade_estimates,
    grade_metrics,
    grade_pairs,
    paper_weights,
    quadratic_kappa,
    quadratic_kappas,
)
from fundoscope.evaluation.metrics.intervals import (
    LEVEL,
    MIN_GROUPS,
    REPLICATES,
    Difference,
    Estimate,
    bootstrap,
    clopper_pearson,
    difference,
    estimate,
    estimate_share,
    estimates,
    group_codes,
    lower_bound_with_no_misses,
    resample_weights,
    wilson,
)
from fundoscope.evaluation.metrics.recalibration import RecalibrationLines, fit_recalibration, log_odds
from fundoscope.evaluation.metrics.scores import (
    ECE_BINS,
    METRICS,
    auc,
    average_precision,
    check_scores,
    compute_metrics,
    ratio,
    weighted_metrics,
)
from fundoscope.evaluation.metrics.tables import cut_into_bands, parse_numbers, results_table, subgroup_rows

__all__ = [
    "ECE_BINS",
    "FALSE_POSITIVE_RATES",
    "GRADE_METRICS",
    "LEVEL",
    "METRICS",
    "MIN_GROUPS",
    "PAPER_MIX",
    "REPLICATES",
    "Agreement",
    "Difference",
    "Estimate",
    "Readings",
    "RecalibrationLines",
    "ReliabilityBin",
    "agreement_estimates",
    "auc",
    "average_precision",
    "bootstrap",
    "check_scores",
    "class_counts",
    "clopper_pearson",
    "compute_metrics",
    "cut_into_bands",
    "difference",
    "estimate",
    "estimate_share",
    "estimates",
    "fit_recalibration",
    "grade_counts",
    "grade_difference",
    "grade_estimates",
    "grade_metrics",
    "grade_pairs",
    "group_codes",
    "log_odds",
    "lower_bound_with_no_misses",
    "paper_weights",
    "parse_numbers",
    "pr_points",
    "quadratic_kappa",
    "quadratic_kappas",
    "ratio",
    "reliability_bins",
    "resample_weights",
    "results_table",
    "roc_band",
    "roc_points",
    "settle",
    "subgroup_rows",
    "weighted_metrics",
    "wilson",
]
