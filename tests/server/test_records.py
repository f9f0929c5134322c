"""Patients and exams: added, changed with a trace, moved, merged; and what is due for an infant."""

from datetime import date, timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from fundoscope.guidelines import decide_infant, read_guideline, read_infants
from fundoscope.server.errors import ConflictError, InvalidError, NotAllowedError, NotFoundError
from fundoscope.server.models import (
    AuditEntry,
    Correction,
    Exam,
    ExamPhotograph,
    EyeReading,
    Job,
    Patient,
    Reading,
    Site,
    User,
    now,
)
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.room import Room
from fundoscope.server.services import accounts, due, exams, jobs, patients
from fundoscope.server.services.inputs import check_input
from fundoscope.server.settings import ServerSettings

TECHNICIAN = Caller(1, "Nell Nurse", Role.TECHNICIAN, frozenset({1}))
READER = Caller(2, "Rita Reader", Role.READER, frozenset({1}))
ELSEWHERE = Caller(3, "Olaf Other", Role.READER, frozenset({2}))


@pytest.fixture
def database(room):
    with room.database.transaction() as session:
        for name in ("A", "B"):
            session.add(Site(name=name, guideline="china-2014", required_views=[]))
            session.flush()
        for caller in (TECHNICIAN, READER, ELSEWHERE):
            session.add(User(name=caller.name[:4], full_name=caller.name, role=caller.role))
            session.flush()
    return room.database


@pytest.fixture
def session(database):
    with database.transaction() as session:
        yield session


def add_infant(session, caller=TECHNICIAN, **values):
    wanted = {"site_id": 1, "code": "I1", "birth_date": "2024-01-01", "gestational_age": "27+3", "birth_weight": "980"}
    return patients.add_patient(session, caller, check_input(patients.NewPatient, wanted | values))


def add_exam(session, patient, day="2024-02-12", **values):
    return exams.add_exam(
        session, TECHNICIAN, check_input(exams.NewExam, {"patient_id": patient.id, "day": day, **values})
    )


def sign(session, exam, kind="first", supersedes=None, right=None, left=None, **both):
    reading = Reading(
        site_id=exam.site_id,
        exam_id=exam.id,
        reader_id=2,
        kind=kind,
        supersedes=supersedes,
        created_via="pages",
    )
    for eye, own in (("right", right), ("left", left)):
        reading.eyes.append(EyeReading(eye=eye, **both | (own or {})))
    session.add(reading)
    session.flush()
    reading.signed_at = now()
    exam.state, exam.signed_at = "signed", now()
    session.flush()
    due.refresh_due(session, exam.patient, date(2024, 2, 13))
    return reading


def change(session, patient, caller=TECHNICIAN, **values):
    return patients.change_patient(session, caller, patient.id, check_input(patients.PatientChanges, values))


# --- what is due


def test_what_is_due_is_what_the_guideline_says_of_the_same_infant_in_a_table(session, tmp_path):
    infant = add_infant(session)
    exam = add_exam(session, infant)
    sign(session, exam, right={"zone": "II", "stage": "2"}, left={"zone": "II", "stage": "0"}, plus="no")
    table = tmp_path / "infants.csv"
    table.write_text(
        "infant,birth_date,gestational_age,birth_weight_g,exam_date,eye,zone,stage,plus\n"
        "I1,2024-01-01,27+3,980,2024-02-12,right,II,2,no\nI1,2024-01-01,27+3,980,2024-02-12,left,II,0,no\n"
    )
    (other,) = read_infants(table, date(2024, 2, 13))
    answer = decide_infant(other, read_guideline("china-2014"), date(2024, 2, 13)).as_row()
    assert {key: infant.due[key] for key in answer if key not in ("infant", "row")} == {
        key: value for key, value in answer.items() if key not in ("infant", "row")
    }
    assert infant.due_by == date(2024, 2, 19) and infant.due["rule"] == "zone-2-stage-2-3"
    assert [(eye["eye"], eye["due_by"]) for eye in infant.due["eyes"]] == [
        ("right", "2024-02-19"),
        ("left", "2024-03-04"),
    ]


def test_the_first_exam_is_due_from_birth_and_missing_inputs_are_named_without_a_row(session):
    infant = add_infant(session)
    assert (infant.due_from, infant.due_by) == (date(2024, 1, 26), date(2024, 2, 12))
    blank = add_infant(session, code="I2", gestational_age="", birth_weight="")
    assert blank.due["decision"] == "cannot say" and blank.due["missing"] == ["gestational_age", "birth_weight_g"]
    assert "row" not in blank.due["reason"] and "Fill it in." in blank.due["reason"]
    adult = add_infant(session, code="A1", kind="adult", gestational_age="", birth_weight="")
    assert adult.due is None


def test_only_the_reading_that_speaks_for_an_exam_counts(session):
    infant = add_infant(session)
    exam = add_exam(session, infant)
    first = sign(session, exam, zone="II", stage="0", plus="no")
    sign(session, exam, kind="second", zone="I", stage="3", plus="plus")  # masked
    assert infant.due_by == date(2024, 3, 4)
    more = sign(session, exam, kind="addendum", supersedes=first.id, zone="II", stage="0", plus="no")
    assert infant.due_by == date(2024, 3, 4)
    sign(session, exam, kind="correction", supersedes=more.id, zone="II", stage="1", plus="no")
    assert infant.due_by == date(2024, 2, 26)
    sign(session, exam, kind="adjudication", zone="II", stage="2", plus="plus")
    assert infant.due["decision"] == "treat"
    exam.state = "cancelled"
    due.refresh_due(session, infant)
    assert infant.due["rule"] == "first_exam"


def test_treatment_is_carried_and_an_eye_that_could_not_be_graded_is_open(session):
    infant = add_infant(session)
    sign(session, add_exam(session, infant, "2024-02-05"), zone="II", stage="2", plus="no", right={"treated": True})
    sign(session, add_exam(session, infant), zone="II", stage="0", plus="no", left={"gradable": False})
    assert infant.due["decision"] == "cannot say"
    assert {"rule for treated eyes", "zone", "stage", "plus"} <= set(infant.due["missing"])


def test_nothing_is_due_for_those_who_left_but_the_lost_are_still_due(session):
    for code, left, is_due in (("1", "died", False), ("2", "finished", False), ("3", "lost", True)):
        infant = add_infant(session, code=code)
        patients.record_leaving(session, TECHNICIAN, infant.id, patients.Leaving(left=left))
        assert (infant.due_by is not None) == is_due
    with pytest.raises(InvalidError, match="where") as refused:
        patients.record_leaving(session, TECHNICIAN, infant.id, patients.Leaving(left="transferred"))
    assert refused.value.field == "left_to"
    patients.record_leaving(session, TECHNICIAN, infant.id, patients.Leaving(left="transferred", left_to="Elsewhere"))
    patients.record_return(session, READER, infant.id, patients.Reason(why="came back"))
    assert (infant.left, infant.left_on, infant.left_to) == ("", None, "") and infant.due_by is not None


def test_each_night_every_infant_is_worked_out_again_and_the_next_night_waits(database, tmp_path, monkeypatch):
    monkeypatch.setattr(due, "_SLICE", 2)
    with database.transaction() as session:
        numbers = [add_infant(session, code=str(number)).id for number in range(5)]
        for number in numbers:
            session.get(Patient, number).due = None
        job = due.schedule_refresh(session, date(2024, 1, 20))
        assert due.schedule_refresh(session, date(2024, 1, 20)).id == job.id
    monkeypatch.setattr(due, "today", lambda: date(2024, 1, 21))
    room = Room(ServerSettings(data=tmp_path), database)
    with database.transaction() as session:
        taken = jobs.take_job(session, "test")
    write = due.refresh_every_due(room, taken)
    with database.transaction() as session:
        write(session)
        jobs.finish_jobs(session, [taken])
    with database.reading() as session:
        assert {session.get(Patient, number).due["on"] for number in numbers} == {"2024-01-21"}
        assert session.scalars(select(Job.key).where(Job.state == "waiting")).all() == ["refresh_due:2024-01-22"]


def test_another_guideline_of_a_site_is_asked_for_all_its_infants(database, tmp_path):
    with database.transaction() as session:
        infant, elsewhere = add_infant(session), add_infant(session, ELSEWHERE, site_id=2)
        site = session.get(Site, 1)
        values = accounts.SiteValues(name=site.name, guideline="uk-2022", required_views=[])
        accounts.change_site(session, Caller(3, "Ada", Role.ADMINISTRATOR, frozenset()), 1, values)
        taken = jobs.take_job(session, "test")
    write = due.refresh_every_due(Room(ServerSettings(data=tmp_path), database), taken)
    with database.transaction() as session:
        write(session)
        guidelines = [session.get(Patient, each.id).due["guideline"] for each in (infant, elsewhere)]
        assert guidelines == ["uk-2022", "china-2014"] and session.query(Job).count() == 1


# --- patients


def test_a_patient_is_added_and_a_change_of_what_was_filled_in_needs_a_reason_and_leaves_a_trace(session):
    infant = add_infant(session, name="  Zoe\u0301 ", gestational_age="28w3d", birth_group="twins 7")
    assert (infant.name, infant.gestational_age, infant.created_by) == ("Zo\u00e9", 199, 1)
    change(session, infant, hydrocephalus=False, gestational_age="28+3")  # a blank filled in; one that is the same
    with pytest.raises(InvalidError) as refused:
        change(session, infant, gestational_age="27")
    assert refused.value.field == "why"
    change(session, infant, gestational_age="27", why="wrong week")
    assert infant.gestational_age_in_weeks and infant.due_from == date(2024, 1, 29)
    rows = session.scalars(select(Correction).order_by(Correction.id)).all()
    assert [(row.field, row.before, row.after, row.why) for row in rows] == [
        ("hydrocephalus", "", "no", ""),
        ("gestational_age", "28+3", "27", "wrong week"),
    ]
    actions = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert actions == ["patient.add", "patient.change", "patient.change"]


def test_two_who_edit_the_same_patient_find_out(session):
    infant = add_infant(session)
    seen = patients.find_version(session, "patient", infant.id)
    change(session, infant, caller=READER, note="first", version=seen)
    with pytest.raises(ConflictError, match="Rita Reader"):
        change(session, infant, note="second", version=seen)
    change(session, infant, note="second", version=patients.find_version(session, "patient", infant.id))


@pytest.mark.parametrize(
    ("field", "typed"),
    [
        ("gestational_age", "27.5"),
        ("gestational_age", "28+9"),
        ("gestational_age", "281"),
        ("birth_date", "05/03/2024"),
        ("birth_date", "2999-01-01"),
        ("birth_date", "20240305"),
        ("birth_weight", "1.2 kg"),
        ("birth_weight", "12"),
        ("name", "a\u202egpj.exe"),
        ("name", "x\x00"),
        ("name", "x" * 10_000),
        ("name", "two\nlines"),
        ("code", "=cmd|' /C calc'!A0"),
        ("code", " "),
        ("note", "\ud800"),
        ("kind", "cat"),
        ("colour", "red"),
    ],
)
def test_what_cannot_be_taken_names_its_field(field, typed):
    with pytest.raises(InvalidError) as refused:
        check_input(patients.NewPatient, {"site_id": 1, "code": "I1", field: typed})
    assert refused.value.field == field and len(str(refused.value)) < 300


def test_values_that_contradict_each_other_are_refused(session):
    with pytest.raises(InvalidError) as refused:
        add_infant(session, kind="adult")
    assert refused.value.field == "gestational_age"
    infant = add_infant(session, code="I2")
    add_exam(session, infant)
    with pytest.raises(InvalidError, match="2024-02-12") as refused:
        change(session, infant, birth_date="2024-02-20", why="typed wrongly")
    assert refused.value.field == "birth_date"
    with pytest.raises(ConflictError, match="I2"):
        add_infant(session, code="I2")


def test_who_may_what(session):
    infant = add_infant(session)
    exam = add_exam(session, infant)
    administrator = Caller(3, "Ada", Role.ADMINISTRATOR, frozenset({1}))
    with pytest.raises(NotAllowedError):
        add_infant(session, administrator, code="I9")
    assert patients.view_patient(session, administrator, infant.id) is infant
    for act in (
        lambda: patients.view_patient(session, ELSEWHERE, infant.id),
        lambda: exams.view_exam(session, ELSEWHERE, exam.id),
        lambda: change(session, infant, ELSEWHERE, note="x"),
        lambda: exams.cancel_exam(session, ELSEWHERE, exam.id, "x"),
        lambda: add_infant(session, ELSEWHERE, code="I9"),
    ):
        with pytest.raises(NotFoundError):
            act()
    assert list(patients.find_patients(session, ELSEWHERE)) == [] == list(exams.find_exams(session, ELSEWHERE))


def test_a_search_takes_signs_as_they_are_and_knows_twins(session):
    one, two = (
        add_infant(session, code=code, name=name, birth_group="g") for code, name in (("A_1", "Li"), ("B%2", "Lin"))
    )
    assert list(patients.find_patients(session, READER, "_")) == [one]
    assert list(patients.find_patients(session, READER, "%")) == [two]
    assert list(patients.find_patients(session, READER, "li")) == [two, one]
    assert list(patients.find_patients(session, READER, after=two.id, limit=1)) == [one]
    assert list(patients.find_siblings(session, READER, one)) == [two]


def test_a_transfer_takes_everything_along_and_the_old_site_sees_it_no_more(session):
    infant = add_infant(session)
    exam = add_exam(session, infant)
    session.add(
        ExamPhotograph(
            site_id=1,
            exam_id=exam.id,
            digest="d",
            file_name="a.png",
            file_bytes=1,
            media_type="image/png",
            created_via="pages",
        )
    )
    reading = sign(session, exam, zone="II", stage="0", plus="no")
    change(session, infant, note="x")
    patients.transfer_patient(
        session, TECHNICIAN, infant.id, patients.Transfer(site_id=2, left_on="2024-02-20", why="moved house")
    )
    for model in (Patient, Exam, ExamPhotograph, Reading, Correction):
        assert set(session.scalars(select(model.site_id))) == {2}, model
    with pytest.raises(NotFoundError):
        patients.view_patient(session, READER, infant.id)
    assert patients.view_patient(session, ELSEWHERE, infant.id).exams[0].id == reading.exam_id
    assert infant.due_by == date(2024, 3, 4)


def test_of_a_signed_reading_only_the_site_can_change(session):
    reading = sign(session, add_exam(session, add_infant(session)), zone="II", stage="0", plus="no")
    blank = {"supersedes": reading.id, "due": {}, "basis": {}, "due_by": date(2024, 1, 1), "created_by": 2}
    for column in {column.name for column in Reading.__table__.columns} - {"id", "site_id"}:
        value = None if getattr(reading, column) is not None else blank[column]
        with pytest.raises(IntegrityError, match="never changes"), session.begin_nested():
            session.execute(update(Reading.__table__).values({column: value}))
    session.execute(update(Reading).values(site_id=2))
    assert session.scalar(select(Reading.site_id)) == 2


def test_a_merge_gives_the_exams_to_the_other_and_fills_what_it_lacks(session):
    twice, kept = add_infant(session, name="Li"), add_infant(session, code="I2", gestational_age="", birth_weight="")
    exam = add_exam(session, twice)
    sign(session, exam, zone="II", stage="0", plus="no")
    patients.merge_patients(session, READER, twice.id, patients.Merging(into=kept.id, why="entered twice"))
    assert (kept.name, kept.gestational_age, kept.birth_weight) == ("Li", 192, 980)
    assert exam.patient_id == kept.id and kept.due_by == date(2024, 3, 4) and twice.due is None
    assert list(patients.find_patients(session, READER)) == [kept]
    with pytest.raises(ConflictError, match=f"merged into patient {kept.id}"):
        add_exam(session, twice, "2024-03-01")


ADMINISTRATOR = Caller(4, "Ada Administrator", Role.ADMINISTRATOR, frozenset({1}))


def unmerge(session, patient, caller=ADMINISTRATOR):
    return patients.unmerge_patients(session, caller, patient.id, patients.Reason(why="they are twins"))


def test_a_merge_is_undone_by_an_administrator_and_leaves_its_trace(session):
    session.add(User(id=4, name="ada", full_name="Ada", role="administrator"))
    twice = add_infant(session, name="Li", note="small", hydrocephalus="yes", birth_group="t1")
    kept = add_infant(session, code="I2", gestational_age="", birth_weight="", birth_date="2024-01-02")
    moved, brought = add_exam(session, twice), add_exam(session, twice, "2024-02-19")
    exams.move_exam(
        session, READER, moved.id, exams.NewPatientOfExam(patient_id=kept.id, why="hers")
    )  # before: it stays
    session.execute(update(Correction).values(created_at=now() - timedelta(hours=1)))
    patients.merge_patients(session, READER, twice.id, patients.Merging(into=kept.id, why="entered twice"))
    kept.birth_weight = 1010  # put right since
    session.flush()
    added = add_exam(session, kept, "2024-02-26")
    sign(session, brought, zone="II", stage="0", plus="no")
    brought.state, brought.signed_at = "signed", now()
    for caller in (READER, TECHNICIAN):
        with pytest.raises(NotAllowedError):
            unmerge(session, twice, caller)
    assert unmerge(session, twice) is twice and twice.merged_into is None
    assert [exam.id for exam in twice.exams] == [brought.id] and [exam.id for exam in kept.exams] == [
        moved.id,
        added.id,
    ]
    assert (kept.name, kept.note, kept.birth_group, kept.hydrocephalus, kept.gestational_age) == (
        "",
        "",
        "",
        None,
        None,
    )
    assert (
        kept.birth_weight == 1010
        and kept.birth_date == date(2024, 1, 2)
        and (twice.name, twice.birth_weight) == ("Li", 980)
    )
    assert brought.state == "to_read"  # its report names the other one
    assert {patient.id for patient in patients.find_patients(session, READER)} == {twice.id, kept.id}
    assert twice.due is not None and add_exam(session, twice, "2024-03-01").patient_id == twice.id
    lines = session.scalars(select(Correction).where(Correction.why == "they are twins")).all()
    assert {(line.subject, line.field) for line in lines} >= {("exam", "patient"), ("patient", "merged_into"), ("patient", "merged_from"), ("patient", "name")}  # fmt: skip
    assert "patient.unmerge" in session.scalars(select(AuditEntry.action)).all()
    with pytest.raises(ConflictError, match="was not merged"):
        unmerge(session, twice)


def test_a_merge_that_others_build_on_is_undone_from_the_end(session):
    session.add(User(id=4, name="ada", full_name="Ada", role="administrator"))
    first, second, third = (add_infant(session, code=code) for code in ("I1", "I2", "I3"))
    exam = add_exam(session, first)
    for one, other in ((first, second), (second, third)):
        patients.merge_patients(session, READER, one.id, patients.Merging(into=other.id, why="entered twice"))
    with pytest.raises(ConflictError, match=f"merged into patient {third.id} since"):
        unmerge(session, first)
    unmerge(session, second)
    assert exam.patient_id == second.id
    second.site_id = 2
    with pytest.raises(ConflictError, match="moved to another site"):
        unmerge(session, first)
    second.site_id = 1
    assert [each.id for each in unmerge(session, first).exams] == [exam.id] and second.exams == []


# --- exams


def test_an_exam_goes_its_way(session):
    infant = add_infant(session)
    exam = add_exam(session, infant, weight="1480")
    assert patients.age_on(infant, exam.day) == "33+3"
    with pytest.raises(ConflictError, match=f"Exam {exam.id} is of this patient and day"):
        add_exam(session, infant)
    with pytest.raises(InvalidError, match="before the day of birth"):
        add_exam(session, infant, "2023-12-31")
    with pytest.raises(ConflictError, match="no photographs"):
        exams.finish_exam(session, TECHNICIAN, exam.id)
    exams.cancel_exam(session, TECHNICIAN, exam.id, "wrong infant")
    add_exam(session, infant)
    with pytest.raises(ConflictError):  # two of one day
        exams.reopen_exam(session, TECHNICIAN, exam.id, "after all")


def test_a_wrong_day_and_a_wrong_infant_are_put_right_with_their_trace(session):
    right, wrong = add_infant(session), add_infant(session, code="I2", birth_date="2024-01-20")
    exam = add_exam(session, wrong)
    sign(session, exam, zone="II", stage="0", plus="no")
    with pytest.raises(NotAllowedError):  # it is signed
        exams.move_exam(session, TECHNICIAN, exam.id, exams.NewPatientOfExam(patient_id=right.id, why="mixed up"))
    exams.move_exam(session, READER, exam.id, exams.NewPatientOfExam(patient_id=right.id, why="mixed up"))
    assert (exam.patient_id, exam.state) == (right.id, "to_read")
    assert right.due_by == date(2024, 3, 4) and wrong.due["rule"] == "first_exam"
    change_day = check_input(exams.ExamChanges, {"day": "2024-02-11"})
    with pytest.raises(InvalidError):
        exams.change_exam(session, READER, exam.id, change_day)
    exams.change_exam(session, READER, exam.id, change_day.model_copy(update={"why": "clock of the camera"}))
    assert right.due_by == date(2024, 3, 3)
    rows = session.scalars(select(Correction).where(Correction.subject == "exam").order_by(Correction.id)).all()
    assert [(row.field, row.before, row.after) for row in rows] == [
        ("patient", str(wrong.id), str(right.id)),
        ("day", "2024-02-12", "2024-02-11"),
    ]


def test_a_wrong_eye_is_put_right_and_a_photograph_moves_to_another_exam(session):
    infant = add_infant(session)
    first, second = add_exam(session, infant), add_exam(session, infant, "2024-02-19")
    made = [
        ExamPhotograph(
            site_id=1, exam_id=exam.id, digest="d", file_name="a.png", file_bytes=1, media_type="image/png", eye="right",
            view="disc", created_via="pages",
        )
        for exam in (first, second)
    ]  # fmt: skip
    session.add_all(made)
    session.flush()
    fix = exams.PhotographCorrection(eye="left", why="mirrored")
    assert exams.correct_photograph(session, TECHNICIAN, made[0].id, fix).eye == "left" and made[0].placed
    with pytest.raises(ConflictError, match="holds this photograph already"):
        exams.correct_photograph(
            session, TECHNICIAN, made[0].id, exams.PhotographCorrection(exam_id=second.id, why="x")
        )
    made[1].digest = "e"
    exams.correct_photograph(
        session, TECHNICIAN, made[0].id, exams.PhotographCorrection(exam_id=second.id, why="wrong visit")
    )
    assert {each.id for each in second.photographs} == {each.id for each in made} and not first.photographs
    exams.finish_exam(session, TECHNICIAN, second.id)
    assert second.state == "to_read" and second.finished_at - now() < timedelta(seconds=5)
