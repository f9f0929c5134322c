"""What people look at: activation overlays, the screening report, the report of a study. No torch in here.

`overlay` lays an activation map over its photograph, `screening` writes a page row by row, `study` a page
from tables and from figures drawn elsewhere. All three need numpy, OpenCV and Jinja only.
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
    "Table",
    "save_pictures",
    "write_study_report",
]
