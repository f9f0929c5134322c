"""Photographs that come by themselves, from a PACS, a camera or a folder: their patient and exam are found, or made.

The way of each is that of an upload: it is sorted, kept, written down with the job that judges it. What cannot be taken is refused
with the reason; what the room holds already is not taken again, in whichever way it came before.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from fundoscope.errors import printable
from fundoscope.imaging import DicomHeader
from fundoscope.languages import gettext as _
from fundoscope.languages import kept_text, translate_kept
from fundoscope.server.errors import BusyError, ConflictError, InvalidError, ServerError
from fundoscope.server.models import Correction, Exam, ExamPhotograph, Patient, Site
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.room import Room
from fundoscope.server.services import exams, patients, uploads
from fundoscope.server.services.exams import NewExam
from fundoscope.server.services.inputs import check_input
from fundoscope.server.services.patients import NewPatient
from fundoscope.server.services.uploads import SentFile, SortedFile, clean_name
from fundoscope.server.services.worklist import UNSIGNED

_NO_PATIENT = kept_text("Nothing says whose photograph this is: it has no patient's number. Add it by hand.")
_NO_DAY = kept_text("Nothing says on which day it was taken. Add it by hand.")
_HELD = kept_text("The room holds this photograph already.")
_UNKNOWN = kept_text("The room knows no patient {code}. Add the patient, or check the number, and bring it again.")
_NOT_ADDED = kept_text("The patient cannot be added ({reason}) Add the patient by hand, and bring it again.")
_CAME_LATE = kept_text("Exam {number} holds photographs of the same study and is signed already: this one came later.")
_STUDY_OF_TWO = kept_text(
    "Exam {number} of another patient holds photographs of the same study. Is it the right patient?"
)
_OTHER_ORDER = kept_text("Its accession number is {accession}, and that of the exam {known}. Is it the right exam?")
_CAME_AGAIN = kept_text(
    "It came again as a photograph of the patient {code}. If that is right, give the exam to that patient."
)
_NOT_WHOLE = "The patient's name is not whole"  # how `imaging.dicom_header` begins to tell it


@dataclass(frozen=True, slots=True)
class Intake:
    """Whose photographs come in: of a site, as infants or adults.

    `issuer` gives the hospital's own numbers: a patient of another one has it behind its number, in brackets. Without `adds_patients`
    photographs of patients whom the room does not know are refused. `who` is named in the room's log.
    """

    site_id: int
    patients: Literal["infant", "adult"] = "infant"
    issuer: str = ""
    adds_patients: bool = True
    who: str = "the PACS"
    address: str = ""

    @property
    def caller(self) -> Caller:
        """Who adds them."""
        return Caller(None, self.who, Role.TECHNICIAN, frozenset({self.site_id}), via="dicom", address=self.address)


@dataclass(frozen=True, slots=True)
class ArrivedFile:
    """A file that came, and what is known of it beside what it holds: the patient's number, the day, eye and view; blank: nothing.

    `file_day` is when the file was written, for want of another day.
    """

    sent: SentFile
    patient: str = ""
    day: date | None = None
    file_day: date | None = None
    eye: str = ""
    view: str = ""


@dataclass(frozen=True, slots=True)
class ArrivalOutcome:
    """What became of a file: `taken` into an exam, `already` there, or `refused` for a reason that says what to do.

    `remark` is what a person should look at though it was taken. `sop_instance` is blank for a file that is no DICOM.
    """

    file: str
    outcome: Literal["taken", "already", "refused"]
    reason: str = ""
    remark: str = ""
    exam_id: int | None = None
    sop_instance: str = ""


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whose a photograph is: the patient's number in the room, the day, and the UID of a DICOM study."""

    code: str
    day: date
    study: str = ""


def find_intake(
    room: Room, site: str, patients: Literal["infant", "adult"], issuer: str, adds_patients: bool = True, **more: str
) -> Intake | None:
    """Whose photographs and orders are: of the site of that name, or of the only one; None where there is no such site."""
    with room.database.reading() as session:
        query = select(Site.id).where(Site.active.is_(True))
        found = session.scalars(query.where(Site.name == site) if site else query.limit(2)).all()
    return Intake(found[0], patients, issuer, adds_patients, **more) if len(found) == 1 else None


def take_photographs(room: Room, intake: Intake, arrived: Sequence[ArrivedFile], folder: Path) -> list[ArrivalOutcome]:
    """Take files into the exams of their patients; an outcome for each, in their order.

    `folder` is one of `uploads.incoming_folder`, in which the files lie; those that are taken are moved away. Raises `BusyError` where
    the queue is full: what was not taken by then can be brought again.
    """
    outcomes: dict[int, ArrivalOutcome] = {}
    groups: dict[_Owner, list[int]] = defaultdict(list)
    sorted_files: dict[int, SortedFile] = {}
    for number, each in enumerate(arrived):
        name = clean_name(each.sent.name)
        found = uploads.sort_one(each.sent, room.settings.limits)
        sorted_files[number] = found
        if found.facts is None:
            outcomes[number] = ArrivalOutcome(name, "refused", found.refused)
            continue
        try:
            groups[_find_owner(intake, each, found)].append(number)
        except InvalidError as error:
            outcomes[number] = ArrivalOutcome(name, "refused", str(error), sop_instance=uploads.sop_instance_of(found))
    for owner, numbers in groups.items():
        some = [_placed(sorted_files[number], arrived[number]) for number in numbers]
        outcomes |= zip(numbers, _take_group(room, intake, owner, some), strict=True)
    return [outcomes[number] for number in range(len(arrived))]


def find_owner(room: Room, intake: Intake, arrived: ArrivedFile) -> str:
    """Whose a photograph is, by the patient's number; `InvalidError` where it is no photograph, or nothing says whose or when."""
    found = uploads.sort_one(arrived.sent, room.settings.limits)
    if found.facts is None:
        raise InvalidError(found.refused)
    return _find_owner(intake, arrived, found).code


def require_patient(room: Room, intake: Intake, code: str, header: DicomHeader) -> None:
    """Raise `InvalidError` where the room knows no such patient, and cannot add one with this header."""
    with room.database.reading() as session:
        if find_known(session, intake, code) is None:
            _new_patient(intake, code, header)


def _placed(found: SortedFile, arrived: ArrivedFile) -> SortedFile:
    """The file with eye and view as its folder tells them, where its own name and header do not."""
    guess = replace(
        found.guess, eye=found.guess.eye or arrived.eye, view=found.guess.view or arrived.view,
        day=found.guess.day or arrived.day or arrived.file_day,
    )  # fmt: skip
    return replace(found, guess=guess)


def _find_owner(intake: Intake, arrived: ArrivedFile, found: SortedFile) -> _Owner:
    """Whose a photograph is; `InvalidError` where nothing says whose, or when it was taken."""
    facts = found.facts
    assert facts is not None
    code = patient_code(facts.header, intake.issuer) if facts.header else arrived.patient
    if not code:
        raise InvalidError(_NO_PATIENT)
    taken = uploads.taken_day(facts.taken_at)
    day = taken if facts.header else arrived.day or taken or found.guess.day or arrived.file_day
    if day is None:
        raise InvalidError(_NO_DAY)
    return _Owner(code, day, uploads.short_uid(facts.header.study) if facts.header else "")


def patient_code(header: DicomHeader, issuer: str) -> str:
    """The number that a patient of a header has in the room: with its issuer in brackets, unless that is the hospital's own."""
    return header.patient_id if header.issuer in ("", issuer) else header.patient


def patient_name(header: DicomHeader) -> str:
    """The name as people write it, its groups one behind the other; blank where it is not whole."""
    if any(doubt.startswith(_NOT_WHOLE) for doubt in header.doubts):
        return ""
    groups = [" ".join(group.replace("^", " ").split()) for group in header.patient_name.split("=")]
    name = " ".join(dict.fromkeys(filter(None, groups)))
    name = "".join(letter for letter in name if unicodedata.category(letter)[0] != "C")
    return unicodedata.normalize("NFC", name)[:200].strip()


def _take_group(room: Room, intake: Intake, owner: _Owner, found: Sequence[SortedFile]) -> list[ArrivalOutcome]:
    """Take the photographs of one patient and day, in one transaction."""
    uploads.keep_files(found, room.settings)
    try:
        try:
            return room.uploads.run(lambda session: _write(session, room, intake, owner, found))
        except ConflictError:  # somebody else may have added the patient at the same moment
            return room.uploads.run(lambda session: _write(session, room, intake, owner, found))
    except BusyError:
        raise
    except ServerError as error:
        return [
            ArrivalOutcome(clean_name(each.name), "refused", str(error), sop_instance=uploads.sop_instance_of(each))
            for each in found
        ]


def _write(
    session: Session, room: Room, intake: Intake, owner: _Owner, found: Sequence[SortedFile]
) -> list[ArrivalOutcome]:
    there = _find_held(session, intake.site_id, owner.code, found)
    new = [each for each in found if _key(each) not in there]
    outcomes: dict[str, ArrivalOutcome] = {}
    if new:
        first = next((each.facts.header for each in new if each.facts and each.facts.header), None)
        patient = _find_patient(session, intake, owner.code, first)
        exam, remark = _find_exam(session, intake, patient, owner, _accession(first))
        receipt = uploads.add_photographs(session, intake.caller, exam.id, new, room.settings.limits)
        for each, item in zip(new, receipt.items, strict=True):
            outcome = "taken" if item.outcome == "accepted" else item.outcome
            if outcome == "taken" and remark:
                _add_remark(session.get_one(ExamPhotograph, item.photograph_id), remark)
            told = " ".join(filter(None, (item.remark, translate_kept(remark))))
            outcomes.setdefault(
                _key(each),
                ArrivalOutcome(item.file, outcome, item.reason, told, exam.id, uploads.sop_instance_of(each)),
            )
    for each in found:
        if uploads.sop_instance_of(each) and _key(each) in there:
            _look_again(session, uploads.sop_instance_of(each), owner.code)
    told = _HELD
    return [
        outcomes[_key(each)]
        if _key(each) in outcomes
        else ArrivalOutcome(
            clean_name(each.name),
            "already",
            told,
            exam_id=there[_key(each)],
            sop_instance=uploads.sop_instance_of(each),
        )
        for each in found
    ]


def _accession(header: DicomHeader | None) -> str:
    """The number of an order; blank where it holds what cannot be seen."""
    return header.accession[:64] if header is not None and header.accession.isprintable() else ""


def _key(found: SortedFile) -> str:
    assert found.sent is not None
    return uploads.sop_instance_of(found) or found.sent.digest


def _find_held(session: Session, site_id: int, code: str, found: Sequence[SortedFile]) -> dict[str, int]:
    """The exams that hold these photographs, by UID or digest: a DICOM one in any exam of the site, another one in this patient's."""
    uids = [uid for each in found if (uid := uploads.sop_instance_of(each))]
    digests = [each.sent.digest for each in found if each.sent is not None and not uploads.sop_instance_of(each)]
    query = select(ExamPhotograph.sop_instance, ExamPhotograph.digest, ExamPhotograph.exam_id).where(
        ExamPhotograph.site_id == site_id
    )
    held = {
        row.sop_instance: row.exam_id for row in session.execute(query.where(ExamPhotograph.sop_instance.in_(uids)))
    }
    if not digests:
        return held
    own = query.join(Exam, Exam.id == ExamPhotograph.exam_id).join(Patient, Patient.id == Exam.patient_id)
    rows = session.execute(own.where(ExamPhotograph.digest.in_(digests), Patient.code == code))
    return held | {row.digest: row.exam_id for row in rows}


def _find_patient(session: Session, intake: Intake, code: str, header: DicomHeader | None) -> Patient:
    """The patient of a number, or the one into whom it was merged; one that is not known is added, where the source may."""
    known = find_known(session, intake, code)
    return patients.add_patient(session, intake.caller, _new_patient(intake, code, header)) if known is None else known


def _new_patient(intake: Intake, code: str, header: DicomHeader | None) -> NewPatient:
    """A patient as a header tells; `InvalidError` where the source may add none, or this one cannot be added."""
    if not intake.adds_patients:
        raise InvalidError(_UNKNOWN.format(code=printable(code[:64])))
    values = {"site_id": intake.site_id, "kind": intake.patients, "code": code}
    if header is not None:
        values |= {"name": patient_name(header), "birth_date": header.birth_date}
        values["note"] = " ".join(doubt for doubt in header.doubts if doubt.startswith(_NOT_WHOLE))[:4000]
    try:
        return check_input(NewPatient, values)
    except InvalidError as error:
        raise InvalidError(_NOT_ADDED.format(reason=error)) from error


def find_known(session: Session, intake: Intake, code: str) -> Patient | None:
    """The patient of a number, or the one into whom it was merged; None where the site knows none."""
    patient = patients.find_by_code(session, intake.caller, intake.site_id, code)
    while patient is not None and patient.merged_into is not None:
        patient = session.get(Patient, patient.merged_into)
    return patient if patient is not None and patient.site_id == intake.site_id else None


def _find_exam(session: Session, intake: Intake, patient: Patient, owner: _Owner, accession: str) -> tuple[Exam, str]:
    """The exam that is not signed to which a photograph belongs, and what a person should look at in that.

    It is that of its study, else of its order, else of its day; opened again where it was finished; a new one where there is none. An
    exam that a person gave to another patient keeps what comes after: the headers are wrong.
    """
    remark = ""
    exam = None
    if owner.study:
        of_study = Exam.id.in_(select(ExamPhotograph.exam_id).where(ExamPhotograph.study == owner.study))
        exams_of_study = session.scalars(
            select(Exam)
            .where((Exam.study == owner.study) | of_study, Exam.site_id == intake.site_id)
            .order_by(Exam.id.desc())
        ).all()
        of_others = [each for each in exams_of_study if each.patient_id != patient.id]
        moved = next((each for each in of_others if was_moved(session, each, patient)), None)
        own = [each for each in exams_of_study if each.patient_id == patient.id or each is moved]
        exam = next((each for each in own if each.state in UNSIGNED), None)
        if exam is None and own and own[0].state == "signed":
            remark = _CAME_LATE.format(number=own[0].id)
        elif exam is None and of_others:
            remark = _STUDY_OF_TWO.format(number=of_others[0].id)
    unsigned = (Exam.patient_id == patient.id, Exam.state.in_(UNSIGNED))
    if exam is None and accession:
        exam = session.scalar(
            select(Exam).where(*unsigned, Exam.accession == accession).order_by(Exam.id.desc()).limit(1)
        )
    if exam is None:
        exam = session.scalar(select(Exam).where(*unsigned, Exam.day == owner.day).order_by(Exam.id.desc()).limit(1))
        if exam is not None and accession and exam.accession not in ("", accession):
            remark = _OTHER_ORDER.format(accession=accession, known=exam.accession)
    if exam is None:
        values = {"patient_id": patient.id, "day": owner.day.isoformat(), "accession": accession}
        return exams.add_exam(session, intake.caller, check_input(NewExam, values)), remark
    if exam.state != "open":
        exams.reopen_exam(session, intake.caller, exam.id, _("More photographs came."))
    if accession and not exam.accession:
        exam.accession = accession
    return exam, remark


def was_moved(session: Session, exam: Exam, patient: Patient) -> bool:
    """Whether a person gave the exam of this patient to the one that it is of now."""
    moves = Correction.subject == "exam", Correction.subject_id == exam.id, Correction.field == "patient"
    return (
        session.scalar(select(Correction.id).where(*moves, Correction.before == str(patient.id)).limit(1)) is not None
    )


def _look_again(session: Session, sop_instance: str, code: str) -> None:
    """Write on a photograph that is held already that it came again as that of another patient; once."""
    held = session.scalars(select(ExamPhotograph).where(ExamPhotograph.sop_instance == sop_instance)).all()
    for photograph in held:
        patient = session.get_one(Patient, session.get_one(Exam, photograph.exam_id).patient_id)
        known = {patient.code, *session.scalars(select(Patient.code).where(Patient.merged_into == patient.id))}
        if code not in known:
            _add_remark(photograph, _CAME_AGAIN.format(code=code[:64]))


def _add_remark(photograph: ExamPhotograph, remark: str) -> None:
    if remark not in photograph.remark:
        photograph.remark = f"{photograph.remark} {remark}".strip()
