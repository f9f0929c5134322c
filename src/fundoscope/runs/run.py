"""One run: photographs through a grader into every sink, row by row, safe against stops and kills."""

from __future__ import annotations

import datetime
import signal
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, cast

from fundoscope.errors import OutputError, UsageError, list_names
from fundoscope.findings import (
    DrawingSink,
    Finding,
    GradedPhotograph,
    Grader,
    Mention,
    Row,
    Sink,
    Status,
    WarningSink,
    exit_code,
    join_remarks,
    plural,
)
from fundoscope.outputs import RUN_MARKER, STATE
from fundoscope.runs.engines import grade_isolated, map_in_order
from fundoscope.runs.folder import BEGIN_ANEW, RunFolder, manifest_of
from fundoscope.runs.resume import Entry, FileState, Journal, file_state
from fundoscope.runs.sinks import CsvTable, JsonLines, JsonTable
from fundoscope.runs.walker import Walk
from fundoscope.stopwatch import PHOTOGRAPH, WAITING, WRITING, stage
from fundoscope.studies import Progress

TABLES = ("results.csv", "results.json")


@dataclass
class RunSummary:
    """How a run ended: the grader's `counts`, photographs in all, of which `kept` from before, seconds of this run.

    `warnings` are sentences on all photographs together, which stand in the answer files too.
    """

    counts: Counter[str] = field(default_factory=Counter)
    photographs: int = 0
    kept: int = 0
    seconds: float = 0.0
    statuses: set[Status] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 when every photograph was read, 1 when some could not be."""
        return exit_code(self.statuses)

    def add(self, counts: Mapping[str, int], rows: Sequence[Row]) -> None:
        """Count one photograph."""
        self.photographs += 1
        for name, count in counts.items():
            self.counts[name] += count
        self.statuses.update(Status(row["status"]) for row in rows)


def run(
    grader: Grader,
    photographs: Walk | Iterable[Mention],
    out: Path | None = None,
    print_json: bool = False,
    replace: bool = False,
    command: str = "",
    progress: Progress | None = None,
) -> RunSummary:
    """Grade every photograph and write its rows as soon as they are known, into `out`, to standard output, or both.

    A photograph that cannot be read or graded is a row `failed`. A run into `out` that was cut off goes on where it was;
    rows that lie there are kept. When the run is stopped, by Ctrl-C or TERM, all files are finished, and the page says
    that the run is not. What a `Walk` skipped stands in the files.

    Raises `UsageError` when `out` holds another run (see `RunFolder.open`), `OutputError` when a row cannot be written.
    """
    found = photographs if isinstance(photographs, Walk) else Walk(list(photographs))
    mentions, start, summary = found.mentions, time.perf_counter(), RunSummary()
    with ExitStack() as stack:
        stop = stack.enter_context(_StopSignals.caught())
        files = None
        if out is not None:
            files = stack.enter_context(_RunFiles.open(out, grader, found, command, replace, stop))
        lines = JsonLines() if print_json else None
        for mention, rows in zip(mentions, files.finished() if files else (), strict=False):
            if lines:
                lines.recount(mention, rows)
            summary.add(grader.count(rows), rows)
        summary.kept = summary.photographs
        todo = mentions[summary.kept :]
        drawing = files.drawing if files else []
        results = stack.enter_context(closing(map_in_order(partial(_grade, grader, drawing), todo, grader.threads)))
        report = stack.enter_context(progress.stages()) if progress is not None else _silent
        report(plural(grader.noun), summary.kept, len(mentions))
        for number, mention in enumerate(todo, summary.kept + 1):
            with stage(WAITING):
                state, graded = next(results)
            rows = [finding.as_row() for finding in graded.findings]
            with stop.deferred(), stage(WRITING):
                if files:
                    files.add(number, mention, graded, rows, state)
                if lines:
                    lines.add(number, mention, graded, rows)
                summary.add(grader.count(rows), rows)
            del graded  # a photograph's pixels are not held while the next one is worked on
            report(plural(grader.noun), number, len(mentions))
        if files:
            files.finish(summary.counts)
            summary.warnings = files.warnings
    summary.seconds = time.perf_counter() - start
    return summary


def _grade(grader: Grader, drawing: Sequence[DrawingSink], mention: Mention) -> tuple[FileState, GradedPhotograph]:
    with stage(PHOTOGRAPH):
        state = file_state(mention.file)
        graded = grade_isolated(grader, mention.source, mention.path)
        if mention.remark:
            first, *others = graded.findings
            first = cast(Finding, replace_fields(cast(Any, first), reason=join_remarks(first.reason, mention.remark)))
            graded = GradedPhotograph((first, *others), graded.evidence)
        with stage("explanation"):
            for sink in drawing:
                graded = sink.draw(graded)
    return state, graded


def _silent(stage: str, done: int, total: int) -> None:
    """Shows no progress."""


class _RunFiles:
    """All answer files of a run in its folder, and the journal of the photographs that are finished in them."""

    def __init__(self, folder: RunFolder, grader: Grader, found: Walk) -> None:
        skipped = found.skipped
        self._folder = folder
        self._journal = Journal(folder.path / STATE)
        self._closed = False
        self.kept, positions, end = self._journal.finished(folder.path) if folder.goes_on else (0, {}, 0)
        _refuse_replaced(folder.path, found.mentions, self._journal.entries(self.kept))
        self._journal.open(end)
        self._sinks: dict[str, Sink] = {
            "results.csv": CsvTable(folder.path / "results.csv", grader.columns, positions.get("results.csv")),
            "results.json": JsonTable(
                folder.path / "results.json", positions.get("results.json"), skipped.as_json(), lambda: self.warnings
            ),
            **grader.open_sinks(folder.path, folder.manifest["started"], positions, skipped.describe()),
        }
        self._mentions = found.mentions

    @classmethod
    @contextmanager
    def open(
        cls, out: Path, grader: Grader, found: Walk, command: str, replace: bool, stop: _StopSignals
    ) -> Generator[_RunFiles]:
        """Open or make the folder; when the block ends by an error or a stop, finish the files as unfinished ones."""
        now = datetime.datetime.now().astimezone().isoformat(timespec="minutes")
        names = (*TABLES, *grader.files, RUN_MARKER)
        manifest = manifest_of(grader, found.mentions, names, command, now, found.skipped.as_json())
        with RunFolder.open(out, manifest, found.inputs, replace) as folder:
            files = cls(folder, grader, found)
            try:
                yield files
            except BaseException:
                with stop.deferred(), suppress(OutputError):  # the first error is the one that is shown
                    files._close(whole=False)
                raise

    def finished(self) -> Iterator[list[Row]]:
        """The rows of each photograph that an earlier run has finished, after every sink has counted them."""
        for mention, entry in zip(self._mentions, self._journal.entries(self.kept), strict=False):
            for sink in self._sinks.values():
                sink.recount(mention, entry["rows"])
            yield entry["rows"]

    def add(self, number: int, mention: Mention, graded: GradedPhotograph, rows: list[Row], state: FileState) -> None:
        """Write one photograph into every file, then note that it is finished, as the file `state` was graded."""
        pictures = [name for sink in self._sinks.values() for name in sink.add(number, mention, graded, rows)]
        positions = {name: sink.position for name, sink in self._sinks.items() if sink.position}
        self._journal.add(rows, pictures, positions, state)

    @property
    def drawing(self) -> list[DrawingSink]:
        """Those sinks whose pictures are drawn where photographs are graded."""
        return [sink for sink in self._sinks.values() if isinstance(sink, DrawingSink)]

    @property
    def warnings(self) -> list[str]:
        """What the sinks have to say of all photographs together."""
        return [text for sink in self._sinks.values() if isinstance(sink, WarningSink) for text in sink.warnings]

    def finish(self, counts: Mapping[str, int]) -> None:
        """Finish all files and note in the manifest that the run is."""
        self._close(whole=True)
        self._folder.finish(dict(counts))

    def _close(self, whole: bool) -> None:
        if self._closed:
            return
        self._closed = True
        with ExitStack() as stack:  # one that cannot be closed does not keep the others open
            stack.callback(self._journal.close)
            for sink in self._sinks.values():
                stack.callback(sink.close, whole)


def _refuse_replaced(folder: Path, mentions: Sequence[Mention], finished: Iterable[Entry]) -> None:
    """Raise `UsageError` where another file now lies where a finished photograph was: its rows would be another eye's."""
    pairs = zip(mentions, finished, strict=False)
    if replaced := [mention.path for mention, entry in pairs if entry["file"] != file_state(mention.file)]:
        raise UsageError(
            f"{folder}: holds answers to photographs that were changed, replaced or removed since: {list_names(replaced)}. {BEGIN_ANEW}"
        )


class _StopSignals:
    """Ctrl-C and TERM, which end the program with 130 and 143; held back while a photograph is being written."""

    def __init__(self) -> None:
        self._held = False
        self._waiting: int | None = None

    @classmethod
    @contextmanager
    def caught(cls) -> Generator[_StopSignals]:
        """Catch both for the block; outside the main thread, and where one is ignored, nothing changes."""
        stop, before = cls(), {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if (handler := signal.getsignal(number)) is not signal.SIG_IGN:
                    before[number] = handler or signal.SIG_DFL
                    signal.signal(number, stop._receive)
        try:
            yield stop
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Generator[None]:
        """Hold both back until the block ends."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._waiting is not None:
                raise SystemExit(128 + self._waiting)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self._waiting = number
        else:
            raise SystemExit(128 + number)
