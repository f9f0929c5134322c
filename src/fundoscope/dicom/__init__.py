"""DICOM objects: the answers to a study for the PACS, and photographs without what tells whose they are. No sockets, no torch.

Photographs are read by `fundoscope.imaging`. Everything here needs the extra `dicom`.
"""

from fundoscope.dicom.answers import (
    AnsweredPhotograph,
    Answerer,
    CodedAnswer,
    Concept,
    CrossingAnswer,
    Measure,
    ReadEye,
    SignedReading,
    SupersededDocument,
)
from fundoscope.dicom.captures import write_capture
from fundoscope.dicom.documents import write_document
from fundoscope.dicom.key_objects import write_key_objects
from fundoscope.dicom.sink import DicomAnswers
from fundoscope.dicom.structured_reports import write_signed_reading, write_structured_report

__all__ = [
    "AnsweredPhotograph",
    "Answerer",
    "CodedAnswer",
    "Concept",
    "CrossingAnswer",
    "DicomAnswers",
    "Measure",
    "ReadEye",
    "SignedReading",
    "SupersededDocument",
    "write_capture",
    "write_document",
    "write_key_objects",
    "write_signed_reading",
    "write_structured_report",
]
