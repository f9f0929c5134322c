"""Grading the nick (paper 002, sections 5.3 and 6): patches, folds, what is compared, and the figures."""
