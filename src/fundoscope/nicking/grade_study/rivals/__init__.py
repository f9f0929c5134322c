"""What a grader of nicking must beat, fitted on the same training patches: measured widths alone, and no look at all."""
