"""Table forensics: whether whole-number confusion tables can have given the figures that a paper reports.

A printed figure stands for a window of values: 0.9516 for all that rounds to it. Few confusion tables fall into five windows
of four decimals at once, so a row of figures shows what it can have been computed from (Brown and Heathers, 2017, test means
of whole numbers in the same way).

`reported` reads the table and its folds; `confusion_tables` lists single tables that fit; `mean_tables` proves that averages
over folds cannot fit; `fold_tables` and `integer_search` find fold tables whose averages fit, or rule all out; `judge` puts
these together. Each row gets one verdict, by the first of these rules that holds:

`mean`          the figures can come from all the stated folds: as the average over the folds of one table a
                fold, every reported figure averaged, with the stated class counts; or as the one table of all
                folds together. Also where that can be neither shown nor ruled out.
`single-split`  they cannot, and one table gives them: of a stated fold, or of any counts up to the data set.
`none`          nothing gives them: they were computed in another way, or hold a misprint.

"Cannot" is proved (`mean_tables.separating_plane`), also for figures of folds that were rounded before they were averaged.
`mean` only says "possible": averages over five folds can reach nearly any figures that do not contradict each other, so the
spread between folds that they need is given too.
"""

from fundoscope.evaluation.forensics.confusion_tables import tables_fit, tables_of_any_counts, tables_of_counts
from fundoscope.evaluation.forensics.judge import (
    SEARCH_STEPS,
    MeanVerdict,
    RowFinding,
    RowVerdict,
    examine_row,
    write_solutions,
)
from fundoscope.evaluation.forensics.reported import (
    FIGURES,
    ReportedFigure,
    ReportedFolds,
    ReportedPart,
    ReportedRow,
    parse_figure,
    read_reported_folds,
    read_reported_table,
)

__all__ = [
    "FIGURES",
    "SEARCH_STEPS",
    "MeanVerdict",
    "ReportedFigure",
    "ReportedFolds",
    "ReportedPart",
    "ReportedRow",
    "RowFinding",
    "RowVerdict",
    "examine_row",
    "parse_figure",
    "read_reported_folds",
    "read_reported_table",
    "tables_fit",
    "tables_of_any_counts",
    "tables_of_counts",
    "write_solutions",
]
