"""External validation: any bundle on any labelled cohort. No torch; photographs are read in one stream.

predict     photographs -> photographs.parquet, measures.parquet, predictions.parquet
evaluate    these -> results.json, tables/: the figures of a study, refusals, overlap, what was promised and what was found
mistakes    the worst answers -> explained/
page        results.json, tables/curves.csv, explained/ -> report.html
"""
