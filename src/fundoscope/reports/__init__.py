"""Pages and pictures for people. They draw the values that they are given and compute none; no torch in here.

overlay      an activation map laid over its photograph
screening    the page of a screening, written photograph by photograph; its words are in `wording`
nicking      the page of a grading of nicking; its pictures are in `nicking_pictures`, the vein's width in `profile`
study        the page of a study, from tables and figures
page         what all pages share: templates, style, content security policy
"""

from fundoscope.reports.pictures import save_pictures
from fundoscope.reports.screening import ScreeningCounts, ScreeningReport
from fundoscope.reports.study import (
    Check,
    EstimateCell,
    Picture,
    ReportFigure,
    Section,
    StudyPage,
    StudyVerdict,
    Table,
    write_study_report,
)
from fundoscope.reports.wording import ReportedThreshold, ScreeningHeader

__all__ = [
    "Check",
    "EstimateCell",
    "Picture",
    "ReportFigure",
    "ReportedThreshold",
    "ScreeningCounts",
    "ScreeningHeader",
    "ScreeningReport",
    "Section",
    "StudyPage",
    "StudyVerdict",
    "Table",
    "save_pictures",
    "write_study_report",
]
