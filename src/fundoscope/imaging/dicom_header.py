"""What a DICOM file says of patient, exam and picture, and where it contradicts itself. No pixels are read here.

pydicom is imported when the first DICOM file is met. Attributes are those of PS3.3 (2024): Patient C.7.1.1, General Study
C.7.2.1, Ocular Region Imaged C.8.17.5, Image Pixel C.7.6.3; a file is known by its preamble (PS3.10, 7.1).
"""

from __future__ import annotations

import io
import logging
import unicodedata
import warnings
import zlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fundoscope.errors import PhotographError
from fundoscope.imaging.dicom_facts import MAX_BYTES, DicomHeader, FramePath
from fundoscope.imaging.headers import COPY_AGAIN
from fundoscope.imaging.kinds import is_dicom
from fundoscope.languages import kept_text

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

#: Classes of DICOM objects that may hold a photograph of an eye, by their UID (PS3.4, B.5).
PHOTOGRAPH_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.77.1.5.1": "Ophthalmic Photography 8 Bit",
    "1.2.840.10008.5.1.4.1.1.77.1.5.2": "Ophthalmic Photography 16 Bit",
    "1.2.840.10008.5.1.4.1.1.77.1.5.5": "Wide Field Ophthalmic Photography Stereographic Projection",
    "1.2.840.10008.5.1.4.1.1.77.1.5.6": "Wide Field Ophthalmic Photography 3D Coordinates",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture",
    "1.2.840.10008.5.1.4.1.1.7.2": "Multi-frame Grayscale Byte Secondary Capture",
    "1.2.840.10008.5.1.4.1.1.7.3": "Multi-frame Grayscale Word Secondary Capture",
    "1.2.840.10008.5.1.4.1.1.7.4": "Multi-frame True Color Secondary Capture",
    "1.2.840.10008.5.1.4.1.1.77.1.1": "VL Endoscopic",
    "1.2.840.10008.5.1.4.1.1.77.1.2": "VL Microscopic",
    "1.2.840.10008.5.1.4.1.1.77.1.3": "VL Slide-Coordinates Microscopic",
    "1.2.840.10008.5.1.4.1.1.77.1.4": "VL Photographic",
}
DIRECTORY_CLASS = "1.2.840.10008.1.3.10"  # of a DICOMDIR
MANUFACTURER = "Fundoscope"  # of the objects that we write ourselves

_DEFLATED = "1.2.840.10008.1.2.1.99"
_MAX_FRAMES = 10_000
_EYES = {"R": "right", "L": "left"}
_SIDES = {"24028007": "right", "7771000": "left", "G-A100": "right", "G-A101": "left"}  # SNOMED: right, left
#: What is said of a header that contradicts itself, or is not whole.
_BEFORE_BIRTH = kept_text("Its header dates the photograph ({date}) before the patient's birth ({born}).")
_BURNT_IN = kept_text("Its header says that text is burnt into the picture (0028,0301).")
_FRAMES = kept_text("Its header counts {frames} frames.")
_BOTH_EYES = kept_text("Its header says that it shows both eyes.")
_OTHER_EYE = {
    "R": kept_text(
        "Its header contradicts itself: the image is of the right eye (0020,0062), its series of the left one (0020,0060); the image's was taken."
    ),
    "L": kept_text(
        "Its header contradicts itself: the image is of the left eye (0020,0062), its series of the right one (0020,0060); the image's was taken."
    ),
}
_NOT_WHOLE = kept_text(
    "The patient's name is not whole: its character set is not the one that the header names ({name})."
)
_UNNAMED_UTF8 = kept_text("The patient's name is in UTF-8, although the header does not say so (0008,0005).")
_INSTALL = "Install it with: pip install 'fundoscope[dicom]'"


def may_be_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its preamble; only such names are opened as DICOM files have: .dcm, none, or a number."""
    suffix = path.suffix.lower()
    if suffix and suffix not in (".dcm", ".dicom") and not suffix[1:].isdigit():
        return False
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(132)
    except (OSError, ValueError):
        return False
    return start[128:] == b"DICM" or (suffix in (".dcm", ".dicom") and is_dicom(start))


@cache
def import_pydicom() -> Any:
    """pydicom, told to keep silent on broken files, of which our errors tell; `ImportError` where it is not installed."""
    import pydicom
    import pydicom.dataset
    import pydicom.encaps
    import pydicom.filereader

    warnings.filterwarnings("ignore", module=r"pydicom\.")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    return pydicom


def load_dataset(source: bytes | Path, name: str, pixels: bool = True) -> Dataset:
    """The elements of a DICOM file; without `pixels` reading stops before them.

    Raises `PhotographError` where pydicom is not installed, and for what is broken. A deflated file that unfolds beyond
    the limit of bytes is refused before it does.
    """
    try:
        pydicom = import_pydicom()
    except ImportError as error:
        raise PhotographError(
            name, "is a DICOM file, and pydicom, which reads it, is not installed", _INSTALL
        ) from error
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            start = file.read(132)
            file.seek(0)
            if not is_dicom(start):
                raise PhotographError(name, "is no DICOM file", "Name DICOM files.")
            if start[128:] == b"DICM":
                inflated = _inflate(pydicom, file, name)
                if inflated is not None:
                    return inflated
            dataset = pydicom.dcmread(file, stop_before_pixels=not pixels, force=True)
    except PhotographError:
        raise
    except Exception as error:  # pydicom raises whatever its parts do: struct.error, KeyError, RecursionError, ...
        raise broken(name, error) from error
    if not dataset:
        raise PhotographError(name, "the DICOM file holds nothing that can be read", COPY_AGAIN)
    return dataset


def _inflate(pydicom: Any, file: Any, name: str) -> Dataset | None:
    """The elements of a file of the deflated transfer syntax; None for every other one. The file stands at its start then."""
    file.seek(132)
    meta = pydicom.dataset.FileMetaDataset(
        pydicom.filereader.read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    )
    if str(meta.get("TransferSyntaxUID", "")) != _DEFLATED:
        file.seek(0)
        return None
    unfolder = zlib.decompressobj(-zlib.MAX_WBITS)
    data = unfolder.decompress(file.read(), MAX_BYTES)
    if unfolder.unconsumed_tail:
        raise PhotographError(name, f"unfolds to more than {MAX_BYTES >> 20} MiB", "Export it smaller.")
    if not unfolder.eof:
        raise PhotographError(name, "the deflated DICOM file is cut short", COPY_AGAIN)
    elements = pydicom.filereader.read_dataset(io.BytesIO(data), False, True)
    dataset = pydicom.dataset.FileDataset(None, elements, file_meta=meta, is_implicit_VR=False, is_little_endian=True)
    dataset.set_original_encoding(False, True, elements.original_character_set)
    return dataset


def broken(name: str, error: Exception) -> PhotographError:
    """The error of a DICOM file that cannot be understood."""
    told = (str(error).splitlines() or [""])[0][:120].rstrip(". ")
    said = f" ({told})" if isinstance(error, ValueError | OSError) and told else ""
    return PhotographError(name, f"the DICOM file is damaged or cut short{said}", COPY_AGAIN)


def read_dicom_header(source: bytes | Path, name: str) -> DicomHeader:
    """The header of a DICOM file; raises `PhotographError` for what is broken, and where pydicom is not installed."""
    return describe_header(load_dataset(source, name, pixels=False), name)


def frames_of(path: Path) -> list[FramePath]:
    """Each picture of a DICOM file that holds several; none for a file of one picture, or one that cannot be read."""
    if not may_be_dicom(path):
        return []
    try:
        count = read_dicom_header(path, str(path)).frames
    except PhotographError:  # whoever reads the photograph meets it again
        count = 1
    return [FramePath(path, frame) for frame in range(1, count + 1)] if count > 1 else []


def describe_header(dataset: Dataset, name: str = "") -> DicomHeader:
    """The header of elements that were read; raises `PhotographError` where they are broken."""
    try:
        return _describe(dataset)
    except Exception as error:  # an element is decoded when it is asked for, and may hold anything
        raise broken(name, error) from error


def _describe(dataset: Dataset) -> DicomHeader:
    doubts: list[str] = []
    patient_name = _name_of(dataset, doubts)
    image, series = (_code(dataset, keyword) for keyword in ("ImageLaterality", "Laterality"))
    eye = _eye_of(dataset, image, series, doubts)
    date = _date_of(dataset, "AcquisitionDateTime", "AcquisitionDate", "ContentDate", "StudyDate")
    born = _date_of(dataset, "PatientBirthDate")
    if date and born and date < born:
        doubts.append(_BEFORE_BIRTH.format(date=date, born=born))
    if _code(dataset, "BurnedInAnnotation") == "YES":
        doubts.append(_BURNT_IN)
    issuer = text_of(dataset, "IssuerOfPatientID")
    if not issuer and (items := _items(dataset, "IssuerOfPatientIDQualifiersSequence")):
        issuer = text_of(items[0], "UniversalEntityID")
    views = _items(dataset, "ViewCodeSequence")
    device = (text_of(dataset, keyword) for keyword in ("Manufacturer", "ManufacturerModelName"))
    frames = text_of(dataset, "NumberOfFrames")
    count = int(frames) if frames.lstrip("+").isdigit() else 1
    if frames and not 1 <= count <= _MAX_FRAMES:
        doubts.append(_FRAMES.format(frames=frames))
    sop_class = text_of(dataset, "SOPClassUID")
    if not sop_class and hasattr(dataset, "file_meta"):
        sop_class = text_of(dataset.file_meta, "MediaStorageSOPClassUID")
    return DicomHeader(
        sop_class=sop_class, sop_instance=text_of(dataset, "SOPInstanceUID"),
        study=text_of(dataset, "StudyInstanceUID"), series=text_of(dataset, "SeriesInstanceUID"),
        patient_id=text_of(dataset, "PatientID"), issuer=issuer, patient_name=patient_name,
        accession=text_of(dataset, "AccessionNumber"), exam_date=date, eye=eye,
        view=text_of(views[0], "CodeMeaning") or text_of(views[0], "CodeValue") if views else "",
        device=" ".join(filter(None, device)), frames=min(max(count, 1), _MAX_FRAMES), doubts=tuple(doubts),
        other_kind=_other_kind(dataset, sop_class), birth_date=born,
    )  # fmt: skip


def _other_kind(dataset: Dataset, sop_class: str) -> str:
    """What a DICOM object is that is no photograph of an eye: a report, an OCT, a film, an answer of ours; blank for one."""
    if text_of(dataset, "Manufacturer") == MANUFACTURER:
        return "an answer of Fundoscope"
    if sop_class == DIRECTORY_CLASS:
        return "a DICOMDIR, a list of files"
    if sop_class and sop_class not in PHOTOGRAPH_CLASSES:
        return f"a DICOM object of the class {import_pydicom().uid.UID(sop_class).name}"
    return ""


def _eye_of(dataset: Dataset, image: str, series: str, doubts: list[str]) -> str:
    """Right, left or blank: (0020,0062), then (0020,0060), then the side of the region that was imaged."""
    if image in _EYES and series in _EYES and image != series:
        doubts.append(_OTHER_EYE[image])
    for code in (image, series):
        if code in _EYES:
            return _EYES[code]
        if code == "B":
            doubts.append(_BOTH_EYES)
            return ""
    for region in _items(dataset, "AnatomicRegionSequence"):
        for side in _items(region, "AnatomicRegionModifierSequence"):
            if eye := _SIDES.get(text_of(side, "CodeValue")):
                return eye
    return ""


def _name_of(dataset: Dataset, doubts: list[str]) -> str:
    """The patient's name as text, whole, or with a doubt that says that it is not.

    pydicom decodes by the character sets that the file names. Without one, DICOM allows ASCII only; what stands there
    is tried as UTF-8, which other bytes hardly ever are.
    """
    stored = dataset.get_item("PatientName") if "PatientName" in dataset else None
    if stored is None:
        return ""
    value = stored.value
    raw = value if isinstance(value, bytes) else getattr(value, "original_string", b"")
    name = str(dataset.PatientName).strip()
    if not isinstance(raw, bytes) or raw.isascii():
        if "\x1b" in name or "\ufffd" in name:
            doubts.append(_NOT_WHOLE.format(name=repr(name)))
        return name.replace("\x1b", "")
    declared = dataset.get("SpecificCharacterSet")
    sets = [declared] if isinstance(declared, str) else list(declared or ())
    single_byte = all(each in ("", "ISO_IR 6", "ISO_IR 100", "ISO 2022 IR 6", "ISO 2022 IR 100") for each in sets)
    if single_byte and b"\x1b" not in raw:
        repaired = raw.decode("utf-8", "replace").strip(" \0")
        if "\ufffd" not in repaired:
            doubts.append(_UNNAMED_UTF8)
            return repaired
    odd = [
        c for c in name if ord(c) > 127 and unicodedata.category(c)[0] not in "LMNZ" and c not in "·・•，、（）ー‐-’"
    ]
    # letters of two bytes each that are shown as Latin ones leave no plain letter in a part of the name
    parts = [part for group in name.split("=") for part in group.split("^") if len(part) > 1]
    foreign = any(all(ord(c) > 127 for c in part if c.isalpha()) and any(c.isalpha() for c in part) for part in parts)
    undeclared = not any(each not in ("", "ISO_IR 6", "ISO 2022 IR 6") for each in sets)
    if "\ufffd" in name or "\x1b" in name or undeclared or (single_byte and (odd or foreign)):
        doubts.append(_NOT_WHOLE.format(name=repr(name)))
    return name.replace("\x1b", "")


def text_of(dataset: Dataset, keyword: str) -> str:
    """A value as text, of several the first; blank where there is none."""
    value = dataset.get(keyword)
    if value is None or isinstance(value, bytes):
        return ""
    if not isinstance(value, str) and hasattr(value, "__iter__") and hasattr(value, "__len__"):
        value = next(iter(value), "")
    return str(value).strip(" \0")


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    value = dataset.get(keyword)
    return [] if value is None or isinstance(value, str | bytes) else list(value)


def _code(dataset: Dataset, keyword: str) -> str:
    return text_of(dataset, keyword).upper()


def _date_of(dataset: Dataset, *keywords: str) -> str:
    """The first date of these as YYYY-MM-DD; blank where none is one."""
    for keyword in keywords:
        digits = text_of(dataset, keyword).replace(".", "").replace("-", "")[:8]
        if len(digits) == 8 and digits.isdigit() and "01" <= digits[4:6] <= "12" and "01" <= digits[6:] <= "31":
            return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}"
    return ""
