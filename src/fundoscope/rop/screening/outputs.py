"""A whole screening with its files: results.csv, results.json, report.html, pictures, and eyes.csv for a cohort."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol

from fundoscope.bundles.card import Stage
from fundoscope.findings import ROP_COLUMNS, CsvTable, JsonTable, RopFinding, Status
from fundoscope.reports.pictures import make_folder
from fundoscope.reports.screening import OperatingPoint, ScreeningHeader, ScreeningReport, save_pictures
from fundoscope.rop.screening.eyes import EYE_COLUMNS, Eyes
from fundoscope.rop.screening.screener import Screened, Screener


class Named(Protocol):
    """A photograph to screen: `path` as given, `file` where it lies, and whose eye it is where that is known."""

    @property
    def path(self) -> str: ...
    @property
    def infant(self) -> str | None: ...
    @property
    def eye(self) -> str | None: ...
    @property
    def exam(self) -> str | None: ...
    @property
    def from_table(self) -> bool: ...
    @property
    def file(self) -> Path: ...


class Files:
    """The files of a screening in one folder, written row by row."""

    def __init__(self, out: Path, screener: Screener) -> None:
        self.out = make_folder(out)
        self.table = CsvTable(out / "results.csv", ROP_COLUMNS)
        self.objects = JsonTable(out / "results.json")
        self.report = ScreeningReport(out / "report.html", header_of(screener))
        self.eyes = Eyes()

    def add(self, number: int, mention: Named, screened: Screened) -> None:
        """One photograph's row in every file."""
        row = screened.finding.row()
        self.table.add(row)
        self.objects.add(row)
        overlay = self.report.add(number, screened.finding, screened.picture, screened.activation, screened.size)
        if screened.picture is not None:
            save_pictures(self.out / "pictures", number, Path(mention.path).stem, screened.picture, overlay)
        if mention.from_table:
            self.eyes.add(mention.infant, mention.eye, mention.exam, screened.finding)

    def __enter__(self) -> Files:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish(whole=kind is None)

    def _finish(self, whole: bool) -> None:
        """Close every file; eyes.csv is written when the photographs came from a cohort table."""
        if rows := self.eyes.rows():
            eyes = CsvTable(self.out / "eyes.csv", EYE_COLUMNS)
            for row in rows:
                eyes.add(row)
            eyes.close()
            self.report.add_eyes(rows)
        self.table.close()
        self.objects.close()
        self.report.close(whole)


def screen_all(screener: Screener, named: Iterable[Named], out: Path | None, print_json: bool) -> Iterator[RopFinding]:
    """Screen and write as it goes; yields each finding once it is written, in the order given."""
    named = list(named)
    with ExitStack() as stack:
        files = stack.enter_context(Files(out, screener)) if out is not None else None
        screened = screener.screen(mention.file for mention in named)
        for number, (mention, one) in enumerate(zip(named, screened, strict=True), 1):
            one = replace(one, finding=replace(one.finding, file=mention.path))
            if files is not None:
                files.add(number, mention, one)
            if print_json:
                sys.stdout.write(json.dumps(one.finding.row()) + "\n")
                sys.stdout.flush()
            yield one.finding


def header_of(screener: Screener) -> ScreeningHeader:
    """What the report says of the bundle that spoke."""
    card, second = screener.bundle.card, screener.second
    return ScreeningHeader(
        bundle=card.name,
        version=f"made {card.created.isoformat()} by fundoscope {card.fundoscope}, recipe {card.recipe}",
        trained_on="; ".join(card.trained_on),
        never_tested_on="; ".join(card.never_tested_on),
        operating_point=_point(screener.bundle.stage),
        temperature=screener.bundle.stage.temperature,
        date=datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        intended_use=card.intended_use,
        program=f"fundoscope {importlib.metadata.version('fundoscope')}",
        simulated=second is not None and card.stage2 == "simulated",
        second_stage=second is not None,
        treatment_point=None if second is None else _point(second),
    )


def _point(stage: Stage) -> OperatingPoint:
    point = stage.operating_point
    return OperatingPoint(point.threshold, point.rule, point.data)


def summary(findings: Iterable[RopFinding]) -> dict[str, int]:
    """How many photographs came to which end: suspected, nothing seen, rejected, failed."""
    counts = Counter(_end(finding) for finding in findings)
    return {name: counts[name] for name in ("ROP suspected", "no ROP seen", "rejected", "failed")}


def _end(finding: RopFinding) -> str:
    if finding.status is Status.OK:
        return "ROP suspected" if finding.rop else "no ROP seen"
    return finding.status.value
