"""A table of photographs, its audit, and folds as a file that is written once and reused."""

from fundoscope.cohort.audit_page import write_page
from fundoscope.cohort.auditing import Audit, Kind, Likeness, Problem, audit
from fundoscope.cohort.folds import Fold, Folds
from fundoscope.cohort.groups import Groups, groups_of
from fundoscope.cohort.table import Cohort, Record

__all__ = [
    "Audit",
    "Cohort",
    "Fold",
    "Folds",
    "Groups",
    "Kind",
    "Likeness",
    "Problem",
    "Record",
    "audit",
    "groups_of",
    "write_page",
]
