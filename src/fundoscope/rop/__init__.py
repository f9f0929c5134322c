"""Retinopathy of prematurity (paper 000): screening by a bundle, and the study that makes one.

screening   photographs in, findings out; torch-free
eyes        several views of an eye to one decision; torch-free
run         a whole screening with its files, for the command line; torch-free
recipes     which networks, in which order, with every number of the fit
study       nested cross-validation from a cohort to out-of-fold figures
final       one model on all photographs, and its bundle
"""
