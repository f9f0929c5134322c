"""A table of photographs, its audit, and folds as a file that is written once and reused."""

from fundoscope.cohort.audit_page import write_audit_page
from fundoscope.cohort.auditing import Audit, AuditProblem, ProblemKind, SameEyePair, audit
from fundoscope.cohort.folds import Fold, Folds
from fundoscope.cohort.groups import Groups, make_groups
from fundoscope.cohort.table import Cohort, CohortRow

__all__ = [
    "Audit",
    "AuditProblem",
    "Cohort",
    "CohortRow",
    "Fold",
    "Folds",
    "Groups",
    "ProblemKind",
    "SameEyePair",
    "audit",
    "make_groups",
    "write_audit_page",
]
