"""A table of photographs, its audit, and folds that are written once as a file and reused.

`sheet` is the project's one reader of tables, and their writer; `table` makes a `Cohort` of one (`image_paths` finds its files),
with the words of `columns` and the rule of `spellings` for names that are written in two ways. `auditing` finds what is wrong
(`problems`) by `fingerprints` of the photographs: `near_duplicates` and, laid on each other by `registration`, `second_views`
of one eye; `audit_page` draws it. `groups` says which photographs must stay together, `balance` deals groups into parts, and
`folds` keeps the result.
"""

from fundoscope.cohort.audit_page import write_audit_page
from fundoscope.cohort.auditing import Audit, audit
from fundoscope.cohort.folds import Fold, Folds
from fundoscope.cohort.groups import Groups, make_groups
from fundoscope.cohort.problems import AuditProblem, ProblemKind, SameEyePair
from fundoscope.cohort.sheet import Sheet, SheetRow, read_sheet
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
    "Sheet",
    "SheetRow",
    "audit",
    "make_groups",
    "read_sheet",
    "write_audit_page",
]
