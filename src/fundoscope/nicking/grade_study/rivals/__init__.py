"""Rules that a grader of nicking must beat, fitted on the same training patches: two on measured widths, one on nothing."""
