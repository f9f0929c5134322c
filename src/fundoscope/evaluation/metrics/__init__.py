"""Figures of merit with their intervals: scores, ROC and precision-recall curves, grades, recalibration, tables."""
