"""Reports of signed readings: as they are given out, in the language of the account, as a page and as PDF.

A report is made outside of any transaction from what is in the tables and the pictures, and then written down once. What is made
holds all its pictures itself; while the PDF is drawn nothing else can be fetched, from this computer or any other. A reading that
was superseded gets a further report that says so; the one that was given out stays.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from fundoscope.findings import NickingFinding, Status
from fundoscope.imaging import Pixels, read
from fundoscope.languages import LANGUAGES, speaking
from fundoscope.languages import gettext as _
from fundoscope.reports.nicking_pictures import draw_boxes
from fundoscope.reports.overlay import jpeg_uri
from fundoscope.server import pages
from fundoscope.server.errors import ConflictError, NotFoundError
from fundoscope.server.models import (
    EYES,
    VIEWS,
    Exam,
    ExamPhotograph,
    EyeReading,
    Grading,
    Patient,
    Reading,
    SignedReport,
    Site,
    User,
    now,
)
from fundoscope.server.permissions import CLINICAL, Caller, Role, get_owned
from fundoscope.server.room import Room
from fundoscope.server.services import audit, exam_state, jobs, readings
from fundoscope.server.services.due import gestational_age_of
from fundoscope.server.services.due_words import describe_reasons, describe_when
from fundoscope.server.services.exam_state import classify_eye
from fundoscope.server.services.eye_findings import describe_findings, describe_grades
from fundoscope.server.services.judging import picture_file
from fundoscope.server.settings import ServerSettings

_SIDE = 420  # pixels of a photograph's longer side
_MAP_SHARE = 0.75  # of the activation map's own opacity


@dataclass(frozen=True)
class MadeReport:
    """A report that is not written down yet: a part of a page, and a PDF."""

    reading_id: int
    language: str
    superseded_by: int | None
    html: str
    pdf: bytes


# --- looking


def get_report(session: Session, caller: Caller, report_id: int) -> SignedReport:
    """The report of that number; the audit log holds who saw it."""
    caller.require(*CLINICAL)
    report = get_owned(session, caller, SignedReport, report_id)
    readings.get_reading(session, caller, report.reading_id)  # hidden from who is to read the exam again, masked
    audit.record(session, caller, "report.view", "report", report.id, report.site_id, reading=report.reading_id)
    return report


def find_report(session: Session, caller: Caller, reading: Reading, language: str) -> SignedReport | None:
    """The report of a reading as it stands today, in a language; None where it is still to be made. The view is logged."""
    caller.require(*CLINICAL)
    caller.require_site(reading.site_id)
    report = _newest(session, reading.id, language, superseded_by(session, reading))
    if report is not None:
        audit.record(session, caller, "report.view", "report", report.id, report.site_id, reading=reading.id)
    return report


def find_reports(
    session: Session, caller: Caller, exam_id: int | None = None, after: int | None = None, limit: int = 50
) -> Sequence[SignedReport]:
    """Reports of the caller's sites, the newest first; `after` is the last of the page before."""
    caller.require(*CLINICAL)
    query = select(SignedReport).join(Reading, Reading.id == SignedReport.reading_id).where(
        SignedReport.site_id.in_(caller.sites), Reading.exam_id.not_in(readings.masked_exams(caller))
    )  # fmt: skip
    if exam_id is not None:
        query = query.where(Reading.exam_id == get_owned(session, caller, Exam, exam_id).id)
    if after is not None:
        query = query.where(SignedReport.id < after)
    found = session.scalars(query.order_by(SignedReport.id.desc()).limit(limit)).all()
    audit.record(session, caller, "report.list", "exam" if exam_id else "", exam_id, found=len(found))
    return found


def choose_reading(session: Session, caller: Caller, exam_id: int, reading_id: int | None = None) -> Reading:
    """The signed reading of an exam whose report is wanted: that of the number, else the one that counts."""
    caller.require(*CLINICAL)
    exam = get_owned(session, caller, Exam, exam_id)
    if reading_id is not None:
        reading = readings.get_reading(session, caller, reading_id)
        if reading.exam_id != exam.id:
            raise NotFoundError(Reading.noun, reading_id)
    else:
        found = readings.current_reading(session, exam)
        reading = found if found in readings.list_readings(session, caller, exam) else None
    if reading is None or reading.signed_at is None or reading.kind not in exam_state.DECIDING_KINDS:
        raise ConflictError(_("This exam has no signed reading yet, so there is no report. A reader signs it first."))
    return reading


def superseded_by(session: Session, reading: Reading) -> int | None:
    """The number of the reading that supersedes this one; None where it stands."""
    other = readings.superseding_reading(session, reading)
    return None if other is None else other.id


def _newest(session: Session, reading_id: int, language: str, superseded: int | None) -> SignedReport | None:
    wanted = (SignedReport.reading_id == reading_id, SignedReport.language == language)
    same = SignedReport.superseded_by.is_(None) if superseded is None else SignedReport.superseded_by == superseded
    return session.scalar(select(SignedReport).where(*wanted, same).order_by(SignedReport.id.desc()).limit(1))


# --- making


@jobs.handler("report")
def make_report_of_job(room: Room, job: jobs.TakenJob) -> jobs.WriteAnswer:
    """Make the report that a signature asked for."""
    made = make_report(room, job.payload["reading"], job.payload["language"])

    def write(session: Session) -> None:
        reading = session.get_one(Reading, made.reading_id)
        worker = Caller(reading.reader_id, "the worker", Role.READER, frozenset({reading.site_id}), via="worker")
        write_report(session, worker, room.settings, made)

    return write


def make_report(room: Room, reading_id: int, language: str) -> MadeReport:
    """The report of a signed reading as it stands now, in a language; it takes a second or two, so call it in no transaction."""
    language = language if language in LANGUAGES else "en"
    with room.database.reading() as session, speaking(language):
        reading = session.get_one(Reading, reading_id)
        facts = _collect(session, room.settings, reading)
        superseded = superseded_by(session, reading)
    with speaking(language):
        html = pages.environment().get_template("report_body.html.j2").render(**facts, language=language)
        pdf = _draw_pdf(html, facts, language)
    return MadeReport(reading_id, language, superseded, html, pdf)


def write_report(session: Session, caller: Caller, settings: ServerSettings, made: MadeReport) -> SignedReport:
    """Write a report down; the one that is there already is given back as it is."""
    reading = session.get_one(Reading, made.reading_id)
    session.refresh(
        session.get_one(Exam, reading.exam_id), with_for_update=True
    )  # of two that are made at once one stays
    known = _newest(session, made.reading_id, made.language, made.superseded_by)
    if known is not None:
        return known
    digest = hashlib.sha256(made.pdf).hexdigest()
    file = f"reports/{reading.id}_{made.language}_{digest[:16]}.pdf"
    _write_file(settings.pictures / file, made.pdf)
    report = SignedReport(
        site_id=reading.site_id, reading_id=reading.id, language=made.language, superseded_by=made.superseded_by, html=made.html,
        file=file, digest=digest, created_by=caller.user_id, created_via=caller.via,
    )  # fmt: skip
    session.add(report)
    session.flush()
    audit.record(
        session, caller, "report.make", "report", report.id, reading.site_id,
        reading=reading.id, language=made.language, digest=digest, superseded_by=made.superseded_by,
    )  # fmt: skip
    return report


def read_pdf(settings: ServerSettings, report: SignedReport) -> bytes:
    """The PDF of a report; `ConflictError` where its file is gone, or is not the one that was made."""
    try:
        pdf = (settings.pictures / report.file).read_bytes()
    except OSError:
        pdf = b""
    if hashlib.sha256(pdf).hexdigest() != report.digest:
        raise ConflictError(_("The file of this report is missing or was changed. Restore it from the backup."))
    return pdf


def _write_file(path: Path, content: bytes) -> None:
    """Write a whole file for its owner only, or none."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_name(f".{secrets.token_hex(8)}")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


# --- what stands in it


def _collect(session: Session, settings: ServerSettings, reading: Reading) -> dict[str, Any]:
    """Everything that the template draws, as plain values; photographs and gradings are those of the day it was signed."""
    exam = session.get_one(Exam, reading.exam_id)
    patient, site = session.get_one(Patient, exam.patient_id), session.get_one(Site, reading.site_id)
    basis: Mapping[str, Any] = reading.basis or {"photographs": [], "gradings": []}
    gradings = {one["photograph"]: session.get(Grading, one["id"]) for one in basis["gradings"]}
    age = gestational_age_of(patient)
    other = readings.superseding_reading(session, reading)
    eyes = [
        {
            "name": _eyes()[one.eye], "words": _describe_eye(one, patient, reading, basis), "note": one.note,
            "classes": classify_eye(one) if one.gradable and patient.kind == "infant" else None, "gradable": one.gradable,
        }
        for one in sorted(reading.eyes, key=lambda one: EYES.index(one.eye))
    ]  # fmt: skip
    photographs = [
        _describe_photograph(session, settings, one, gradings.get(one["id"]), reading)
        for one in _in_order(basis["photographs"])
    ]
    return {
        "reading": reading, "exam": exam, "patient": patient, "site": site, "eyes": eyes, "photographs": photographs,
        "reader": session.get_one(User, reading.reader_id), "adult": patient.kind == "adult",
        "age": None if age is None or patient.birth_date is None else age.days + (exam.day - patient.birth_date).days,
        "born_at": patient.gestational_age, "kinds": kind_names(), "superseding": other,
        "due": None if reading.due is None else {**reading.due, "when": describe_when(reading.due), "reasons": describe_reasons(reading.due)},
        "bundles": sorted({(one["bundle"], one["bundle_digest"], one["version"]) for one in basis["gradings"]}),
        "before": session.get(Reading, reading.supersedes) if reading.supersedes else None,
        "acknowledged": exam.acknowledged_at, "made_at": now(), "program": version("fundoscope"),
    }  # fmt: skip


def _describe_eye(eye: EyeReading, patient: Patient, reading: Reading, basis: Mapping[str, Any]) -> str:
    if patient.kind == "infant" or not eye.gradable:
        return describe_findings(eye, patient.kind)
    own = {one["id"] for one in basis["photographs"] if one["eye"] == eye.eye}
    return describe_grades([one.grade for one in reading.crossings if one.photograph_id in own])


def _in_order(photographs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    eyes, views = (*EYES, ""), (*VIEWS, "")
    return sorted(photographs, key=lambda one: (eyes.index(one["eye"]), views.index(one["view"]), one["id"]))


def _describe_photograph(
    session: Session, settings: ServerSettings, listed: Mapping[str, Any], grading: Grading | None, reading: Reading
) -> dict[str, Any]:
    """One photograph with its pictures, what the tool said, and for adults the crossings with both grades."""
    row = session.get(ExamPhotograph, listed["id"])
    pixels = None if row is None or grading is None else read_picture(settings, row, grading, "photograph")
    marked, crossings = None, _list_crossings(grading, reading, listed["id"])
    if pixels is not None and row is not None and grading is not None:
        marked = _mark_crossings(pixels, crossings) if crossings else lay_map(settings, row, grading, pixels)
    return {
        "name": f"{_eyes()[listed['eye']]}, {_views()[listed['view']]}", "state": listed["state"], "reason": listed["reason"],
        "picture": None if pixels is None else jpeg_uri(pixels, _SIDE, 82), "marked": None if marked is None else jpeg_uri(marked, _SIDE if not crossings else 2 * _SIDE, 82),
        "suspected": None if grading is None else grading.suspected, "probability": None if grading is None else grading.probability,
        "status": None if grading is None else grading.status, "crossings": crossings, "digest": listed["digest"],
    }  # fmt: skip


def read_picture(settings: ServerSettings, row: ExamPhotograph, grading: Grading, name: str) -> Pixels | None:
    """The pixels of a picture that was made of a photograph; None where it is not there."""
    file = picture_file(settings, row, grading, name)
    return None if file is None or not file.is_file() else read(file).pixels


def lay_map(settings: ServerSettings, row: ExamPhotograph, grading: Grading, pixels: Pixels) -> Pixels | None:
    """The photograph with its activation map, where there is one."""
    file, place = picture_file(settings, row, grading, "activation"), grading.pictures.get("activation_place")
    if file is None or place is None or not file.is_file():
        return None
    drawn = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_UNCHANGED)
    if drawn is None or drawn.ndim != 3 or drawn.shape[2] != 4:
        return None
    rows, columns = pixels.shape[:2]
    left, top, width, height = (
        round(share * size) for share, size in zip(place, (columns, rows, columns, rows), strict=True)
    )
    layer = np.asarray(cv2.resize(drawn, (max(width, 1), max(height, 1)), interpolation=cv2.INTER_AREA))
    whole = np.zeros((rows, columns, 4), np.float32)
    inside = layer[max(-top, 0) : rows - top, max(-left, 0) : columns - left]
    whole[max(top, 0) : max(top, 0) + inside.shape[0], max(left, 0) : max(left, 0) + inside.shape[1]] = inside
    share = _MAP_SHARE * whole[..., 3:] / 255
    return np.clip((1 - share) * pixels + share * whole[..., 2::-1], 0, 255).astype(np.uint8)


def _list_crossings(grading: Grading | None, reading: Reading, photograph_id: int) -> list[dict[str, Any]]:
    """The crossings that the tool found, then those that the reader has added."""
    given = {one.crossing: one for one in reading.crossings if one.photograph_id == photograph_id}
    found = [
        {
            "number": row["crossing"], "row": row["row"], "col": row["col"], "vein_width_px": row.get("vein_width_px"),
            "tool": row.get("grade"), "narrowing": (row.get("narrowing_1"), row.get("narrowing_2")),
            "read": row["crossing"] in given, "grade": given[row["crossing"]].grade if row["crossing"] in given else None,
        }
        for row in (grading.rows.get("rows", ()) if grading is not None else ())
        if row.get("crossing") is not None
    ]  # fmt: skip
    added = [
        {
            "number": one.crossing, "row": one.row, "col": one.col, "vein_width_px": None, "tool": None, "narrowing": (), "read": True,
            "grade": one.grade,
        }
        for one in given.values()
        if one.added
    ]  # fmt: skip
    return found + added


def _mark_crossings(pixels: Pixels, crossings: Sequence[Mapping[str, Any]]) -> Pixels:
    """The photograph with a numbered box at each crossing, coloured by the reader's grade."""
    findings = [
        NickingFinding(
            "", Status.OK, crossing=one["number"], row=one["row"], col=one["col"], vein_width_px=one["vein_width_px"], grade=one["grade"]
        )
        for one in crossings
    ]  # fmt: skip
    return draw_boxes(pixels, findings)[0]


def _eyes() -> dict[str, str]:
    return {"right": _("Right eye"), "left": _("Left eye"), "": _("Eye not known")}


def _views() -> dict[str, str]:
    return {
        "disc": _("disc"), "macula": _("macula"), "temporal": _("temporal"), "nasal": _("nasal"), "superior": _("superior"),
        "inferior": _("inferior"), "other": _("other view"), "": _("view not known"),
    }  # fmt: skip


def kind_names() -> dict[str, str]:
    """Kinds of readings that have reports, in words."""
    return {
        "first": _("Reading"), "adjudication": _("Adjudication"), "correction": _("Correction"), "addendum": _("Addendum"),
    }  # fmt: skip


# --- PDF


def _draw_pdf(html: str, facts: Mapping[str, Any], language: str) -> bytes:
    """The report as PDF, with the system's fonts; it can fetch nothing but the pictures within it."""
    import weasyprint  # half a second, and only here

    class PicturesOnly(weasyprint.urls.URLFetcher):
        """Gives pictures that stand in the page itself, and nothing else."""

        def fetch(self, url: str, headers: Any = None) -> Any:
            head, _comma, data = url.partition(";base64,")
            if head != "data:image/jpeg":
                raise ValueError("A report fetches nothing.")
            return weasyprint.urls.URLFetcherResponse(
                url, base64.b64decode(data, validate=True), {"Content-Type": "image/jpeg"}
            )

    style = pages.static_files()["report.css"].content.decode()
    document = (
        pages.environment()
        .get_template("report_document.html.j2")
        .render(body=html, style=style, language=language, **facts)
    )
    fetcher = PicturesOnly(allowed_protocols=("data",), allow_redirects=False)
    return weasyprint.HTML(string=document, url_fetcher=fetcher).write_pdf(pdf_variant="pdf/ua-1") or b""
