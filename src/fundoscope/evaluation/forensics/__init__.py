"""Table forensics: can integer confusion tables have given the figures that a paper reports?

A reported figure stands for a window: 0.9516 for all that rounds to it. Few whole-number tables fall into five
windows of four decimals at once, so a row of figures betrays what it was worked out from (Brown and Heathers,
2017, test means of whole numbers in the same way).

Each row gets one verdict, by this rule, asked in this order:

`mean`          the figures can come from all the stated folds: as the average over the folds of one table a
                fold, every reported figure averaged, with the stated class counts; or as the one table of all
                folds together. Also where that can be neither shown nor ruled out.
`single-split`  they cannot, and one table gives them: of a stated fold, or of any counts up to the data set.
`none`          nothing gives them: they were not worked out so, or hold a slip.

"Cannot" is proved, not only sought (`mean_tables.separation`), and holds also if the figures of the folds were
rounded before they were averaged. A `mean` may be no more than possible: averages over five folds can reach
nearly any figures that do not contradict each other, and the spread between folds that they need is told beside it.
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
