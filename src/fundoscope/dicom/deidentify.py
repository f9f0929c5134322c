"""DICOM photographs without what tells whose they are, by PS3.15's basic profile (annex E, 2024) and some of its options.

The profile lists what to remove. Here it is the other way round: what stays is listed, all else goes, known or not, private
or not; so nothing is missed that a camera has put somewhere. The pixels are decoded and written anew, since compressed data may
hold comments and an Exif block of their own.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from fundoscope.dicom.answers import Concept
from fundoscope.dicom.burnt_in import BurntIn, black_out, find_burnt_in
from fundoscope.dicom.objects import code_item, digest_uid, set_unchecked
from fundoscope.errors import PhotographError, UsageError, nearest
from fundoscope.imaging import DicomHeader, FramePath, Pixels, find_field, read
from fundoscope.imaging.dicom_header import MANUFACTURER, describe_header, load_dataset, text_of

#: What may stay, by the name of the choice: the profile's option (code and meaning of PS3.16, CID 7050).
CHOICES = {
    "dates": Concept("113106", "DCM", "Retain Longitudinal Temporal Information Full Dates Option"[:64]),
    "shifted-dates": Concept("113107", "DCM", "Retain Longitudinal Temporal Info Modified Dates Option"),
    "characteristics": Concept("113108", "DCM", "Retain Patient Characteristics Option"),
    "device": Concept("113109", "DCM", "Retain Device Identity Option"),
    "uids": Concept("113110", "DCM", "Retain UIDs Option"),
    "institution": Concept("113112", "DCM", "Retain Institution Identity Option"),
}
_BASIC = Concept("113100", "DCM", "Basic Application Confidentiality Profile")
_CLEAN_PIXELS = Concept("113101", "DCM", "Clean Pixel Data Option")

#: What always stays: what the picture is and how it was taken. None of it is in table E.1-1 of the profile.
_KEPT = (
    "SOPClassUID", "Modality", "ImageType", "SeriesNumber", "InstanceNumber", "ImageLaterality", "Laterality", "Manufacturer",
    "ManufacturerModelName", "ConversionType", "PixelSpacing", "HorizontalFieldOfView", "PupilDilated",
    "EmmetropicMagnification", "DetectorType", "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip
#: Sequences of codes of which the codes of known schemes stay, and no text.
_KEPT_CODES = ("ViewCodeSequence", "AnatomicRegionSequence", "IlluminationTypeCodeSequence")
_KNOWN_SCHEMES = ("SCT", "SRT", "SNM3", "DCM")
_EMPTY = (
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID", "PatientBirthDate", "PatientSex",
    "PatientOrientation",
)  # fmt: skip
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime")
_TIMES = ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime")
_OLDEST = 90  # years: older ages single a person out, and are written as this one


@dataclass(frozen=True, slots=True)
class Deidentification:
    """How photographs are de-identified: what stays (`CHOICES`), the `key` of pseudonyms, and what is done with text in pixels.

    The same key gives the same person the same pseudonym. `hold` keeps every file back in which there may be text, instead of
    blacking it out.
    """

    key: bytes
    keep: frozenset[str] = frozenset()
    hold: bool = False

    @classmethod
    def choose(cls, key: bytes, keep: Collection[str], hold: bool = False) -> Deidentification:
        """The same from names that a person gave; raises `UsageError` for an unknown one, and for both kinds of dates."""
        for name in keep:
            if name not in CHOICES:
                raise UsageError(f"--keep {name}: no such choice; {nearest(name, CHOICES)}")
        if {"dates", "shifted-dates"} <= set(keep):
            raise UsageError(
                "--keep: dates stay as they are, or they are shifted. Give one of dates and shifted-dates."
            )
        return cls(key, frozenset(keep), hold)

    def pseudonym(self, header: DicomHeader) -> str:
        """The patient's pseudonym; of a file without a patient's number that of its study."""
        whose = (header.issuer, header.patient_id) if header.patient_id else ("study", header.study)
        return "P" + self._digest("patient", *whose).hex()[:12].upper()

    def uid(self, uid: str) -> str:
        """What stands for a UID."""
        if "uids" in self.keep:
            return uid
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', uid)[:16], version=5).int}"

    def days(self, header: DicomHeader) -> int:
        """By how many days the dates of a patient are set back: 1 to 3650, the same for all of them."""
        return 1 + int.from_bytes(self._digest("days", self.pseudonym(header))[:4], "big") % 3650

    def _digest(self, *parts: str) -> bytes:
        return hmac.new(self.key, "\0".join(parts).encode("utf-8", "surrogatepass"), hashlib.sha256).digest()


@dataclass(frozen=True, slots=True)
class DeidentifiedPhotograph:
    """A file without what tells whose it is; `blacked` counts the lines of text that were blacked out."""

    data: bytes
    pseudonym: str
    frames: int
    blacked: int
    outside: bool


@dataclass(slots=True)
class HeldBack(Exception):  # noqa: N818 - not an error of the program
    """A photograph that is not written, and why."""

    reason: str = field(default="")


def deidentify(path: Path, how: Deidentification) -> DeidentifiedPhotograph:
    """One file de-identified. Raises `HeldBack` where it may show who it is, and `PhotographError` where it cannot be read."""
    source = load_dataset(path, str(path))
    header = describe_header(source, str(path))
    if header.other_kind:
        raise PhotographError(
            str(path), f"is {header.other_kind}, no photograph of an eye", "Only photographs are de-identified."
        )
    burnt = text_of(source, "BurnedInAnnotation").upper()
    frames, seen = [], []
    for number in range(1, header.frames + 1):
        pixels = read(FramePath(path, number), str(path)).pixels
        clean, found = _clean(pixels, burnt, how)
        frames.append(clean)
        seen.append(found)
    made = _header(source, header, how)
    _put_pixels(made, frames)
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    blacked, outside = sum(len(found.boxes) for found in seen), any(found.outside for found in seen)
    return DeidentifiedPhotograph(buffer.getvalue(), how.pseudonym(header), header.frames, blacked, outside)


def _clean(pixels: Pixels, burnt: str, how: Deidentification) -> tuple[Pixels, BurntIn]:
    """One picture with its text blacked out, and what was found in it."""
    eye = find_field(pixels)
    found = find_burnt_in(pixels, eye)
    if found.any and how.hold:
        raise HeldBack("there may be text in the picture, and --hold keeps such files back")
    if burnt == "YES" and not found.any:
        raise HeldBack(
            "its header says that text is burnt in, and none was found: look at it, and black it out by hand"
        )
    if burnt != "NO" and not found.field_found:
        raise HeldBack(
            "no field of view was found in it, and its header does not say that nothing is burnt in: look at it, and write NO "
            "into (0028,0301) where that is so"
        )
    return black_out(pixels, found, eye), found


def _header(source: Dataset, header: DicomHeader, how: Deidentification) -> FileDataset:
    """All elements but the pixels."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID, meta.ImplementationVersionName = (
        UID(digest_uid("implementation", MANUFACTURER)),
        "FUNDOSCOPE",
    )
    made = FileDataset("", {}, file_meta=meta, preamble=bytes(128), is_implicit_VR=False, is_little_endian=True)
    set_unchecked(made, "SpecificCharacterSet", "ISO_IR 192")
    for keyword in _KEPT:
        if (value := source.get(keyword)) not in (None, ""):
            set_unchecked(made, keyword, value)
    for keyword in _KEPT_CODES:
        if items := _codes(source, keyword):
            set_unchecked(made, keyword, items)
    for keyword in _EMPTY:
        set_unchecked(made, keyword, None)
    for keyword in _UIDS:
        set_unchecked(made, keyword, how.uid(text_of(source, keyword)))
    pseudonym = how.pseudonym(header)
    made.PatientID, made.PatientName = pseudonym, pseudonym
    _keep_chosen(source, header, made, how)
    made.PatientIdentityRemoved, made.BurnedInAnnotation = "YES", "NO"
    made.DeidentificationMethod = f"{MANUFACTURER}: PS3.15 basic profile"
    chosen = [CHOICES[name] for name in CHOICES if name in how.keep]
    made.DeidentificationMethodCodeSequence = [code_item(each) for each in (_BASIC, _CLEAN_PIXELS, *chosen)]
    dates = {"dates": "UNMODIFIED", "shifted-dates": "MODIFIED"}
    made.LongitudinalTemporalInformationModified = next((dates[name] for name in dates if name in how.keep), "REMOVED")
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    return made


def _keep_chosen(source: Dataset, header: DicomHeader, made: Dataset, how: Deidentification) -> None:
    """Take over what was chosen to stay beyond the profile."""
    keep = how.keep
    if "dates" in keep or "shifted-dates" in keep:
        days = how.days(header) if "shifted-dates" in keep else 0
        for keyword in _DATES:
            if shifted := _set_back(text_of(source, keyword), days):
                set_unchecked(made, keyword, shifted)
        for keyword in _TIMES:
            if time := text_of(source, keyword):
                set_unchecked(made, keyword, time)
    if "characteristics" in keep:
        if (sex := text_of(source, "PatientSex")) in ("F", "M", "O"):
            made.PatientSex = sex
        if age := _age(source, header):
            made.PatientAge = age
    if "device" in keep:
        for keyword in ("DeviceSerialNumber", "StationName", "SoftwareVersions"):
            if value := text_of(source, keyword):
                set_unchecked(made, keyword, value)
    if "institution" in keep and (name := text_of(source, "InstitutionName")):
        set_unchecked(made, "InstitutionName", name)


def _set_back(moment: str, days: int) -> str:
    """A DA or DT value that many days before; blank for what is none."""
    digits = moment[:8]
    if len(digits) < 8 or not digits.isdigit():
        return ""
    try:
        day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:])) - timedelta(days)
    except (ValueError, OverflowError):
        return ""
    return f"{day:%Y%m%d}" + moment[8:]


def _age(source: Dataset, header: DicomHeader) -> str:
    """The age at the exam as an AS value: what the header says, or from the birth date; of infants in days."""
    told, born = text_of(source, "PatientAge"), text_of(source, "PatientBirthDate")
    if header.exam_date and len(born) == 8 and _set_back(born, 0):
        days = (date.fromisoformat(header.exam_date) - date(int(born[:4]), int(born[4:6]), int(born[6:]))).days
        if days < 0:
            return ""
        told = f"{days:03d}D" if days < 1000 else f"{int(days / 365.25):03d}Y"
    if len(told) != 4 or not told[:3].isdigit() or told[3] not in "DWMY":
        return ""
    return f"{_OLDEST:03d}Y" if told[3] == "Y" and int(told[:3]) >= _OLDEST else told


def _codes(source: Dataset, keyword: str) -> list[Dataset]:
    """The codes of a sequence and of the modifiers in it, without their text, which may say anything."""
    items = []
    value = source.get(keyword)
    for item in value if value is not None and not isinstance(value, (str, bytes)) else ():
        if text_of(item, "CodingSchemeDesignator") not in _KNOWN_SCHEMES:
            continue
        made = Dataset()
        made.CodeValue, made.CodingSchemeDesignator = (
            text_of(item, "CodeValue"),
            text_of(item, "CodingSchemeDesignator"),
        )
        made.CodeMeaning = text_of(item, "CodeValue")  # which must not be blank
        if inner := _codes(item, "AnatomicRegionModifierSequence"):
            made.AnatomicRegionModifierSequence = inner
        items.append(made)
    return items


def _put_pixels(made: Dataset, frames: list[Pixels]) -> None:
    """The pictures as native pixels of eight bits: grey where they are, or RGB."""
    grey = all((frame[..., 0] == frame[..., 1]).all() and (frame[..., 0] == frame[..., 2]).all() for frame in frames)
    stack = np.stack([frame[..., 0] if grey else frame for frame in frames])
    made.SamplesPerPixel, made.PhotometricInterpretation = (1, "MONOCHROME2") if grey else (3, "RGB")
    if not grey:
        made.PlanarConfiguration = 0
    if len(frames) > 1:
        made.NumberOfFrames = len(frames)
    made.Rows, made.Columns = stack.shape[1:3]
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    data = stack.tobytes()
    made.PixelData = data + b"\0" * (len(data) % 2)
    made["PixelData"].VR = "OB"
    if str(made.SOPClassUID) == "1.2.840.10008.5.1.4.1.1.77.1.5.2":  # the class of deeper pictures
        made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.77.1.5.1")
