"""A whole grading with its files: results.csv, results.json, report.html and pictures."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from fundoscope.datasets import rescaled
from fundoscope.findings import NICKING_COLUMNS, CsvTable, JsonTable, Status
from fundoscope.imaging import Pixels
from fundoscope.nicking.grading import Graded, NickingGrader
from fundoscope.reports import StudyPage, write_study_report
from fundoscope.reports.pictures import make_folder, save_pictures
from fundoscope.reports.study import Picture, Section, Table
from fundoscope.vessels import draw

_SIDE = 1000  # pixels of the longer side of a picture


class Files:
    """The files of a grading in one folder."""

    def __init__(self, out: Path, grader: NickingGrader) -> None:
        self.out, self.card = make_folder(out), grader.bundle.card
        self.table = CsvTable(out / "results.csv", NICKING_COLUMNS)
        self.objects = JsonTable(out / "results.json")
        self.sections: list[Section] = []

    def add(self, number: int, name: str, graded: Graded) -> None:
        """One photograph's rows in every file."""
        rows = [finding.as_row() for finding in graded.findings]
        for row in rows:
            self.table.add(row)
            self.objects.add(row)
        pictures = []
        if graded.pixels is not None:
            picture = marked(graded)
            save_pictures(self.out / "pictures", number, Path(name).stem, picture)
            pictures.append(Picture(picture, "orange arteries, blue veins, yellow rings", side=_SIDE))
        crossings = [row for row in rows if row["crossing"] is not None]
        shown = [{column: row[column] for column in NICKING_COLUMNS[3:11]} for row in crossings]
        first = graded.findings[0]
        told = first.reason if first.status is not Status.OK else f"{len(crossings)} crossings"
        self.sections.append(
            Section(f"{number}. {name}", [f"{first.status.value}: {told}"], tables=[Table(shown)], pictures=pictures)
        )

    def close(self) -> None:
        """Finish every file."""
        self.table.close()
        self.objects.close()
        card = self.card
        page = StudyPage(
            title="Where arteries cross veins",
            lead="Widths and narrowing were read off the photograph's own edges; a crossing that is not marked may still be there.",
            facts={
                "bundle": f"{card.name} ({card.created})", "learnt from": "; ".join(card.trained_on),
                "never tested on": "; ".join(card.never_tested_on),
                "crossings shown from a confidence of": card.crossings.confidence.threshold,
            },
            sections=self.sections,
        )  # fmt: skip
        write_study_report(self.out / "report.html", page)


def grade_all(
    grader: NickingGrader, named: Iterable[tuple[str, Path]], out: Path | None, print_json: bool
) -> Iterator[Graded]:
    """Grade and write as it goes; yields what was found in each photograph once it is written, in the order given.

    `named` are photographs: the path as given, and where the file lies.
    """
    files = Files(out, grader) if out is not None else None
    try:
        for number, (path, file) in enumerate(named, 1):
            graded = _renamed(grader.look_at(file, str(file)), path)
            if files is not None:
                files.add(number, path, graded)
            if print_json:
                for finding in graded.findings:
                    sys.stdout.write(json.dumps(finding.as_row()) + "\n")
                sys.stdout.flush()
            yield graded
    finally:
        if files is not None:
            files.close()


def _renamed(graded: Graded, path: str) -> Graded:
    return replace(graded, findings=tuple(replace(finding, file=path) for finding in graded.findings))


def marked(graded: Graded) -> Pixels:
    """The photograph, at most 1000 pixels large, with both vessels of each crossing and its number."""
    assert graded.pixels is not None
    share = min(1.0, _SIDE / max(graded.pixels.shape[:2]))
    rows, columns = (round(side * share) for side in graded.pixels.shape[:2])
    smaller = cv2.resize(graded.pixels, (columns, rows), interpolation=cv2.INTER_AREA)
    picture = np.array(smaller, np.uint8)  # of our own: it is drawn on
    for number, one in enumerate(graded.measured, 1):
        at = rescaled(one.at, share)
        if one.crossing is not None:
            one.crossing.scaled(share).draw(picture)
        else:
            draw.ring(picture, at, 8, draw.MARK)
        place = (round(at[1]) + 10, round(at[0]) - 6)
        cv2.putText(picture, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, draw.MARK, 1, cv2.LINE_AA)
    return picture


def summary(graded: Graded) -> dict[str, int]:
    """To which end a photograph came, and how many crossings were found in it."""
    crossings = sum(finding.crossing is not None for finding in graded.findings)
    return {graded.findings[0].status.value: 1, "crossings": crossings}
