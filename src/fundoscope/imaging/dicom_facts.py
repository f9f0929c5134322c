"""What is known of a DICOM photograph, and which of its pictures is meant."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 512 * 1024 * 1024  # of a file, and of what a deflated one unfolds to


@dataclass(frozen=True, slots=True)
class DicomHeader:
    """The header of a DICOM photograph; blank where the file is silent.

    `patient_name` has its groups as in the file: alphabetic=ideographic=phonetic. `exam_date` and `birth_date` are YYYY-MM-DD. `eye` is right,
    left or blank; `view` what its view code means; `frames` how many pictures it holds. `doubts` says in whole sentences what
    is burnt into the picture, or contradicts itself. `other_kind` is what the object is where it is no photograph of an eye.
    """

    sop_class: str
    sop_instance: str
    study: str
    series: str
    patient_id: str = ""
    issuer: str = ""
    patient_name: str = ""
    accession: str = ""
    exam_date: str = ""
    eye: str = ""
    view: str = ""
    device: str = ""
    frames: int = 1
    doubts: tuple[str, ...] = ()
    other_kind: str = ""
    birth_date: str = ""

    @property
    def patient(self) -> str:
        """The patient's number with its issuer behind it in brackets, since two hospitals may give the same number."""
        return f"{self.patient_id} ({self.issuer})" if self.patient_id and self.issuer else self.patient_id


@dataclass(frozen=True, slots=True)
class FramePath(os.PathLike[str]):
    """One picture, `frame` from 1 on, of a DICOM file that holds several."""

    path: Path
    frame: int

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return f"{self.path}#{self.frame}"
