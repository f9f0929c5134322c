"""The hospital's worklist (Modality Worklist, PS3.4, annex K): asked by C-FIND for the orders of a day, which become exams.

An order is known again by its accession number and the number of its step; asking twice changes nothing. The worklist has the last
word on who a patient is: a name or a day of birth that it says otherwise is put right with its trace, an order that it gives to
another patient takes its exam there, and two patients whom it calls one are merged. What a person has put right here stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from pydicom.dataset import Dataset
from pynetdicom import build_context
from sqlalchemy import select
from sqlalchemy.orm import Session

from fundoscope.imaging import DicomHeader
from fundoscope.imaging.dicom_header import describe_header, text_of
from fundoscope.languages import gettext as _
from fundoscope.server.dicom.intake import Intake, find_known, patient_code, patient_name, was_moved
from fundoscope.server.dicom.peers import PeerError, associate
from fundoscope.server.dicom.settings import DimsePeer
from fundoscope.server.errors import InvalidError, ServerError
from fundoscope.server.models import Correction, Exam, ExamPhotograph, Patient
from fundoscope.server.room import Room
from fundoscope.server.services import exams, patients
from fundoscope.server.services.exams import ExamChanges, NewExam, NewPatientOfExam
from fundoscope.server.services.inputs import check_input
from fundoscope.server.services.patients import Merging, NewPatient, PatientChanges
from fundoscope.server.services.uploads import names_differ, short_uid
from fundoscope.server.services.worklist import UNSIGNED

WORKLIST = "1.2.840.10008.5.1.4.31"
_MOST_ORDERS = 2000  # of one answer: a question without bounds would bring the whole hospital
_ASKED = (
    "SpecificCharacterSet", "AccessionNumber", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "OtherPatientIDs", "StudyInstanceUID", "RequestedProcedureID", "RequestedProcedureDescription",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ScheduledExam:
    """An order of the worklist; `header` holds patient, accession number and study. `other_numbers`: the patient's, each with its issuer.

    `step` names it beside others of one accession number; `day` is when it is to be done.
    """

    header: DicomHeader
    step: str
    day: date
    station: str = ""
    description: str = ""
    other_numbers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ScheduledOutcome:
    """What became of an order: its exam was `added`, `changed` or is `known`; `refused` with the reason; `later`: not for today."""

    order: ScheduledExam
    outcome: Literal["added", "changed", "known", "refused", "later"]
    reason: str = ""
    exam_id: int | None = None


# --- asking


def ask_worklist(peer: DimsePeer, day: date, modality: str = "", station: str = "") -> list[ScheduledExam]:
    """The orders of a day. Raises `PeerError` where the worklist cannot be asked, or answers with more than can be for one camera."""
    found: list[ScheduledExam] = []
    with associate(peer, [build_context(WORKLIST)]) as association:
        for status, identifier in association.send_c_find(_question(day, modality, station), WORKLIST):
            code = status.get("Status")
            if code is None:
                raise PeerError(f"{peer}: it did not answer to the end. Look into its log.")
            if code not in (0xFF00, 0xFF01):
                if code != 0:
                    told = str(status.get("ErrorComment") or "").strip()
                    raise PeerError(
                        f"{peer}: the worklist answered 0x{code:04X}{f' ({told})' if told else ''}. Look into its log."
                    )
                break
            if len(found) >= _MOST_ORDERS:
                raise PeerError(
                    f"{peer}: more than {_MOST_ORDERS} orders for one day. Name the modality or the station."
                )
            if identifier is not None:
                found += read_order(identifier)
    return found


def _question(day: date, modality: str, station: str) -> Dataset:
    asked = Dataset()
    for keyword in _ASKED:
        setattr(asked, keyword, None)
    asked.SpecificCharacterSet = "ISO_IR 192"
    step = Dataset()
    step.Modality, step.ScheduledStationAETitle = modality, station
    step.ScheduledProcedureStepStartDate = f"{day:%Y%m%d}"
    for keyword in ("ScheduledProcedureStepStartTime", "ScheduledProcedureStepID", "ScheduledProcedureStepDescription"):
        setattr(step, keyword, None)
    asked.ScheduledProcedureStepSequence = [step]
    other = Dataset()
    other.PatientID, other.IssuerOfPatientID = None, None
    asked.OtherPatientIDsSequence = [other]
    return asked


def read_order(identifier: Dataset) -> list[ScheduledExam]:
    """The orders of one answer, one for each of its steps that has a day. Raises `PhotographError` for one that is broken."""
    header = describe_header(identifier, "worklist")
    others = [(text_of(item, "PatientID"), text_of(item, "IssuerOfPatientID")) for item in identifier.get("OtherPatientIDsSequence") or ()]  # fmt: skip
    told = identifier.get("OtherPatientIDs") or ()
    others += [(str(each).strip(), header.issuer) for each in ([told] if isinstance(told, str) else told)]
    orders = []
    for step in identifier.get("ScheduledProcedureStepSequence") or ():
        digits = text_of(step, "ScheduledProcedureStepStartDate")
        try:
            day = date.fromisoformat(f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}")
        except ValueError:
            continue
        orders.append(
            ScheduledExam(
                header, text_of(step, "ScheduledProcedureStepID")[:64], day, text_of(step, "ScheduledStationAETitle"),
                text_of(step, "ScheduledProcedureStepDescription") or text_of(identifier, "RequestedProcedureDescription"),
                tuple(dict.fromkeys(one for one in others if one[0])),
            )
        )  # fmt: skip
    return orders


# --- into the room


def take_orders(room: Room, intake: Intake, orders: Sequence[ScheduledExam]) -> list[ScheduledOutcome]:
    """Make exams of orders, or bring those that there are up to date; each in a transaction of its own."""
    outcomes = []
    for order in orders:
        if order.day > date.today():
            outcomes.append(ScheduledOutcome(order, "later"))
            continue
        try:
            with room.database.transaction() as session:
                outcomes.append(_take_order(session, intake, order))
        except ServerError as error:
            outcomes.append(ScheduledOutcome(order, "refused", str(error)))
    return outcomes


def _take_order(session: Session, intake: Intake, order: ScheduledExam) -> ScheduledOutcome:
    """The exam of an order; raises what the services refuse."""
    caller, header = intake.caller, order.header
    code = patient_code(header, intake.issuer)
    if not code:
        raise InvalidError(_("The order names no patient. Put it right in the hospital's system."))
    if not (header.accession.isprintable() and (header.accession or short_uid(header.study))):
        raise InvalidError(
            _("The order has neither an accession number nor a study. Put it right in the hospital's system.")
        )
    why = _("The hospital's worklist says so.")
    patient = find_known(session, intake, code)
    changed = False
    if patient is None:
        values = {"site_id": intake.site_id, "kind": intake.patients, "code": code, "name": patient_name(header), "birth_date": header.birth_date}  # fmt: skip
        patient = patients.add_patient(session, caller, check_input(NewPatient, values))
    else:
        changed = _put_identity_right(session, intake, patient, header, why)
    for number, issuer in order.other_numbers:
        changed |= _merge_other(session, intake, patient, number, issuer, why)
    exam = _find_ordered(session, intake, order)
    if exam is None:
        return _add_ordered(session, intake, patient, order)
    if exam.patient_id != patient.id and not was_moved(session, exam, patient):
        before = session.get_one(Patient, exam.patient_id)
        exams.move_exam(session, caller, exam.id, NewPatientOfExam(patient_id=patient.id, why=why))
        if not before.exams and _are_one(before, patient):
            patients.merge_patients(session, caller, before.id, Merging(into=patient.id, why=why))
        changed = True
    has_photographs = (
        session.scalar(select(ExamPhotograph.id).where(ExamPhotograph.exam_id == exam.id).limit(1)) is not None
    )
    if exam.day != order.day and exam.state == "open" and not has_photographs:
        exams.change_exam(session, caller, exam.id, ExamChanges(day=order.day, why=why))
        changed = True
    return ScheduledOutcome(order, "changed" if changed else "known", exam_id=exam.id)


def _put_identity_right(session: Session, intake: Intake, patient: Patient, header: DicomHeader, why: str) -> bool:
    """Take over the name where it is missing or another one, and the day of birth; whether anything changed."""
    values = {}
    name = patient_name(header)
    if name and (not patient.name or names_differ(name, patient.name)):
        values["name"] = name
    if header.birth_date and (patient.birth_date is None or patient.birth_date.isoformat() != header.birth_date):
        values["birth_date"] = header.birth_date
    if values:
        patients.change_patient(session, intake.caller, patient.id, check_input(PatientChanges, {**values, "why": why}))
    return bool(values)


def _merge_other(session: Session, intake: Intake, patient: Patient, number: str, issuer: str, why: str) -> bool:
    """Merge the patient who has one of the other numbers into this one; whether there was one.

    Days of birth that contradict each other are believed more: such patients stay two. So do those whom a person has parted again.
    """
    code = number if issuer in ("", intake.issuer) else f"{number} ({issuer})"
    other = patients.find_by_code(session, intake.caller, intake.site_id, code)
    if other is None or other.id == patient.id or other.merged_into is not None or other.kind != patient.kind:
        return False
    if None not in (other.birth_date, patient.birth_date) and other.birth_date != patient.birth_date:
        return False
    lines = Correction.subject == "patient", Correction.subject_id == other.id, Correction.field == "merged_into"
    if session.scalar(select(Correction.id).where(*lines, Correction.after == "").limit(1)) is not None:
        return False
    patients.merge_patients(session, intake.caller, other.id, Merging(into=patient.id, why=why))
    return True


def _are_one(before: Patient, after: Patient) -> bool:
    """Whether a patient who lost its only exam is the other one under an earlier number: the same name and day of birth."""
    same_day = before.birth_date is not None and before.birth_date == after.birth_date
    return bool(same_day and before.name and before.name == after.name and before.created_via == "dicom")


def _find_ordered(session: Session, intake: Intake, order: ScheduledExam) -> Exam | None:
    """The exam of an order, whatever became of it."""
    query = select(Exam).where(Exam.site_id == intake.site_id).order_by(Exam.id.desc()).limit(1)
    if order.header.accession:
        same = Exam.accession == order.header.accession[:64], Exam.scheduled_step == order.step
        if (found := session.scalar(query.where(*same))) is not None:
            return found
    return session.scalar(query.where(Exam.study == study)) if (study := short_uid(order.header.study)) else None


def _add_ordered(session: Session, intake: Intake, patient: Patient, order: ScheduledExam) -> ScheduledOutcome:
    """The exam of that patient and day, where photographs came first or a person has made it; else a new one."""
    accession = order.header.accession[:64]
    same = Exam.patient_id == patient.id, Exam.day == order.day, Exam.state.in_(UNSIGNED)
    exam = session.scalar(select(Exam).where(*same).order_by(Exam.id.desc()).limit(1))
    if exam is not None and (exam.scheduled_step or exam.study or exam.accession not in ("", accession)):
        text = _("Exam {number} of this patient and day is of another order. Photographs of both go there.")
        raise InvalidError(text.format(number=exam.id))
    outcome = "changed"
    if exam is None:
        values = {"patient_id": patient.id, "day": order.day.isoformat(), "accession": accession, "note": order.description[:1000]}  # fmt: skip
        exam = exams.add_exam(session, intake.caller, check_input(NewExam, values))
        outcome = "added"
    exam.accession, exam.scheduled_step = exam.accession or accession, order.step
    exam.study = short_uid(order.header.study)
    return ScheduledOutcome(order, outcome, exam_id=exam.id)
