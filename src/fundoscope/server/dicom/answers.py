"""The answers to an exam as DICOM objects, made of what stands in the tables: the program's, unsigned, and the reader's, signed.

An exam's DICOM photographs may lie in several studies, and may have been judged by several bundles: each study has answers of its own,
and so has each bundle. What is made is the same byte for byte as long as the same photographs, gradings and readings are told of.
"""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydicom import dcmread
from sqlalchemy import select
from sqlalchemy.orm import Session

import fundoscope.dicom as dicom
from fundoscope.dicom.answers import RETINOPATHY_OF_PREMATURITY
from fundoscope.dicom.objects import CAPTURE, DOCUMENT, KEY_OBJECTS, READING_ROOM, STRUCTURED_REPORT, AnsweredStudy
from fundoscope.findings import BundleIdentity, Mention, NickingFinding, Status
from fundoscope.imaging import Pixels
from fundoscope.imaging.dicom_header import read_dicom_header
from fundoscope.languages import speaking
from fundoscope.nicking.grading import dicom_answers as nicking_answers
from fundoscope.reports.nicking_pictures import draw_boxes
from fundoscope.reports.overlay import shrink
from fundoscope.rop.screening import dicom_answers as rop_answers
from fundoscope.server.database import Database
from fundoscope.server.dicom import troubles
from fundoscope.server.dicom.shown import MEDIA_TYPE, ShownGrading, shown_of_basis
from fundoscope.server.errors import ConflictError
from fundoscope.server.models import EYES, Exam, ExamPhotograph, EyeReading, Grading, Patient, Reading, Site, User
from fundoscope.server.services import judging
from fundoscope.server.services.eye_findings import (
    describe_findings,
    describe_grades,
    plus_words,
    regression_words,
    stage_words,
)
from fundoscope.server.services.signed_reports import kind_names, lay_map, read_picture
from fundoscope.server.settings import ServerSettings

#: Changes when the objects of a signed reading come to look otherwise; no version of the program, since later ones refer to them.
READING_FORM = "fundoscope, signed readings 1"
_SIDE = 1280  # pixels of the longer side of an overlay
_TASKS = {"rop screen": ("rop", rop_answers), "nicking grade": ("nicking", nicking_answers)}
_GRADE = nicking_answers.GRADE
_NOT_GRADED = dicom.Concept.ours("cannot-grade", "cannot be graded, says the reader")


@dataclass(frozen=True, slots=True)
class AnswerObject:
    """One object that is to be sent: its kind (SR, KO, PDF, overlay), study and UID, and its file."""

    kind: str
    study: str
    sop_instance: str
    file: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.file).hexdigest()

    @classmethod
    def of(cls, kind: str, file: bytes) -> AnswerObject:
        """An object that was made."""
        found = dcmread(io.BytesIO(file), specific_tags=["StudyInstanceUID", "SOPInstanceUID"])
        return cls(kind, str(found.StudyInstanceUID), str(found.SOPInstanceUID), file)


@dataclass(frozen=True, slots=True)
class _Told:
    """One photograph with what was said of it, and its overlay."""

    row: ExamPhotograph
    grading: Grading
    answer: dicom.AnsweredPhotograph
    picture: Pixels | None


def build_tool_answer(
    database: Database, settings: ServerSettings, exam_id: int, shown: Sequence[ShownGrading]
) -> list[AnswerObject]:
    """The program's answer to photographs of an exam: overlays, report, document and selection, study by study.

    Raises `ConflictError` where the photographs are not those of the exam's patient, and `PhotographError` for a file that is gone.
    """
    with database.reading() as session:
        told = _collect(session, settings, exam_id, shown)
    made: list[AnswerObject] = []
    for some in _by_study(told):
        answerer = _tool_of(some[0].grading)
        study = AnsweredStudy.read(answerer, [one.answer for one in some])
        pictures = {k: one.picture for k, one in enumerate(some) if one.picture is not None}
        for k, picture in pictures.items():
            alone = replace(study, photographs=study.photographs[k : k + 1], sources=study.sources[k : k + 1])
            made.append(AnswerObject.of(CAPTURE.name, dicom.write_capture(alone, picture, k + 1)))
        made.append(AnswerObject.of(STRUCTURED_REPORT.name, dicom.write_structured_report(study)))
        made.append(AnswerObject.of(DOCUMENT.name, dicom.write_document(study, pictures)))
        if (selection := dicom.write_key_objects(study)) is not None:
            made.append(AnswerObject.of(KEY_OBJECTS.name, selection))
    return made


def build_signed_answer(database: Database, settings: ServerSettings, reading_id: int) -> list[AnswerObject]:
    """The signed answer of a reading: report and document, study by study. Raises as `build_tool_answer` does."""
    with database.reading() as session:
        found = _read_studies(session, settings, session.get_one(Reading, reading_id))
    made = []
    for study, pictures in found:
        made.append(AnswerObject.of(STRUCTURED_REPORT.name, dicom.write_signed_reading(study)))
        made.append(AnswerObject.of(DOCUMENT.name, dicom.write_document(study, pictures)))
    return made


# --- the program's


def _collect(
    session: Session, settings: ServerSettings, exam_id: int, shown: Sequence[ShownGrading]
) -> list[_Told]:  # fmt: skip
    rows = {
        row.id: row
        for row in session.scalars(
            select(ExamPhotograph).where(ExamPhotograph.id.in_([one.photograph for one in shown]))
        )
    }
    gradings = {
        row.id: row for row in session.scalars(select(Grading).where(Grading.id.in_([one.grading for one in shown])))
    }
    found = []
    for one in sorted(shown, key=lambda one: one.photograph):
        row, grading = rows[one.photograph], gradings[one.grading]
        if row.media_type != MEDIA_TYPE or not row.study:
            continue
        file = judging.photograph_file(settings, row.digest)
        header = read_dicom_header(file, row.file_name)
        header = replace(header, eye=one.eye or header.eye)
        mention = Mention(row.file_name, location=file, header=header)
        answer = _TASKS[grading.grader][1].answer_of(mention, grading.rows["rows"])
        found.append(_Told(row, grading, answer, _draw(settings, row, grading)))
    _check_patient(session, exam_id, found)
    return found


def _check_patient(session: Session, exam_id: int, told: Iterable[_Told]) -> None:
    """Raise `ConflictError` where a photograph names another patient than its exam is of: no answer may come under a wrong name."""
    exam = session.get_one(Exam, exam_id)
    merged = session.scalars(select(Patient.code).where(Patient.merged_into == exam.patient_id))
    codes = {session.get_one(Patient, exam.patient_id).code, *merged}
    for one in told:
        header = one.answer.header
        if not codes & {header.patient_id, header.patient}:
            raise ConflictError(
                troubles.WRONG_PATIENT.format(file=one.row.file_name, named=header.patient or "-", number=exam.id)
            )


def _by_study(told: Iterable[_Told]) -> list[list[_Told]]:
    """Photographs of one study that one bundle has judged, together."""
    groups: dict[tuple[str, str, str], list[_Told]] = defaultdict(list)
    for one in told:
        groups[one.row.study, one.grading.bundle_digest, one.grading.version].append(one)
    return list(groups.values())


def _tool_of(grading: Grading) -> dicom.Answerer:
    """Who answered; the facts of the bundle's card are told while it is the one of today."""
    task, answers = _TASKS[grading.grader]
    today = judging.bundle_identity(task)
    card = judging.bundle_card(task) if today.digest == grading.bundle_digest else None
    facts = {} if card is None else {
        "For": card.intended_use, "Trained on": "; ".join(card.trained_on), "Never tested on": "; ".join(card.never_tested_on),
    }  # fmt: skip
    # without its day, which no table keeps: answers must not change when the bundle of today does
    identity = BundleIdentity(grading.bundle, "", grading.bundle_digest)
    program = f"fundoscope {grading.version}".strip()
    return dicom.Answerer(grading.grader, identity, program, answers.TITLE, {}, facts)


def _draw(settings: ServerSettings, row: ExamPhotograph, grading: Grading) -> Pixels | None:
    """The photograph with what was found drawn on it; None where it was not graded, or its pictures are not there."""
    if grading.status != Status.OK.value:
        return None
    pixels = read_picture(settings, row, grading, "photograph")
    if pixels is None:
        return None
    if grading.grader == "rop screen":
        drawn = lay_map(settings, row, grading, pixels)
        return None if drawn is None else shrink(drawn, _SIDE)
    return _box(
        pixels, [(each, each.get("grade")) for each in grading.rows["rows"] if each.get("crossing") is not None]
    )


def _box(pixels: Pixels, crossings: Sequence[tuple[Mapping[str, Any], int | None]]) -> Pixels:
    findings = [
        NickingFinding(
            "", Status.OK, crossing=row["crossing"], row=row["row"], col=row["col"], vein_width_px=row.get("vein_width_px"),
            grade=grade,
        )
        for row, grade in crossings
    ]  # fmt: skip
    return draw_boxes(pixels, findings)[0]


# --- the reader's


def _read_studies(
    session: Session, settings: ServerSettings, reading: Reading
) -> list[tuple[AnsweredStudy, dict[int, Pixels]]]:
    """A signed reading, study by study, with pictures by their place among the study's photographs."""
    assert reading.signed_at is not None
    told = _collect(session, settings, reading.exam_id, shown_of_basis(reading.basis or {}))
    before = (
        {}
        if reading.supersedes is None
        else _reports_of(session, settings, session.get_one(Reading, reading.supersedes))
    )
    day = f"{reading.signed_at:%Y-%m-%d}"
    answerer = dicom.Answerer(
        READING_ROOM,
        BundleIdentity("signed reading", day, reading.digest[:16]),
        READING_FORM,
        "Signed reading of the retina",
    )
    studies: dict[str, list[_Told]] = defaultdict(list)
    for one in told:
        studies[one.row.study].append(one)
    found = []
    for uid, some in studies.items():
        superseded = before.get(uid) or [_superseded_tool(each) for each in _by_study(some)]
        signed = _describe_reading(session, reading, told, superseded)
        photographs = [_as_read(one, reading) for one in some]
        pictures = {
            k: picture for k, one in enumerate(some) if (picture := _picture_read(settings, one, reading)) is not None
        }
        found.append((AnsweredStudy.read(answerer, photographs, signed), pictures))
    return found


def _superseded_tool(some: Sequence[_Told]) -> dicom.SupersededDocument:
    """The program's report on photographs of a study, made again to know its UIDs."""
    grading = some[0].grading
    study = AnsweredStudy.read(_tool_of(grading), [one.answer for one in some])
    what = f"the unsigned answer of {grading.grader}, bundle {grading.bundle}"
    return _reference(what, dicom.write_structured_report(study))


def _reports_of(
    session: Session, settings: ServerSettings, reading: Reading
) -> dict[str, list[dicom.SupersededDocument]]:
    """The reports of a reading that another one supersedes, by their study."""
    reader = session.get_one(User, reading.reader_id).full_name
    what = f"what {reader} signed on {reading.signed_at:%Y-%m-%d}"
    found = _read_studies(session, settings, reading)
    reports = [_reference(what, dicom.write_signed_reading(study)) for study, _ in found]
    return {one.study: [one] for one in reports}


def _reference(what: str, file: bytes) -> dicom.SupersededDocument:
    names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
    found = dcmread(io.BytesIO(file), specific_tags=list(names))
    return dicom.SupersededDocument(what, *(str(found[name].value) for name in names))


def _describe_reading(
    session: Session, reading: Reading, told: Sequence[_Told], superseded: Sequence[dicom.SupersededDocument]
) -> dicom.SignedReading:  # fmt: skip
    """What was read, by whom, in English and in codes."""
    assert reading.signed_at is not None
    kind = session.get_one(Patient, session.get_one(Exam, reading.exam_id).patient_id).kind
    by_eye = {eye.eye: eye for eye in reading.eyes}
    eyes = []
    with speaking("en"):
        for eye in EYES:
            own = {one.row.id for one in told if one.answer.header.eye == eye}
            said = by_eye.get(eye)
            grades = [one.grade for one in reading.crossings if one.photograph_id in own]
            if said is None and not own:
                continue
            words = (
                describe_grades(grades)
                if said is None or (kind == "adult" and said.gradable)
                else describe_findings(said, kind)
            )
            coded = () if said is None else tuple(code_findings(said))
            eyes.append(dicom.ReadEye(eye, words, coded, said.note if said else ""))
        name = kind_names().get(reading.kind, reading.kind)
    notes = [reading.note, f"Why: {reading.why}" if reading.why else ""]
    return dicom.SignedReading(
        name, session.get_one(User, reading.reader_id).full_name, session.get_one(Site, reading.site_id).name,
        reading.signed_at, reading.digest, tuple(eyes), tuple(filter(None, notes)), tuple(superseded),
    )  # fmt: skip


def _as_read(told: _Told, reading: Reading) -> dicom.AnsweredPhotograph:
    """The photograph with the reader's grades in the place of the program's."""
    crossings = tuple(
        dicom.CrossingAnswer(
            one.crossing, one.row, one.col, evaluations=(dicom.CodedAnswer(_GRADE, _grade(one.grade)),),
            remark="added by the reader" if one.added else "",
        )
        for one in sorted(reading.crossings, key=lambda one: one.crossing)
        if one.photograph_id == told.row.id
    )  # fmt: skip
    words = {
        "graded": "was read",
        "refused": "was read; the program refused it",
        "failed": "was read; the program failed at it",
    }
    return replace(
        told.answer, headline=words.get(told.row.state, "was read"), evaluations=(), measures=(), crossings=crossings, remark="",
        attention="",
    )  # fmt: skip


def _grade(grade: int | None) -> dicom.Concept:
    return _NOT_GRADED if grade is None else nicking_answers.GRADES[grade]


def _picture_read(settings: ServerSettings, told: _Told, reading: Reading) -> Pixels | None:
    """The photograph as it was read: with the crossings that the reader graded, and without the program's map."""
    pixels = read_picture(settings, told.row, told.grading, "photograph")
    graded = {one.crossing: one.grade for one in reading.crossings if one.photograph_id == told.row.id}
    if pixels is None or not graded:
        return None if pixels is None else shrink(pixels, _SIDE)
    rows: list[Mapping[str, Any]] = [row for row in told.grading.rows["rows"] if row.get("crossing") in graded]
    rows += [
        {"crossing": one.crossing, "row": one.row, "col": one.col}
        for one in reading.crossings
        if one.added and one.photograph_id == told.row.id
    ]
    return _box(pixels, [(row, graded[row["crossing"]]) for row in rows])


def code_findings(eye: EyeReading) -> Iterable[dicom.CodedAnswer]:
    """The findings of an infant's eye in codes of ours; what was not said is left out."""
    ours, answer = dicom.Concept.ours, dicom.CodedAnswer
    if not eye.gradable:
        yield answer(RETINOPATHY_OF_PREMATURITY, _NOT_GRADED)
        return
    if eye.zone:
        yield answer(ours("zone", "Zone of ROP (ICROP3)"), ours(f"zone-{eye.zone}", f"zone {eye.zone}"))
    if eye.stage:
        yield answer(ours("stage", "Stage of ROP (ICROP3)"), ours(f"stage-{eye.stage}", stage_words(eye.stage)))
    if eye.plus:
        yield answer(ours("plus", "Plus disease (ICROP3)"), ours(f"plus-{eye.plus}", plus_words()[eye.plus]))
    if eye.regression:
        words = regression_words()[eye.regression]
        yield answer(ours("regression", "Regression of ROP (ICROP3)"), ours(f"reg-{eye.regression}", words))
    flags = (("posterior", "Posterior zone II"), ("notch", "Zone secondary to a notch"), ("aggressive", "Aggressive ROP (A-ROP)"),
             ("vascularised", "Retina fully vascularised"), ("treated", "Eye was treated"))  # fmt: skip
    for name, meaning in flags:
        value = getattr(eye, name)
        if value:
            yield answer(ours(name, meaning), dicom.Concept("373066001", "SCT", "Yes"))
