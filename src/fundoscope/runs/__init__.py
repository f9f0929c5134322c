"""One way to work through many photographs, whatever the grader: command line, archives and servers use it.

walker    photographs named by files, folders, patterns, tables and lists on standard input
folder    the folder of --out: whose run lies in it, its lock, what may be removed from it
resume    the journal of finished photographs, from which a run goes on
sinks     results.csv, results.json, JSON lines on standard output
engines   how photographs are worked on: here, in order, by a few threads
workers   work beside each other: processes here, tasks of Ray here and elsewhere
archive   a manifest in, parquet parts out
run       all of these joined in one function
"""

from fundoscope.runs.run import RunSummary, run
from fundoscope.runs.walker import Walk, walk

__all__ = ["RunSummary", "Walk", "run", "walk"]
