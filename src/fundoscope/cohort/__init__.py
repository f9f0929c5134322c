"""A table of photographs, and folds as a file that is written once and reused."""

from fundoscope.cohort.folds import Fold, Folds
from fundoscope.cohort.groups import Groups, groups_of
from fundoscope.cohort.table import Cohort, Record

__all__ = ["Cohort", "Fold", "Folds", "Groups", "Record", "groups_of"]
