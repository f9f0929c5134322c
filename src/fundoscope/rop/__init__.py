"""Retinopathy of prematurity (paper 000).

screening      photographs to findings, several views of an eye to one decision; no torch
recalibration  a bundle's temperature and thresholds set anew on labelled photographs of another place; no torch
study          nested cross-validation from a cohort to figures, a report and a bundle
recipes        every number of a study, as files
"""
