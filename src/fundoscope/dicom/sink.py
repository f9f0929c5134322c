"""The DICOM answers of a run: overlays as photographs are done, and for each study its report, selection and document at the end.

dicom/001_overlay_0001.dcm   a Secondary Capture a graded photograph: number of the study, number of the row
dicom/001_SR.dcm             the Comprehensive 3D SR of the study
dicom/001_KO.dcm             the Key Object Selection, where a reader should look at something
dicom/001_PDF.dcm            the document
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fundoscope.dicom.answers import AnsweredPhotograph, Answerer
from fundoscope.dicom.captures import write_capture
from fundoscope.dicom.documents import write_document
from fundoscope.dicom.key_objects import write_key_objects
from fundoscope.dicom.objects import AnsweredStudy
from fundoscope.dicom.structured_reports import write_structured_report
from fundoscope.errors import OutputError, counted, list_names
from fundoscope.findings import GradedPhotograph, Mention, Row
from fundoscope.imaging import Pixels
from fundoscope.imaging.dicom_header import load_dataset
from fundoscope.outputs import DICOM, make_folder, written_whole

#: What a grader concludes of one photograph's rows.
Describe = Callable[[Mention, Sequence[Row]], AnsweredPhotograph]
#: The overlay of a photograph that was just graded; None where there is none.
Draw = Callable[[GradedPhotograph], Pixels | None]


class DicomAnswers:
    """The sink that writes DICOM answers into `dicom/` of the run's folder; photographs of other kinds get none, and are told."""

    position = 0

    def __init__(self, folder: Path, answerer: Answerer, describe: Describe, draw: Draw) -> None:
        self._folder = folder / DICOM
        self._answerer, self._describe, self._draw = answerer, describe, draw
        self._numbers: dict[str, int] = {}  # of studies, by their UID, in the order in which they appear
        self._studies: dict[str, list[tuple[int, AnsweredPhotograph]]] = defaultdict(list)
        self._foreign: list[str] = []
        self._lost: list[str] = []
        self._seen = 0
        make_folder(self._folder)

    def add(self, number: int, mention: Mention, graded: GradedPhotograph, rows: Sequence[Row]) -> Sequence[str]:
        """Note what is answered of a photograph, and write its overlay."""
        self.recount(mention, rows)
        header, picture = mention.header, self._draw(graded)
        if header is None or picture is None or not _is_answerable(mention):
            return ()
        answer, path = self._studies[header.study][-1][1], self._overlay(header.study, number)
        with self._noting(answer.file):
            self._write(path, write_capture(AnsweredStudy.read(self._answerer, [answer]), picture, number))
            return (f"{DICOM}/{path.name}",)
        return ()

    def recount(self, mention: Mention, rows: Sequence[Row]) -> None:
        """Note what is answered of a photograph whose overlay is there."""
        self._seen += 1
        header = mention.header
        if header is None or not _is_answerable(mention):
            self._foreign.append(mention.path)
            return
        self._numbers.setdefault(header.study, len(self._numbers) + 1)
        self._studies[header.study].append((self._seen, self._describe(mention, rows)))

    def close(self, whole: bool) -> None:
        """Write the report, the selection and the document of each study; of a run that was stopped there are none."""
        for uid, answers in self._studies.items() if whole else ():
            with self._noting(answers[0][1].file):
                study = AnsweredStudy.read(self._answerer, [answer for _, answer in answers])
                paths = {k: self._overlay(uid, number) for k, (number, _) in enumerate(answers)}
                overlays = {k: _pixels_of(path) for k, path in paths.items() if path.is_file()}
                self._write(self._place(uid, "SR"), write_structured_report(study))
                self._write(self._place(uid, "PDF"), write_document(study, overlays))
                if (selection := write_key_objects(study)) is not None:
                    self._write(self._place(uid, "KO"), selection)

    @contextmanager
    def _noting(self, file: str) -> Generator[None]:
        """Note what goes wrong with one study: the others have their answers, and all rows are written."""
        try:
            yield
        except OutputError:
            raise
        except Exception as error:  # noqa: BLE001 - headers may hold anything, and one study must not end a run
            self._lost.append(f"{file} ({type(error).__name__}: {error})")

    @property
    def warnings(self) -> Sequence[str]:
        """Which photographs have no DICOM answer, and why."""
        told = []
        if self._foreign:
            told.append(
                f"no DICOM answer was written to {counted(len(self._foreign), 'photograph')} that no study can be told of, "
                f"since they are no DICOM files or lack their UIDs: {list_names(self._foreign)}"
            )
        told += [f"no DICOM answer, or not every one, was written to the study of {each}" for each in self._lost]
        return told

    def _place(self, study: str, name: str) -> Path:
        return self._folder / f"{self._numbers[study]:03d}_{name}.dcm"

    def _overlay(self, study: str, number: int) -> Path:
        return self._place(study, f"overlay_{number:04d}")

    def _write(self, path: Path, data: bytes) -> None:
        with written_whole(path) as beside:
            beside.write_bytes(data)


def _pixels_of(path: Path) -> Pixels:
    """The pixels of an overlay that was written before."""
    found = load_dataset(path, str(path))
    return np.frombuffer(found.PixelData, np.uint8)[: found.Rows * found.Columns * 3].reshape(
        found.Rows, found.Columns, 3
    )


def _is_answerable(mention: Mention) -> bool:
    """Whether an answer can refer to the photograph: it is DICOM, and says which it is."""
    header = mention.header
    return header is not None and all(
        (header.study, header.series, header.sop_instance, header.sop_class, not header.other_kind)
    )
