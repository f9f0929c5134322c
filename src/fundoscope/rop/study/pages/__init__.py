"""The report of a study: what was run, what it found, what to beware of, in one page.

sample    photographs, folds, infants (table 3 and figures 3, 6 and 11 of paper 000)
results   networks and their cost (table 5), figures with intervals (tables 4 and 6, figures 7 to 9), controls, INT8
clinic    the cascade, operating points, abstention, decision curves, subgroups: what the paper lacks
gallery   right and wrong photographs with their maps (figure 10), learning curves
"""

from fundoscope.rop.study.pages.page import write_report

__all__ = ["write_report"]
