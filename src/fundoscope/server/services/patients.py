"""Infants and adults: who they are, how they leave the programme, and how a mistake about them is put right.

A value that was filled in already is changed with a reason, and what it was stays in `corrections`; the number of the last correction
is the `version` of a patient, by which two people who edit it at once find out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fundoscope.guidelines import format_age, postmenstrual_age
from fundoscope.languages import gettext as _
from fundoscope.server.errors import ConflictError, InvalidError, NotFoundError
from fundoscope.server.models import (
    Correction,
    Exam,
    ExamPhotograph,
    Grading,
    Patient,
    Reading,
    ReadingTask,
    SignedReport,
    Site,
    User,
)
from fundoscope.server.permissions import CLINICAL, EVERYBODY, Caller, Role, get_owned
from fundoscope.server.services import audit
from fundoscope.server.services.due import gestational_age_of, refresh_due
from fundoscope.server.services.exam_state import refresh_exam
from fundoscope.server.services.inputs import (
    BLANK_IS_NONE,
    Code,
    GestationalAgeText,
    GroupLine,
    Line,
    NeededPastDay,
    Note,
    Number,
    OptionalFlag,
    OptionalPastDay,
    Version,
    read_gestational_age,
)
from fundoscope.server.services.readings import masked_exams

Weight = Annotated[Annotated[int, Field(ge=200, le=7000)] | None, BLANK_IS_NONE]
WeightGain = Annotated[Annotated[int, Field(ge=-1000, le=2000)] | None, BLANK_IS_NONE]
#: What only an infant has; G-ROP asks for the gains of weight and for hydrocephalus.
INFANT_FIELDS = (
    "gestational_age", "birth_weight", "weight_gain_10_19", "weight_gain_20_29", "weight_gain_30_39", "hydrocephalus",
    "birth_group",
)  # fmt: skip
#: What a merge fills in where the patient that stays lacks it.
MERGED_FIELDS = ("name", "birth_date", *INFANT_FIELDS, "note")
_TEXT_FIELDS = ("name", "birth_group", "note", "gestational_age")  # blank, and not null, where nothing is typed
_ONE_MERGE = timedelta(minutes=1)  # within which all lines of a merge were written
#: Fields that may be changed without a reason, since no answer rests on them.
_FREE_FIELDS = ("note",)


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", str_max_length=10_000)


class PatientFields(_Input):
    """What is known of a patient; blank or null where it is not known. Weights in g."""

    name: Line = ""
    birth_date: OptionalPastDay = Field(None, examples=["2026-09-01"])
    gestational_age: GestationalAgeText = Field("", description="Age at birth in weeks and days: 28+3; 28 where the days are not known.")  # fmt: skip
    birth_weight: Weight = Field(None, description="g", examples=[1050])
    weight_gain_10_19: WeightGain = Field(None, description="Gain of weight on days 10 to 19, in g (G-ROP).")
    weight_gain_20_29: WeightGain = Field(None, description="Gain of weight on days 20 to 29, in g.")
    weight_gain_30_39: WeightGain = Field(None, description="Gain of weight on days 30 to 39, in g.")
    hydrocephalus: OptionalFlag = None
    birth_group: GroupLine = Field("", description="The same text for twins or triplets joins them.")
    note: Note = ""


class NewPatient(PatientFields):
    """A patient to be added to a site; `code` is the hospital's number and names it within the site."""

    site_id: Number
    kind: Literal["infant", "adult"] = "infant"
    code: Code = Field(examples=["A-0153"])


class PatientChanges(PatientFields):
    """Fields to change; those that are left out stay. `why` is needed where a value that was filled in changes.

    `version` is the one that was seen before: where somebody else has changed the patient since, the answer is 409.
    """

    kind: Literal["infant", "adult"] = "infant"
    code: Code = ""
    why: Line = Field("", examples=["mistyped"])
    version: Version = None


class Leaving(_Input):
    """That a patient left the programme: died, transferred to a place outside, finished screening, or was lost."""

    left: Literal["died", "transferred", "finished", "lost"]
    left_on: OptionalPastDay = None
    left_to: Line = Field("", description="Where to, of a transfer.")
    why: Line = ""


class Transfer(_Input):
    """A move to another site of this room, with everything that belongs to the patient."""

    site_id: Number
    left_on: NeededPastDay
    why: Line = Field(min_length=1)


class Merging(_Input):
    """That this patient is `into`, entered twice."""

    into: Number
    why: Line = Field(min_length=1)


class Reason(_Input):
    """Why something is done."""

    why: Line = Field(min_length=1)


# --- look


def find_sites(session: Session, caller: Caller, after: int = 0, limit: int | None = None) -> Sequence[Site]:
    """The sites of the caller, by their numbers."""
    caller.require(*EVERYBODY)
    query = select(Site).where(Site.id.in_(caller.sites), Site.id > after)
    return session.scalars(query.order_by(Site.id).limit(limit)).all()


def get_patient(session: Session, caller: Caller, patient_id: int) -> Patient:
    """The patient of that number, not recorded as a view."""
    caller.require(*EVERYBODY)
    return get_owned(session, caller, Patient, patient_id)


def view_patient(session: Session, caller: Caller, patient_id: int) -> Patient:
    """The patient of that number; the audit log holds who saw it."""
    patient = get_patient(session, caller, patient_id)
    audit.record(session, caller, "patient.view", "patient", patient.id, patient.site_id)
    return patient


def find_patients(
    session: Session, caller: Caller, text: str = "", site_id: int | None = None, birth_group: str = "",
    after: int | None = None, limit: int = 50,
) -> Sequence[Patient]:  # fmt: skip
    """Patients of the caller's sites, the newest first, whose number or name holds `text`; those that were merged are left out.

    `after` is the number of the last patient of the page before.
    """
    caller.require(*EVERYBODY)
    query = select(Patient).where(Patient.site_id.in_(caller.sites), Patient.merged_into.is_(None))
    if site_id is not None:
        query = query.where(Patient.site_id == site_id)
    if birth_group:
        query = query.where(Patient.birth_group == birth_group)
    if not (text.isprintable() and birth_group.isprintable()):
        return ()  # no code, name or group holds such a character
    if text:
        query = query.where(
            or_(Patient.code.icontains(text, autoescape=True), Patient.name.icontains(text, autoescape=True))
        )
    if after is not None:
        query = query.where(Patient.id < after)
    found = session.scalars(query.order_by(Patient.id.desc()).limit(limit)).all()
    audit.record(session, caller, "patient.search", site_id=site_id, found=len(found), filtered=bool(text))
    return found


def find_siblings(session: Session, caller: Caller, patient: Patient) -> Sequence[Patient]:
    """Twins and triplets: the other patients of the same birth group and site."""
    if not patient.birth_group:
        return ()
    same = Patient.site_id == patient.site_id, Patient.birth_group == patient.birth_group, Patient.id != patient.id
    return session.scalars(
        select(Patient)
        .where(*same, Patient.site_id.in_(caller.sites), Patient.merged_into.is_(None))
        .order_by(Patient.code)
    ).all()


def find_by_code(session: Session, caller: Caller, site_id: int, code: str) -> Patient | None:
    """The patient that the hospital's number names in a site of the caller; None where there is none."""
    caller.require(*EVERYBODY)
    caller.require_site(site_id)
    code = code.strip()
    if not code.isprintable():  # PostgreSQL refuses a NUL
        return None
    return session.scalar(select(Patient).where(Patient.site_id == site_id, Patient.code == code))


def find_alike(session: Session, caller: Caller, patient: Patient) -> Sequence[Patient]:
    """Patients of the same site and kind who share the day of birth or the name: one of them may be this one, entered twice."""
    alike = [Patient.birth_date == patient.birth_date] if patient.birth_date is not None else []
    alike += [func.lower(Patient.name) == patient.name.lower()] if patient.name else []
    if not alike:
        return ()
    same = Patient.site_id == patient.site_id, Patient.kind == patient.kind, Patient.id != patient.id
    query = select(Patient).where(*same, Patient.site_id.in_(caller.sites), Patient.merged_into.is_(None), or_(*alike))
    return session.scalars(query.order_by(Patient.code).limit(20)).all()


def find_masked_exams(session: Session, caller: Caller, patients: Iterable[int]) -> dict[int, int]:
    """Exams of these patients that the caller is to read again without knowing their readings, each with its patient.

    As `readings.is_masked` has it, for many at once. Findings of such an exam, and the rule that they led to, are not to be told;
    the day on which the infant is due is, since it must not be missed.
    """
    if caller.role is not Role.READER:
        return {}
    of_exam = select(Exam.id, Exam.patient_id).where(
        Exam.patient_id.in_(list(patients)), Exam.id.in_(masked_exams(caller))
    )
    return {row.id: row.patient_id for row in session.execute(of_exam)}


def find_versions(session: Session, subject: str, numbers: Iterable[int]) -> dict[int, int]:
    """By the number of each row that of its last correction; 0 where it is as it was first written."""
    numbers = list(numbers)
    query = select(Correction.subject_id, func.max(Correction.id)).group_by(Correction.subject_id)
    found = session.execute(query.where(Correction.subject == subject, Correction.subject_id.in_(numbers)))
    return dict.fromkeys(numbers, 0) | dict(found.all())


def find_version(session: Session, subject: str, number: int) -> int:
    """The number of the last correction of a row; 0 where it is as it was first written."""
    return find_versions(session, subject, [number])[number]


def find_corrections(
    session: Session, caller: Caller, subject: str = "", numbers: Sequence[int] = (), after: int | None = None, limit: int = 50
) -> Sequence[Correction]:  # fmt: skip
    """What was put right in the caller's sites, the newest first; of some rows of a subject where these are given."""
    caller.require(*EVERYBODY)
    of_masked = (Correction.subject == "exam") & Correction.subject_id.in_(masked_exams(caller))  # may name its patient
    query = select(Correction).where(Correction.site_id.in_(caller.sites), ~of_masked)
    if subject:
        query = query.where(Correction.subject == subject)
    if numbers:
        query = query.where(Correction.subject_id.in_(numbers))
    if after is not None:
        query = query.where(Correction.id < after)
    return session.scalars(query.order_by(Correction.id.desc()).limit(limit)).all()


def age_on(patient: Patient, day: date) -> str:
    """Postmenstrual age on a day as weeks+days; blank where it cannot be worked out, and for adults."""
    age = gestational_age_of(patient)
    if patient.kind != "infant" or age is None or patient.birth_date is None:
        return ""
    return format_age(postmenstrual_age(patient.birth_date, age, day))


def show_gestational_age(patient: Patient) -> str:
    """The age at birth as it is typed: 28+3, or 28 where the days are not known; blank where nothing is."""
    age = gestational_age_of(patient)
    return "" if age is None else str(age.days // 7) if age.whole_weeks else str(age)


# --- add and change


def add_patient(session: Session, caller: Caller, new: NewPatient) -> Patient:
    """Add a patient to one of the caller's sites; `ConflictError` where its number is taken there."""
    caller.require(*CLINICAL)
    caller.require_site(new.site_id)
    patient = Patient(
        site_id=new.site_id, kind=new.kind, code=new.code, created_by=caller.user_id, created_via=caller.via
    )
    _require_free_code(session, new.site_id, new.code)
    for field, value in _columns(new.model_dump(exclude={"site_id", "kind", "code"})).items():
        setattr(patient, field, value)
    _check_patient(session, patient)
    session.add(patient)
    _flush_code(session, new.code)
    refresh_due(session, patient)
    audit.record(session, caller, "patient.add", "patient", patient.id, patient.site_id)
    return patient


def change_patient(session: Session, caller: Caller, patient_id: int, changes: PatientChanges) -> Patient:
    """Change fields of a patient; each that changes leaves a correction with what it was, and `why`."""
    caller.require(*CLINICAL)
    patient = lock_patient(session, caller, patient_id)
    require_version(session, "patient", patient.id, changes.version)
    given = {field: getattr(changes, field) for field in changes.model_fields_set - {"why", "version"}}
    before = {field: _show_field(patient, field) for field in sorted(given)}
    if given.get("code", patient.code) != patient.code:
        _require_free_code(session, patient.site_id, given["code"])
    if given.get("kind", patient.kind) != patient.kind and patient.exams:
        raise InvalidError(
            _("The patient has exams, which are judged by its kind. Add it anew, and move the exams."), "kind"
        )
    for column, value in _columns(given).items():
        setattr(patient, column, value)
    changed = [field for field, was in before.items() if was != _show_field(patient, field)]
    if not changes.why and any(before[field] and field not in _FREE_FIELDS for field in changed):
        raise InvalidError(_("A value that was filled in changes. Write why."), "why")
    if not changed:
        return patient
    _check_patient(session, patient)
    _flush_code(session, patient.code)
    for field in changed:
        write_correction(session, caller, patient, field, before[field], _show_field(patient, field), changes.why)
    refresh_due(session, patient)
    audit.record(session, caller, "patient.change", "patient", patient.id, patient.site_id, fields=changed)
    return patient


def _show_field(patient: Patient, field: str) -> str:
    return show_gestational_age(patient) if field == "gestational_age" else spell(getattr(patient, field))


def _columns(given: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of fields as they were typed: an age at birth is two columns."""
    columns = dict(given)
    if "gestational_age" in columns:
        age = read_gestational_age(columns["gestational_age"])
        columns["gestational_age"] = None if age is None else age.days
        columns["gestational_age_in_weeks"] = age is not None and age.whole_weeks
    return columns


def _check_patient(session: Session, patient: Patient) -> None:
    """Raise `InvalidError` where the values of a patient contradict each other or its exams."""
    if patient.kind == "adult":
        for field in INFANT_FIELDS:
            if getattr(patient, field) not in (None, ""):
                raise InvalidError(_("Only an infant has this. Leave it blank, or choose infant."), field)
    if patient.birth_date is not None and patient.id is not None:
        with session.no_autoflush:
            first = session.scalar(
                select(func.min(Exam.day)).where(Exam.patient_id == patient.id, Exam.state != "cancelled")
            )
        if first is not None and first < patient.birth_date:
            text = _("The first exam was on {day}, before this day of birth. Correct one of the two.")
            raise InvalidError(text.format(day=first), "birth_date")


def _require_free_code(session: Session, site_id: int, code: str) -> None:
    with session.no_autoflush:
        taken = session.scalar(select(Patient.id).where(Patient.site_id == site_id, Patient.code == code))
    if taken is not None:
        text = _("Patient {number} has the number {code} already. Open it, or write another number.")
        raise ConflictError(text.format(number=taken, code=code))


def _flush_code(session: Session, code: str) -> None:
    try:
        session.flush()
    except IntegrityError:  # taken by another transaction meanwhile
        text = _("Another patient has the number {code} already. Open it, or write another number.")
        raise ConflictError(text.format(code=code)) from None


def lock_patient(session: Session, caller: Caller, patient_id: int) -> Patient:
    """The patient of that number, held until the transaction ends; `ConflictError` where it was merged into another one."""
    patient = get_owned(session, caller, Patient, patient_id)
    session.refresh(patient, with_for_update=True)
    if patient.site_id not in caller.sites:
        raise NotFoundError("patient", patient_id)
    if patient.merged_into is not None:
        text = _("Patient {number} was merged into patient {into}. Go on there.")
        raise ConflictError(text.format(number=patient.id, into=patient.merged_into))
    return patient


def require_version(session: Session, subject: str, number: int, seen: int | None) -> None:
    """Raise `ConflictError`, which says who and when, where a row was changed since the version that was seen."""
    if seen is None or seen == find_version(session, subject, number):
        return
    mine = Correction.subject == subject, Correction.subject_id == number
    row = session.execute(
        select(User.full_name, Correction.created_at)
        .select_from(Correction)
        .outerjoin(User, User.id == Correction.created_by)
        .where(*mine)
        .order_by(Correction.id.desc())
        .limit(1)
    ).first()
    who, when = (row.full_name or "-", row.created_at) if row else ("-", None)
    text = _("{name} has changed this meanwhile ({time} UTC). Look at it as it is now, and change it again.")
    raise ConflictError(text.format(name=who, time=f"{when:%Y-%m-%d %H:%M}" if when else "-"))


def write_correction(
    session: Session, caller: Caller, row: Patient | Exam | ExamPhotograph, field: str, before: object, after: object, why: str
) -> None:  # fmt: skip
    """Keep what a field was, what it is now, and why."""
    session.add(
        Correction(
            site_id=row.site_id, subject=row.noun, subject_id=row.id, field=field, before=spell(before), after=spell(after),
            why=why, created_by=caller.user_id, created_via=caller.via,
        )
    )  # fmt: skip


def spell(value: object) -> str:
    """A value as text, blank for None."""
    return "" if value is None else ("no", "yes")[value] if isinstance(value, bool) else str(value)


# --- leave, come back, move, merge


def record_leaving(session: Session, caller: Caller, patient_id: int, leaving: Leaving) -> Patient:
    """Write how a patient left the programme; nothing is due any more, unless it was lost."""
    caller.require(*CLINICAL)
    patient = lock_patient(session, caller, patient_id)
    if leaving.left == "transferred" and not leaving.left_to:
        raise InvalidError(_("Write where the patient was transferred to."), "left_to")
    if leaving.left_on is not None and patient.birth_date is not None and leaving.left_on < patient.birth_date:
        raise InvalidError(_("This day is before the day of birth. Correct it."), "left_on")
    after = {"left": leaving.left, "left_on": leaving.left_on or date.today(), "left_to": leaving.left_to}
    _write_leaving(session, caller, patient, after, leaving.why)
    audit.record(session, caller, "patient.leave", "patient", patient.id, patient.site_id, left=leaving.left)
    return patient


def record_return(session: Session, caller: Caller, patient_id: int, reason: Reason) -> Patient:
    """Write that a patient that had left is here again, or that it was marked so by mistake."""
    caller.require(*CLINICAL)
    patient = lock_patient(session, caller, patient_id)
    if not patient.left:
        raise ConflictError(_("The patient has not left. Nothing was changed."))
    _write_leaving(session, caller, patient, {"left": "", "left_on": None, "left_to": ""}, reason.why)
    audit.record(session, caller, "patient.return", "patient", patient.id, patient.site_id)
    return patient


def _write_leaving(session: Session, caller: Caller, patient: Patient, after: Mapping[str, Any], why: str) -> None:
    for field, value in after.items():
        if getattr(patient, field) != value:
            write_correction(session, caller, patient, field, getattr(patient, field), value, why)
            setattr(patient, field, value)
    refresh_due(session, patient)


def transfer_patient(session: Session, caller: Caller, patient_id: int, transfer: Transfer) -> Patient:
    """Move a patient to another site of the room with its exams, photographs, readings and reports.

    From then on the people of that site see it, and those of the old site do not. `ConflictError` where its number is taken there.
    """
    caller.require(*CLINICAL)
    patient = lock_patient(session, caller, patient_id)
    target, origin = session.get(Site, transfer.site_id), patient.site_id
    if target is None or not target.active or target.id == origin:
        raise InvalidError(_("Choose another site of this room."), "site_id")
    taken = session.scalar(select(Patient.id).where(Patient.site_id == target.id, Patient.code == patient.code))
    if taken is not None:
        text = _("{site} has another patient with the number {code}. Change the number of one of the two first.")
        raise ConflictError(text.format(site=target.name, code=patient.code))
    from_name = session.get_one(Site, origin).name
    exams = select(Exam.id).where(Exam.patient_id == patient.id).scalar_subquery()
    photographs = select(ExamPhotograph.id).where(ExamPhotograph.exam_id.in_(exams)).scalar_subquery()
    readings = select(Reading.id).where(Reading.exam_id.in_(exams)).scalar_subquery()
    keys = Correction.subject, Correction.subject_id
    owned = [
        (Grading, Grading.photograph_id.in_(photographs)),
        (ExamPhotograph, ExamPhotograph.exam_id.in_(exams)),
        (SignedReport, SignedReport.reading_id.in_(readings)),
        (Reading, Reading.exam_id.in_(exams)),
        (ReadingTask, ReadingTask.exam_id.in_(exams)),
        (Correction, (keys[0] == "photograph") & keys[1].in_(photographs)),
        (Correction, (keys[0] == "exam") & keys[1].in_(exams)),
        (Correction, (keys[0] == "patient") & (keys[1] == patient.id)),
        (Exam, Exam.patient_id == patient.id),
    ]
    session.flush()
    for model, condition in owned:
        session.execute(
            update(model).where(condition).values(site_id=target.id).execution_options(synchronize_session=False)
        )
    patient.site_id = target.id
    write_correction(session, caller, patient, "site", from_name, target.name, transfer.why)
    _flush_code(session, patient.code)
    session.expire_all()
    refresh_due(session, patient)
    for site in (origin, target.id):
        audit.record(session, caller, "patient.transfer", "patient", patient.id, site, to=target.id)
    return patient


def merge_patients(session: Session, caller: Caller, patient_id: int, merging: Merging) -> Patient:
    """Give the exams of a patient that was entered twice to the other one, which is returned.

    What the other one lacks is filled in from this one; what the two say differently stays as it is there. This one stays to be
    found, and names the other; an administrator can undo it (`unmerge_patients`).
    """
    caller.require(*CLINICAL)
    if merging.into == patient_id:
        raise InvalidError(_("A patient cannot be merged into itself. Choose another one."), "into")
    first, second = sorted(
        (patient_id, merging.into)
    )  # always in this order, so that two merges do not wait for each other
    rows = {number: lock_patient(session, caller, number) for number in (first, second)}
    patient, into = rows[patient_id], rows[merging.into]
    if (patient.site_id, patient.kind) != (into.site_id, into.kind):
        raise ConflictError(_("Both patients must be of the same site, and both infants or both adults."))
    for exam in patient.exams:
        write_correction(session, caller, exam, "patient", patient.id, into.id, merging.why)
        exam.patient_id = into.id
    for field in MERGED_FIELDS:
        if getattr(into, field) in (None, "") and getattr(patient, field) not in (None, ""):
            write_correction(session, caller, into, field, "", _show_field(patient, field), merging.why)
            setattr(into, field, getattr(patient, field))
            if field == "gestational_age":
                into.gestational_age_in_weeks = patient.gestational_age_in_weeks
    write_correction(session, caller, patient, "merged_into", None, into.id, merging.why)
    write_correction(session, caller, into, "merged_from", None, patient.id, merging.why)
    patient.merged_into = into.id
    session.flush()
    session.expire(patient, ["exams"])
    session.expire(into, ["exams"])
    _check_patient(session, into)
    refresh_due(session, patient)
    refresh_due(session, into)
    audit.record(session, caller, "patient.merge", "patient", patient.id, patient.site_id, into=into.id)
    return into


def find_merge(session: Session, patient: Patient) -> Correction | None:
    """The line that says that a patient was merged into another one; None where it stands by itself."""
    if patient.merged_into is None:
        return None
    mine = Correction.subject == "patient", Correction.subject_id == patient.id, Correction.field == "merged_into"
    return session.scalar(
        select(Correction).where(*mine, Correction.after != "").order_by(Correction.id.desc()).limit(1)
    )


def unmerge_patients(session: Session, caller: Caller, patient_id: int, reason: Reason) -> Patient:
    """Undo a merge: this patient has the exams again that it brought, and the other one is as it was; for administrators.

    What the other one was given since stays with it: exams that were added there, and values that were changed after. An exam that
    was signed since comes back to be read, since its report names the other one. `ConflictError` where the other one was merged or
    moved to another site since.
    """
    caller.require(Role.ADMINISTRATOR)
    patient = get_owned(session, caller, Patient, patient_id)
    session.refresh(patient, with_for_update=True)
    merge = find_merge(session, patient)
    if merge is None:
        raise ConflictError(_("This patient was not merged into another one. Nothing was changed."))
    into = session.get_one(Patient, patient.merged_into)
    session.refresh(into, with_for_update=True)
    if into.merged_into is not None:
        text = _("Patient {number} was merged into patient {into} since. Undo that first.")
        raise ConflictError(text.format(number=into.id, into=into.merged_into))
    if into.site_id != patient.site_id:
        raise ConflictError(_("The other patient has moved to another site since. Move it back first."))
    same = Correction.created_by == merge.created_by, Correction.created_at >= merge.created_at - _ONE_MERGE
    written = session.scalars(select(Correction).where(*same, Correction.id < merge.id)).all()
    brought = {row.subject_id for row in written if row.subject == "exam" and (row.field, row.before, row.after) == ("patient", str(patient.id), str(into.id))}  # fmt: skip
    for exam in session.scalars(select(Exam).where(Exam.id.in_(brought), Exam.patient_id == into.id)):
        write_correction(session, caller, exam, "patient", into.id, patient.id, reason.why)
        exam.patient_id = patient.id
        if exam.state == "signed" and exam.signed_at is not None and exam.signed_at > merge.created_at:
            exam.state = "to_read"
            refresh_exam(session, exam)
    for row in written:
        filled = (row.subject, row.subject_id, row.before) == ("patient", into.id, "") and row.field in MERGED_FIELDS
        if filled and _show_field(into, row.field) == row.after:
            write_correction(session, caller, into, row.field, row.after, "", reason.why)
            for column, value in _columns({row.field: "" if row.field in _TEXT_FIELDS else None}).items():
                setattr(into, column, value)
    write_correction(session, caller, patient, "merged_into", into.id, None, reason.why)
    write_correction(session, caller, into, "merged_from", patient.id, None, reason.why)
    patient.merged_into = None
    session.flush()
    for each in (patient, into):
        session.expire(each, ["exams"])
        refresh_due(session, each)
    audit.record(session, caller, "patient.unmerge", "patient", patient.id, patient.site_id, into=into.id)
    return patient
