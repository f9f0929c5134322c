"""From a cohort to out-of-fold figures, a report and a bundle, one file a step."""
