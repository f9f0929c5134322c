"""Who writes the parts of an archive: the workers of an engine, on this machine or on many.

Every engine gives the same rows. A part over which workers are lost again and again is graded photograph by photograph, each in a
process of its own, so that the one that ends the program is a row `failed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from fundoscope.findings import GradedPhotograph
from fundoscope.runs.archive import ArchiveCounts, ArchivePart, PartWriter, grade_path
from fundoscope.runs.workers import WorkEngine, WorkItem

_ENDED = "the program was ended by it. Report this photograph to its makers."


def write_parts(engine: WorkEngine, writer: PartWriter, parts: Iterable[ArchivePart]) -> Iterator[ArchiveCounts]:
    """Write the parts; gives the counts of each as it is done. Only paths travel to the workers, and counts back.

    With Ray the archive's folder, and files that are named without an address, must be seen by every machine.
    """
    for item, counts in engine.carry_out(writer.write, (WorkItem(part.name, part) for part in parts)):
        yield counts or writer.write_graded(item.task, _grade_each_alone(writer, item.task))


def _grade_each_alone(writer: PartWriter, part: ArchivePart) -> Iterator[GradedPhotograph]:
    """Each photograph, in its order, in a process that may die of it."""
    items = (WorkItem(str(number), path) for number, path in enumerate(part.paths))
    for item, graded in WorkEngine(workers=1).carry_out(partial(_grade, writer), items):
        yield graded or writer.grader.failed(item.task, _ENDED)


def _grade(writer: PartWriter, path: str) -> GradedPhotograph:
    return GradedPhotograph(grade_path(writer.grader, writer.base, path).findings)  # the evidence stays there
