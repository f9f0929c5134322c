"""Photographs that come by themselves: whose they are, which exam they go to, and that nothing is taken twice."""

import hashlib
from dataclasses import replace
from datetime import date

import cv2
import dicom_files as made
import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")
pytest.importorskip("pydicom")

from sqlalchemy import select

from fundoscope.server.dicom.intake import ArrivedFile, Intake, take_photographs
from fundoscope.server.errors import BusyError
from fundoscope.server.models import Exam, ExamPhotograph, Job, Patient
from fundoscope.server.services import uploads
from fundoscope.server.services.uploads import SentFile

RGB = made.photograph()
NAME = "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.fixture
def intake(site):
    return Intake(site.id, issuer="HOSPITAL")


@pytest.fixture
def take(room):
    """take(intake, files...): what becomes of files, bytes or ArrivedFile values by keyword."""

    def take(intake, *files, **known):
        with uploads.incoming_folder(room.settings) as folder:
            arrived = []
            for k, content in enumerate(files):
                path = folder / str(k)
                path.write_bytes(content)
                sent = SentFile(f"IM{k}", path, len(content), hashlib.sha256(content).hexdigest())
                arrived.append(ArrivedFile(sent, **known))
            return take_photographs(room, intake, arrived, folder)

    return take


def photograph(number=1, rgb=RGB, **more):
    return made.encode(made.dataset(**{"SOPInstanceUID": f"2.25.{number}"} | more), rgb)


def rows(room, model):
    with room.database.reading() as session:
        return session.scalars(select(model).order_by(model.id)).all()


def test_a_photograph_makes_its_patient_and_exam_and_is_judged(room, intake, take):
    (found,) = take(intake, photograph(PatientName=NAME, ImageLaterality="L"))
    (patient,), (exam,), (row,), (job,) = (rows(room, model) for model in (Patient, Exam, ExamPhotograph, Job))
    assert (found.outcome, found.exam_id, found.sop_instance) == ("taken", exam.id, "2.25.1")
    assert (patient.code, patient.name, patient.birth_date) == (
        "4711",
        "Yamada Tarou 山田 太郎 やまだ たろう",
        date(2026, 1, 10),
    )
    assert (exam.day, exam.accession, exam.state, exam.created_via) == (date(2026, 3, 1), "A-1", "open", "dicom")
    assert (row.eye, row.placed, row.study, row.sop_instance) == ("left", False, "2.25.1002", "2.25.1")
    assert (job.kind, job.payload["photograph"]) == ("judge", row.id)


def test_the_same_photograph_in_other_bytes_is_taken_once(room, intake, take, make_exam):
    first, other = photograph(1), photograph(1, StationName="CAM")
    assert {one.outcome for one in take(intake, first, other, photograph(2))} == {"taken"}
    assert [row.sop_instance for row in rows(room, ExamPhotograph)] == ["2.25.1", "2.25.2"]
    assert [one.outcome for one in take(intake, other)] == ["already"]
    with room.database.transaction() as session:
        session.scalar(select(Exam)).state = "signed"
    (again,) = take(intake, other)
    assert (again.outcome, again.exam_id) == ("already", rows(room, Exam)[0].id) and len(rows(room, Exam)) == 1


def test_a_further_photograph_opens_a_finished_exam_and_never_a_signed_one(room, intake, take):
    take(intake, photograph(1))
    for state, exams in (("to_read", 1), ("signed", 2)):
        with room.database.transaction() as session:
            session.scalar(select(Exam)).state = state
        (found,) = take(intake, photograph(10 + exams))
        assert found.outcome == "taken" and len(rows(room, Exam)) == exams
    assert [exam.state for exam in rows(room, Exam)] == ["signed", "open"]


def test_numbers_of_another_issuer_are_another_patient(room, intake, take, make_patient):
    known = make_patient(code="4711", birth_date=None)
    take(intake, photograph(1), photograph(2, IssuerOfPatientID="OTHER"), photograph(3, IssuerOfPatientID=None))
    assert [patient.code for patient in rows(room, Patient)] == ["4711", "4711 (OTHER)"]
    assert [exam.patient_id for exam in rows(room, Exam)] == [known.id, rows(room, Patient)[1].id]
    assert not any("right patient" in one.remark for one in take(intake, photograph(4, IssuerOfPatientID="OTHER")))


def test_what_cannot_be_taken_says_why_and_what_to_do(room, intake, take, make_patient):
    def reason(content, how=intake, **known):
        (found,) = take(how, content, **known)
        assert found.outcome == "refused" and found.exam_id is None
        return found.reason

    png = cv2.imencode(".png", RGB[..., ::-1])[1].tobytes()
    assert "no patient's number" in reason(photograph(PatientID=None)) and "no patient's number" in reason(png)
    assert "on which day" in reason(png, patient="A-1")
    assert "knows no patient 4711" in reason(photograph(), replace(intake, adds_patients=False))
    assert "no photograph" in reason(photograph(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33"))
    assert "not a day from 1900 to today" in reason(photograph(AcquisitionDateTime="20990101"))
    assert "before the day of birth" in reason(photograph(AcquisitionDateTime="20260101", PatientBirthDate="20260110"))
    assert "spreadsheet" in reason(photograph(PatientID="=1+1"))
    assert rows(room, ExamPhotograph) == []
    merged, into = make_patient(code="old"), make_patient(code="new", birth_date=None)
    with room.database.transaction() as session:
        session.get(Patient, merged.id).merged_into = into.id
    assert take(intake, png, patient="old", day=date(2026, 2, 9), eye="right")[0].outcome == "taken"
    assert [(exam.patient_id, exam.photographs_waiting) for exam in rows(room, Exam)] == [(into.id, 1)]
    assert rows(room, ExamPhotograph)[0].eye == "right"


def test_a_full_queue_takes_nothing(room, intake, take, monkeypatch):
    monkeypatch.setattr(uploads.jobs, "count_waiting", lambda session, kind=None: 10**6)
    with pytest.raises(BusyError):
        take(intake, photograph())
    assert rows(room, Patient) == rows(room, ExamPhotograph) == []


def test_what_contradicts_itself_stands_on_the_page_of_the_exam(room, intake, take, make_patient, sign_in):
    make_patient(code="4711", name="Wang Xiaodong 王小东", birth_date=date(2026, 1, 5))
    odd = {"ImageLaterality": "R", "Laterality": "L", "PatientName": "Li^Ming=李^明"}
    take(intake, photograph(1, **odd), photograph(2, PatientName="=王^小东", PatientBirthDate="20260105"))
    one, two = rows(room, ExamPhotograph)
    assert "contradicts itself" in one.remark and "born on 2026-01-10, and the room 2026-01-05" in one.remark
    assert "born" not in two.remark and two.remark == ""
    assert "calls the patient Li Ming 李 明." in one.remark
    page = sign_in("technician").get(f"/exams/{one.exam_id}").text
    assert "contradicts itself" in page and "born on 2026-01-10" in page
    take(intake, photograph(3, PatientName="Li^Ming=李^明", PatientBirthDate=None))
    assert (
        rows(room, ExamPhotograph)[2].remark == "Its header calls the patient Li Ming 李 明. Is it the right patient?"
    )


def test_a_study_stays_together_whatever_the_day_and_follows_an_exam_that_was_moved(
    room, intake, take, make_patient, sign_in
):
    from fundoscope.server.services.exams import NewPatientOfExam, move_exam

    take(intake, photograph(1), photograph(2, AcquisitionDateTime="20260302000100"))
    (exam,) = rows(room, Exam)
    right = make_patient(code="right", birth_date=None)
    caller = sign_in("technician").caller
    with room.database.transaction() as session:
        move_exam(session, caller, exam.id, NewPatientOfExam(patient_id=right.id, why="mixed up"))
    take(intake, photograph(3))
    assert [row.exam_id for row in rows(room, ExamPhotograph)] == [exam.id] * 3
    assert "names the patient 4711" in rows(room, ExamPhotograph)[2].remark
    take(intake, photograph(4, PatientID="other"))  # a study has one patient: this one is marked, and kept apart
    last = rows(room, ExamPhotograph)[3]
    assert (
        last.exam_id != exam.id
        and f"Exam {exam.id} of another patient holds photographs of the same study" in last.remark
    )
    with room.database.transaction() as session:
        session.get(Exam, exam.id).state = "signed"
    take(intake, photograph(5))
    assert (
        f"Exam {exam.id} holds photographs of the same study and is signed already"
        in rows(room, ExamPhotograph)[4].remark
    )


def test_orders_of_one_day_are_told_apart_by_a_remark(room, intake, take):
    take(
        intake,
        photograph(1),
        photograph(2, AccessionNumber="A-2", StudyInstanceUID="2.25.9"),
        photograph(3, AccessionNumber="A-1", StudyInstanceUID="2.25.8", AcquisitionDateTime="20260305"),
    )
    assert len(rows(room, Exam)) == 1
    assert [bool(row.remark) for row in rows(room, ExamPhotograph)] == [False, True, True]
    assert "accession number is A-2, and that of the exam A-1" in rows(room, ExamPhotograph)[1].remark
    assert "the exam is of 2026-03-01" in rows(room, ExamPhotograph)[2].remark


def test_what_comes_again_under_another_patient_is_marked_once(room, intake, take, make_patient):
    take(intake, photograph(1))
    for _ in range(2):
        (again,) = take(intake, photograph(1, PatientID="0815"))
        assert again.outcome == "already"
    (row,) = rows(room, ExamPhotograph)
    assert row.remark.count("came again as a photograph of the patient 0815") == 1
    assert [patient.code for patient in rows(room, Patient)] == ["4711"]


@pytest.mark.parametrize(
    ("raw", "charset", "name"),
    [
        ("王^小东".encode("gb18030"), "GB18030", "王 小东"),
        ("Wang^XiaoDong=王^小东".encode(), "ISO_IR 192", "Wang XiaoDong 王 小东"),
        (b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B", ["", "ISO 2022 IR 87"], "Yamada Tarou 山田 太郎 やまだ たろう"),
        ("王^小东".encode(), None, "王 小东"),
        ("王^小东".encode("gb18030"), "ISO_IR 100", ""),
        ("王^小东".encode("gb18030"), None, ""),
    ],
)  # fmt: skip
def test_names_come_through_whole_or_are_marked(room, intake, take, raw, charset, name):
    found = made.dataset(SpecificCharacterSet=charset, PatientName="placeholder")
    data = made.encode(found, RGB)
    at = data.index(b"\x10\x00\x10\x00PN")
    padded = raw + b" " * (len(raw) % 2)
    length = int.from_bytes(data[at + 6 : at + 8], "little")
    take(intake, data[: at + 6] + len(padded).to_bytes(2, "little") + padded + data[at + 8 + length :])
    (patient,), (row,) = rows(room, Patient), rows(room, ExamPhotograph)
    assert patient.name == name
    assert ("not whole" in row.remark) == ("not whole" in patient.note) == (not name)
