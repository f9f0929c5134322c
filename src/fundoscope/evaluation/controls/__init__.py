"""What a grader may read instead of disease: nuisance and trivial baselines, matched photographs, shuffled labels."""
