"""The answers to a study as a PDF in a DICOM object: what any viewer shows (PS3.3, A.45.1).

The page is drawn by WeasyPrint, which may fetch nothing: all pictures are in the page itself.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from fundoscope.dicom.answers import NOTICE, RESEARCH_USE, AnsweredPhotograph, describe_version
from fundoscope.dicom.objects import DOCUMENT, AnsweredStudy, content_moment, seal, source_sequence, start_object
from fundoscope.errors import printable
from fundoscope.imaging import Pixels
from fundoscope.imaging.dicom_header import text_of

_SIDE = 640  # pixels of a picture's longer side in the document
_QUALITY = 85


def write_document(study: AnsweredStudy, pictures: Mapping[int, Pixels]) -> bytes:
    """The file of the document; `pictures` are the overlays (rows, columns, 3), RGB, by place in `study.photographs`."""
    pdf = draw_pdf(study, pictures)
    made = start_object(DOCUMENT, study)
    made.ConversionType, made.BurnedInAnnotation = "WSD", "YES"  # the patient's name stands in it
    made.AcquisitionDateTime = None
    made.DocumentTitle = f"{study.answerer.title}: {RESEARCH_USE.lower()}"
    made.ConceptNameCodeSequence = []
    made.VerificationFlag = "UNVERIFIED" if study.reading is None else "VERIFIED"
    made.SourceInstanceSequence = [
        item for k, item in enumerate(source_sequence(study)) if study.photographs[k].header not in
        [each.header for each in study.photographs[:k]]
    ]  # fmt: skip
    for item in made.SourceInstanceSequence:
        if "ReferencedFrameNumber" in item:
            del item.ReferencedFrameNumber  # the whole file is the source
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocumentLength = len(pdf)
    made.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    made["EncapsulatedDocument"].VR = "OB"
    return seal(made, DOCUMENT, study)


def draw_pdf(study: AnsweredStudy, pictures: Mapping[int, Pixels]) -> bytes:
    """The document itself. The same study gives the same bytes."""
    import weasyprint
    from weasyprint.urls import URLFetcher

    page = _template().render(**_values(study, pictures))
    fetcher = URLFetcher(allowed_protocols=("data",))
    identifier = hashlib.sha256(page.encode("utf-8", "backslashreplace")).digest()[:16]
    return weasyprint.HTML(string=page, url_fetcher=fetcher, base_url=None).write_pdf(pdf_identifier=identifier)


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("fundoscope.dicom"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters["printable"] = printable
    return made


def _template():  # noqa: ANN202 - Jinja's own type
    return _environment().get_template("document.html.j2")


def _values(study: AnsweredStudy, pictures: Mapping[int, Pixels]) -> dict[str, object]:
    header, source = study.photographs[0].header, study.sources[0]
    day, time = content_moment(study.sources)
    born = text_of(source, "PatientBirthDate")
    return {
        "title": study.answerer.title, "notice": NOTICE, "stamp": RESEARCH_USE,
        "names": [group.replace("^", " ").strip() for group in header.patient_name.split("=") if group.strip("^ ")],
        "facts": {
            "Patient ID": header.patient_id or "not given", "Issuer": header.issuer, "Born": _day(born),
            "Accession": header.accession, "Photographed": f"{_day(day)} {time[:2]}:{time[2:4]}" if day > "1900" else "",
            "Camera": header.device,
        },
        "photographs": [_described(k, each, pictures.get(k)) for k, each in enumerate(study.photographs)],
        "looked_for": [(k + 1, each.attention) for k, each in enumerate(study.photographs) if each.attention],
        "reading": study.reading,
        "program": {} if study.reading is not None else {
            "Program": study.answerer.program, "Command": study.answerer.command,
            "Bundle": f"{study.answerer.bundle.name}, {describe_version(study.answerer.bundle)}",
            **study.answerer.facts,
        },
    }  # fmt: skip


def _described(k: int, photograph: AnsweredPhotograph, picture: Pixels | None) -> dict[str, object]:
    header = photograph.header
    fullest = sorted(photograph.crossings, key=lambda one: -len(one.measures))  # whose order is that of all
    headings = list(dict.fromkeys(each.heading for one in fullest for each in one.measures))
    return {
        "number": k + 1, "eye": f"{header.eye} eye" if header.eye else "eye not given", "view": header.view,
        "instance": header.sop_instance + (f", frame {photograph.frame}" if photograph.frame else ""),
        "headline": photograph.headline, "remark": photograph.remark, "attention": bool(photograph.attention),
        "measures": [(each.what.meaning, _number(each.value)) for each in photograph.measures],
        "headings": headings,
        "crossings": [
            {
                "number": one.number, "place": f"{one.row:.0f}, {one.column:.0f}", "remark": one.remark,
                "answers": ", ".join(each.answer.meaning for each in one.evaluations),
                "measures": [next((_number(m.value) for m in one.measures if m.heading == name), "") for name in headings],
            }
            for one in photograph.crossings
        ],
        "picture": None if picture is None else _uri(picture),
    }  # fmt: skip


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) and abs(value) >= 1 else f"{value:.2f}"


def _day(digits: str) -> str:
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}" if len(digits) >= 8 else digits


def _uri(picture: Pixels) -> str:
    scale = min(1.0, _SIDE / max(picture.shape[:2]))
    if scale < 1:
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
