"""What all our DICOM objects have in common: whose they are, who made them, what they rest on, and how they are named.

The same answer is the same object byte for byte. So nothing in an object tells when it was computed: its content is
dated as its last photograph is. Its UID is a digest of its kind, sources, bundle, options and of its own bytes, in the
form of PS3.5, B.2 (2.25. and a UUID). Text is UTF-8 (ISO_IR 192).
"""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from fundoscope.dicom.answers import (
    OUR_SCHEME,
    RESEARCH_USE,
    AnsweredPhotograph,
    Answerer,
    Concept,
    SignedReading,
    SupersededDocument,
)
from fundoscope.errors import PhotographError
from fundoscope.imaging.dicom_header import MANUFACTURER, load_dataset, text_of

#: Attributes of patient and study that an answer takes over from its photographs.
_PATIENT = ("PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "PatientBirthDate", "PatientSex")
_STUDY = (
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber",
    "IssuerOfAccessionNumberSequence", "ReferringPhysicianName", "TimezoneOffsetFromUTC",
)  # fmt: skip
#: What a signed reading was made with; its objects name no version of the program, which may change before they are sent.
READING_ROOM = "reading room"
_MAY_BE_EMPTY = ("PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")  # fmt: skip


@dataclass(frozen=True, slots=True)
class ObjectKind:
    """A kind of object that we write: its class, modality, number of its series, and what the series is called."""

    name: str
    sop_class: str
    modality: str
    series_number: int
    description: str


STRUCTURED_REPORT = ObjectKind("SR", "1.2.840.10008.5.1.4.1.1.88.34", "SR", 9001, "measurements")
KEY_OBJECTS = ObjectKind("KO", "1.2.840.10008.5.1.4.1.1.88.59", "KO", 9002, "photographs to look at")
DOCUMENT = ObjectKind("PDF", "1.2.840.10008.5.1.4.1.1.104.1", "DOC", 9003, "report")
CAPTURE = ObjectKind("overlay", "1.2.840.10008.5.1.4.1.1.7", "OT", 9004, "overlays")


@dataclass(frozen=True, slots=True)
class AnsweredStudy:
    """The answers to the photographs of one study, in their order, and the headers of their files, one each.

    `reading` is what a reader signed of them; None where the answers are those of the program alone.
    """

    answerer: Answerer
    photographs: tuple[AnsweredPhotograph, ...]
    sources: tuple[Dataset, ...]
    reading: SignedReading | None = None

    @classmethod
    def read(
        cls, answerer: Answerer, photographs: Sequence[AnsweredPhotograph], reading: SignedReading | None = None
    ) -> AnsweredStudy:
        """The study of photographs whose headers are read again.

        Raises `PhotographError` where one has gone or was replaced, and where they name more than one patient: no answer may
        come under a wrong name.
        """
        patients = {(each.header.patient_id, each.header.issuer) for each in photographs}
        if len(patients) > 1:
            raise PhotographError(
                photographs[0].file, f"its study names {len(patients)} patients", "Correct it in the PACS."
            )
        sources = []
        for photograph in photographs:
            source = load_dataset(photograph.location, photograph.file, pixels=False)
            if text_of(source, "SOPInstanceUID") != photograph.header.sop_instance:
                raise PhotographError(photograph.file, "was replaced while it was worked on", "Begin anew.")
            sources.append(source)
        return cls(answerer, tuple(photographs), tuple(sources), reading)

    @property
    def instances(self) -> list[tuple[str, str, str]]:
        """Series, class and instance of each file, once each, in their order."""
        headers = [photograph.header for photograph in self.photographs]
        return list(dict.fromkeys((each.series, each.sop_class, each.sop_instance) for each in headers))


def digest_uid(*parts: str) -> str:
    """A UID that is a digest of these texts (PS3.5, B.2)."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def start_object(kind: ObjectKind, study: AnsweredStudy, number: int = 1) -> FileDataset:
    """An object of that kind with its patient, study, series and maker; its own UID comes by `seal`."""
    answerer, first = study.answerer, study.photographs[0].header
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=bytes(128), is_implicit_VR=False, is_little_endian=True)
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID = kind.sop_class
    set_unchecked(made, "PatientName", first.patient_name)
    for keyword in (*_PATIENT, *_STUDY):
        _copy(study.sources[0], made, keyword)
    made.Modality = kind.modality
    made.SeriesInstanceUID = digest_uid("series", kind.name, first.study, *_identity(answerer))
    made.SeriesNumber, made.InstanceNumber = kind.series_number + (0 if study.reading is None else 10), number
    content = kind.description if study.reading is None else f"signed {kind.description}"
    made.SeriesDescription = f"{MANUFACTURER} {content}, {RESEARCH_USE.lower()}"
    made.Manufacturer, made.SoftwareVersions = MANUFACTURER, answerer.program
    if study.reading is None:
        made.ManufacturerModelName = f"{answerer.command}, bundle {answerer.bundle.name}"[:64]
        made.DeviceSerialNumber = answerer.bundle.digest
        made.ContentDate, made.ContentTime = content_moment(study.sources)
    else:
        made.ManufacturerModelName, made.DeviceSerialNumber = READING_ROOM, READING_ROOM
        moment = study.reading.signed_at.astimezone(UTC)
        made.ContentDate, made.ContentTime = f"{moment:%Y%m%d}", f"{moment:%H%M%S}"
    scheme = Dataset()
    scheme.CodingSchemeDesignator, scheme.CodingSchemeName = OUR_SCHEME, "Words of Fundoscope"
    scheme.CodingSchemeResponsibleOrganization = "The Fundoscope developers"
    made.CodingSchemeIdentificationSequence = [scheme]
    return made


def seal(made: FileDataset, kind: ObjectKind, study: AnsweredStudy) -> bytes:
    """Give the object its UID, which depends on all that it holds, and return its file."""
    made.SOPInstanceUID = "2.25.0"
    content = hashlib.sha256(_encode(made)).hexdigest()
    sources = [f"{photograph.header.sop_instance}#{photograph.frame or 1}" for photograph in study.photographs]
    made.SOPInstanceUID = digest_uid("object", kind.name, *_identity(study.answerer), *sources, content)
    return _encode(made)


def _identity(answerer: Answerer) -> tuple[str, ...]:
    return answerer.command, answerer.bundle.digest, json.dumps(dict(answerer.options), sort_keys=True)


def _encode(made: FileDataset) -> bytes:
    meta = made.file_meta
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    meta.ImplementationClassUID = UID(digest_uid("implementation", MANUFACTURER))
    meta.ImplementationVersionName = "FUNDOSCOPE"
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def content_moment(sources: Sequence[Dataset]) -> tuple[str, str]:
    """Date and time (DA, TM) of the last of these photographs, as far as their headers tell."""
    found = []
    for source in sources:
        moment = _digits(text_of(source, "AcquisitionDateTime").split("+")[0].split("-")[0])
        if len(moment) < 8:
            for day, time in (
                ("AcquisitionDate", "AcquisitionTime"),
                ("ContentDate", "ContentTime"),
                ("StudyDate", "StudyTime"),
            ):
                if len(date := _digits(text_of(source, day))) == 8:
                    moment = date + _digits(text_of(source, time))
                    break
        if len(moment) >= 8:
            found.append(moment[:14].ljust(14, "0"))
    last = max(found, default="19000101000000")  # no date is known: DICOM wants one
    return last[:8], last[8:]


def _digits(text: str) -> str:
    return "".join(each for each in text.split(".")[0] if each.isdigit() and each.isascii())


def _copy(source: Dataset, made: Dataset, keyword: str) -> None:
    """Take an attribute over as it is; what a header must have, though empty, is empty where the source lacks it."""
    if keyword in source:
        value = source.get(keyword)
        if isinstance(value, (str, int, float)) or type(value).__name__ == "PersonName":
            set_unchecked(made, keyword, str(value))
        elif value:
            for item in value if source[keyword].VR == "SQ" else ():
                item.decode()  # text that is still in the source's character set
            made[keyword] = deepcopy(source[keyword])
        else:
            set_unchecked(made, keyword, None)
    elif keyword in _MAY_BE_EMPTY:
        set_unchecked(made, keyword, None)


def set_unchecked(made: Dataset, keyword: str, value: Any) -> None:
    """Set an attribute without complaint about a value that its source should not have had."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    made[keyword] = DataElement(tag, dictionary_VR(tag), None if value == "" else value, validation_mode=config.IGNORE)


# --- what objects refer to


def code_item(concept: Concept) -> Dataset:
    """An item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = concept.code, concept.scheme, concept.meaning
    return item


def evidence_sequence(study: AnsweredStudy) -> list[Dataset]:
    """The photographs of a study as the evidence of a document (PS3.3, table C.17-3)."""
    series: dict[str, list[Dataset]] = {}
    for uid, sop_class, instance in study.instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
        series.setdefault(uid, []).append(item)
    whole = Dataset()
    whole.StudyInstanceUID = study.photographs[0].header.study
    whole.ReferencedSeriesSequence = []
    for uid, items in series.items():
        one = Dataset()
        one.SeriesInstanceUID, one.ReferencedSOPSequence = uid, items
        whole.ReferencedSeriesSequence.append(one)
    return [whole]


def predecessor_sequence(superseded: Sequence[SupersededDocument]) -> list[Dataset]:
    """The reports whose place a report takes (PS3.3, table C.17-2)."""
    items = []
    for one in superseded:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = one.sop_class, one.sop_instance
        series = Dataset()
        series.SeriesInstanceUID, series.ReferencedSOPSequence = one.series, [reference]
        study = Dataset()
        study.StudyInstanceUID, study.ReferencedSeriesSequence = one.study, [series]
        items.append(study)
    return items


def image_reference(photograph: AnsweredPhotograph) -> Dataset:
    """A reference to a photograph, or to one frame of it."""
    item = Dataset()
    item.ReferencedSOPClassUID = photograph.header.sop_class
    item.ReferencedSOPInstanceUID = photograph.header.sop_instance
    if photograph.frame is not None:
        item.ReferencedFrameNumber = photograph.frame
    return item


def source_sequence(study: AnsweredStudy) -> list[Dataset]:
    """The photographs as sources of a document or of a picture."""
    return [image_reference(photograph) for photograph in study.photographs]
