"""A whole grading with its files: results.csv, results.json, report.html and pictures, of photographs or of patches.

Each row is written as it is made, and nothing of it is kept.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from fundoscope.errors import BundleError
from fundoscope.findings import NICKING_COLUMNS, PATCH_COLUMNS, CsvTable, JsonTable, PatchFinding, Status
from fundoscope.imaging import Pixels
from fundoscope.nicking.grading.crossing_patches import cut_crossing
from fundoscope.nicking.grading.grader import MEASURED_ONLY, NickingGrader, PatchGrading, PhotographGrading
from fundoscope.nicking.grading.grades import PatchGrade
from fundoscope.nicking.grading.vessel_maps import MappedPhotograph
from fundoscope.nicking.grading.widths import CrossingWidths
from fundoscope.reports.nicking import Card, Kind, NickingHeader, NickingReport
from fundoscope.reports.pictures import make_folder, save_pictures
from fundoscope.vessels import Narrowing

G = TypeVar("G", PhotographGrading, PatchGrading)
Named = Iterable[tuple[str, Path]]


class Files:
    """The files of a grading in one folder, written row by row."""

    def __init__(self, out: Path, grader: NickingGrader, kind: Kind) -> None:
        self.pictures = make_folder(out) / "pictures"
        columns = NICKING_COLUMNS if kind == "photograph" else PATCH_COLUMNS
        self.tables = (CsvTable(out / "results.csv", columns), JsonTable(out / "results.json"))
        self.report = NickingReport(out / "report.html", header_of(grader, kind))

    def add(
        self, number: int, path: str, rows: Iterable[dict[str, Any]], graded: PhotographGrading | PatchGrading
    ) -> None:
        """What came of one photograph or patch, in every file; `rows` are its findings'."""
        for row in rows:
            for table in self.tables:
                table.add(row)
        shown = (
            self._photograph(number, graded) if isinstance(graded, PhotographGrading) else self._patch(number, graded)
        )
        if shown is not None:
            save_pictures(self.pictures, number, Path(path).stem, *shown)

    def _photograph(self, number: int, graded: PhotographGrading) -> tuple[Pixels] | None:
        picture = self.report.add_photograph(number, graded.findings, graded.pixels, cards_of(graded))
        return None if picture is None else (picture,)

    def _patch(self, number: int, graded: PatchGrading) -> tuple[Pixels, Pixels | None] | None:
        said = graded.grade
        card = None if said is None else _card(said, graded.narrowing)
        laid = self.report.add_patch(number, graded.finding, card)
        return None if card is None else (card.pixels, laid)

    def __enter__(self) -> Files:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for table in self.tables:
            table.close()
        self.report.close(whole=kind is None)


def grade_all(grader: NickingGrader, named: Named, out: Path | None, print_json: bool) -> Iterator[PhotographGrading]:
    """Grade and write as it goes; yields what was found in each photograph once it is written, in the order given.

    `named` are photographs: the path as given, and where the file lies.
    """
    return _run(grader, named, out, print_json, "photograph", grader.grade_photograph)


def grade_patches(grader: NickingGrader, named: Named, out: Path | None, print_json: bool) -> Iterator[PatchGrading]:
    """The same for patches. Raises `BundleError`, and writes nothing, where the bundle holds no network that grades."""
    if grader.bundle.card.grades is None:
        raise BundleError(
            f"{grader.bundle.card.name}: this bundle holds no network that grades. Give one that does to --bundle; "
            "whole photographs are measured all the same: fundoscope nicking grade"
        )
    return _run(grader, named, out, print_json, "patch", grader.grade_patch)


def _run(
    grader: NickingGrader, named: Named, out: Path | None, print_json: bool, kind: Kind, look: Callable[[Path, str], G]
) -> Iterator[G]:
    with ExitStack() as stack:
        files = stack.enter_context(Files(out, grader, kind)) if out is not None else None
        for number, (path, file) in enumerate(named, 1):
            graded = look(file, path)
            rows = [finding.as_row() for finding in graded.findings]
            if files is not None:
                files.add(number, path, rows, graded)
            if print_json:
                sys.stdout.writelines(json.dumps(row) + "\n" for row in rows)
                sys.stdout.flush()
            yield graded


def cards_of(graded: PhotographGrading) -> list[Card]:
    """What a report shows of each crossing of a photograph."""
    pixels, mapped = graded.pixels, graded.mapped
    if pixels is None or mapped is None:
        return []
    if graded.grades:
        return [_card(said, one.narrowing) for said, one in zip(graded.grades, graded.crossings, strict=True)]
    return [_measured_card(mapped, one) for one in graded.crossings]


def _card(said: PatchGrade, narrowing: Narrowing | None) -> Card:
    return Card(said.patch.pixels, said.patch.maps, said.attention[0], narrowing)


def _measured_card(mapped: MappedPhotograph, one: CrossingWidths) -> Card:
    patch = cut_crossing(mapped, one)
    return Card(patch.pixels, patch.maps, None, one.narrowing)


def header_of(grader: NickingGrader, kind: Kind) -> NickingHeader:
    """What the report says of the bundle that spoke."""
    card, grades = grader.bundle.card, grader.bundle.card.grades
    facts = {
        "Bundle": f"{card.name}, made {card.created.isoformat()} by fundoscope {card.fundoscope}",
        "For": card.intended_use,
        "Trained on": "; ".join(card.trained_on),
        "Never tested on": "; ".join(card.never_tested_on),
    }
    if kind == "photograph":
        point = card.crossings.operating_point
        facts["Crossings shown"] = f"from a confidence of {point.threshold:.3g}: {point.rule}, chosen on {point.data}"
    if grades is not None:
        facts["Graded"] = (
            f"by {grades.networks} network{'s' * (grades.networks > 1)}, from a probability of {grades.minimum_confidence:.2f} on; {grades.rule}"
        )
        facts["Grades learnt from"] = grades.learnt_from
    return NickingHeader(
        kind, card.name, datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        f"fundoscope {importlib.metadata.version('fundoscope')}", facts, MEASURED_ONLY if grades is None else "",
    )  # fmt: skip


def summary(graded: PhotographGrading | PatchGrading) -> Counter[str]:
    """To which end a photograph or a patch came, and how many crossings were found and graded in it."""
    counts = Counter({graded.findings[0].status.value: 1})
    for one in graded.findings:
        found = one.status is Status.OK if isinstance(one, PatchFinding) else one.crossing is not None
        counts.update({"crossings": int(found), f"grade {one.grade}": 1})
    return counts
