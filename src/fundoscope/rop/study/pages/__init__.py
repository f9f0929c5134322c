"""Step 11, `report.html`: what was run, what it found and what to beware of, in one page.

It draws `results.json`, `tables/curves.csv`, the logs of the fits and the pictures of `explained/`; it computes nothing.

sample    photographs, folds, infants (table 3 and figures 3, 6 and 11 of paper 000)
accuracy  networks and their cost (table 5), figures with intervals (tables 4 and 6, figures 7 to 9), controls, INT8
cameras   figures by camera, on a camera that was never seen, and in other renderings
clinic    the cascade, operating points, abstention, decision curves, subgroups: what the paper lacks
gallery   right and wrong photographs with their maps (figure 10), learning curves
"""

from fundoscope.rop.study.pages.page import write_report

__all__ = ["write_report"]
