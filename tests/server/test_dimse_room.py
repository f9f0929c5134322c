"""Photographs and orders into a room by DIMSE: rows and jobs at once, each instance once, the worklist's word on who a patient is."""

import hashlib
from contextlib import contextmanager
from datetime import date, timedelta
from threading import Thread

import pytest

pytest.importorskip("pynetdicom", reason="the extra dicom is not installed")
pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")

import dicom_files
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.transport import ThreadedAssociationServer
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from fundoscope.errors import UsageError
from fundoscope.imaging.dicom_header import read_dicom_header
from fundoscope.languages import speaking, translate_kept
from fundoscope.server.dicom import keeper
from fundoscope.server.dicom.commitment import CommitmentReport
from fundoscope.server.dicom.commitment_rows import RoomReports
from fundoscope.server.dicom.intake import Intake, find_intake
from fundoscope.server.dicom.keeper import RoomKeeper
from fundoscope.server.dicom.peers import PeerError
from fundoscope.server.dicom.receiver import ReceivedObject, Receiver
from fundoscope.server.dicom.refusals import find_refusals
from fundoscope.server.dicom.sender import send_by_dimse
from fundoscope.server.dicom.settings import DimsePeer, ReceiverSettings
from fundoscope.server.dicom.worklist_query import WORKLIST, ask_worklist, take_orders
from fundoscope.server.errors import ConflictError
from fundoscope.server.models import (
    AuditEntry,
    Correction,
    DicomDestination,
    Exam,
    ExamPhotograph,
    Job,
    Patient,
    RefusedArrival,
    SentObject,
)
from fundoscope.server.services import audit, exams, judging
from fundoscope.server.services.exams import NewPatientOfExam, move_exam
from fundoscope.server.services.patients import Reason, unmerge_patients
from fundoscope.server.settings import ServerSettings, UploadLimits, read_settings

TODAY = date.today()
RGB = dicom_files.photograph(32, 32)


@pytest.fixture
def settings(tmp_path):
    receiver = ReceiverSettings(port=0, free_bytes=0, issuer="HOSPITAL")
    return ServerSettings(data=tmp_path / "room", debug=True, receiver=receiver, limits=UploadLimits(waiting_jobs=5))


@pytest.fixture
def camera(room, site, tmp_path):
    """camera(*photographs) -> outcomes: files sent to the room's receiver; each is its attributes by keyword."""
    told = []
    taking = RoomKeeper(room, told.append)
    receiver = Receiver(room.settings.receiver, taking, room.settings.data, RoomReports(room.database), taking.note)
    count = iter(range(1000))

    def send(*photographs):
        paths = []
        for more in photographs:
            wanted = {
                "SOPInstanceUID": f"2.25.{900 + next(count)}",
                "AcquisitionDateTime": f"{TODAY:%Y%m%d}1200",
            } | more
            found = dicom_files.dataset(rows=32, columns=32, **wanted)
            found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
            paths.append(tmp_path / f"{next(count)}.dcm")
            paths[-1].write_bytes(dicom_files.encode(found, RGB))
        done = send_by_dimse(DimsePeer(title="FUNDOSCOPE", host="127.0.0.1", port=receiver.port, seconds=5), paths)
        assert taking.settle()
        return done

    send.told = told
    with taking, receiver:
        yield send


def rows(room, model):
    with room.database.reading() as session:
        return session.scalars(select(model).order_by(model.id)).all()


def test_what_is_acknowledged_is_a_row_with_its_job_and_a_file(room, camera):
    done = camera(
        {"SOPInstanceUID": "2.25.1", "PatientName": "=王^小东"}, {"SOPInstanceUID": "2.25.2", "ImageLaterality": "L"}
    )
    assert [one.said for one in done] == ["it was stored"] * 2
    (patient,), (exam,), (one, two), jobs = (rows(room, model) for model in (Patient, Exam, ExamPhotograph, Job))
    assert (patient.code, patient.name, patient.created_via) == ("4711", "王 小东", "dicom")
    assert (exam.day, exam.accession, exam.photographs_waiting) == (TODAY, "A-1", 2)
    assert [(each.eye, each.sop_instance, each.file_name) for each in (one, two)] == [
        ("right", "2.25.1", "2.25.1.dcm"),
        ("left", "2.25.2", "2.25.2.dcm"),
    ]
    assert [job.payload["photograph"] for job in jobs] == [one.id, two.id] and camera.told == [exam.id, exam.id]
    for each in (one, two):
        file = judging.photograph_file(room.settings, each.digest)
        assert file.read_bytes()[:132] == b"\0" * 128 + b"DICM"
        assert hashlib.sha256(file.read_bytes()).hexdigest() == each.digest
    with room.database.reading() as session:
        line = session.scalars(select(AuditEntry).where(AuditEntry.action == "photographs.add")).first()
        assert (line.via, line.address) == ("dicom", "127.0.0.1") and not list(audit.find_breaks(session))


def test_an_instance_is_taken_once_and_a_full_queue_is_out_of_resources(room, camera):
    assert [one.result for one in camera(*[{"SOPInstanceUID": "2.25.1"}] * 2)] == ["stored"] * 2
    assert len(rows(room, ExamPhotograph)) == 1
    done = camera(*[{}] * 6)
    assert [one.status for one in done] == [0] * 4 + [0xA700] * 2 and "wait to be judged" in done[5].said
    assert len(rows(room, ExamPhotograph)) == 5 == len(rows(room, Job))
    assert not list((room.settings.data / "incoming").iterdir())


def test_what_the_room_refuses_is_told_and_stands_once_in_the_log(room, camera):
    for _ in range(2):
        (found,) = camera({"PatientID": None, "SOPInstanceUID": "2.25.5"})
        assert found.status == 0xC000 and "Nothing says whose photograph this is" in found.said
    assert "is an answer of Fundoscope" in camera({"SOPInstanceUID": "2.25.6", "Manufacturer": "Fundoscope"})[0].said
    lines = [each for each in rows(room, AuditEntry) if each.action == "photograph.refuse"]
    assert [line.detail for line in lines] == [{"sop_instance": "2.25.5"}, {"sop_instance": "2.25.6"}]
    one, two = rows(room, RefusedArrival)
    assert (one.caller, one.address, one.patient, one.file) == ("FUNDOSCOPE", "127.0.0.1", "", "")
    assert one.reason.startswith("Nothing says whose") and two.reason.endswith("Have photographs sent only.")
    with speaking("zh"):
        assert translate_kept(two.reason).endswith("请只发送照片。") and "room" not in translate_kept(one.reason)
    assert rows(room, Patient) == []


def busy(*_):
    raise OperationalError("BEGIN", None, TimeoutError("too long"))


def test_a_database_that_is_away_is_out_of_resources_and_one_that_cannot_be_written_now_has_it_later(
    room, camera, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr("fundoscope.server.services.jobs.require_place", busy)
        assert [one.status for one in camera({})] == [0xA700]
    really, times = keeper.take_photographs, []

    def at_last(*given):
        times.append(len(rows(room, ExamPhotograph)))
        return busy() if len(times) < 3 else really(*given)

    monkeypatch.setattr(keeper, "_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(keeper, "take_photographs", at_last)
    assert [one.status for one in camera({})] == [0]
    assert times == [0, 0, 0] and len(rows(room, ExamPhotograph)) == 1 and not list(spooled(room))


def spooled(room):
    return (room.settings.data / "received").glob("*.dcm")


def received(number, **more):
    found = dicom_files.dataset(
        rows=32, columns=32, SOPInstanceUID=f"2.25.{number}", AcquisitionDateTime=f"{TODAY:%Y%m%d}1200", **more
    )
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    data = dicom_files.encode(found, RGB)
    return ReceivedObject(data, read_dicom_header(data, "one"), "CAM-1", "fe80::1")


def test_what_a_killed_station_has_answered_for_is_taken_at_the_next_start_once(room, site):
    first = RoomKeeper(room)
    first(received(1))
    first(received(2, PatientID="4712"))
    first._spool.release()  # as the system does for a process that is gone
    assert rows(room, ExamPhotograph) == []
    one = min(spooled(room))
    cut = one.with_name(one.name.replace(b"CAM".hex(), b"cam".hex()))
    cut.write_bytes(one.read_bytes()[:-100])  # killed while it was written: not answered for
    with RoomKeeper(room) as second:
        assert second.settle()
        with pytest.raises(UsageError, match="another station receives for this room"):
            RoomKeeper(room)
        second(received(1))  # sent again by who had not heard the answer
        assert second.settle()
    assert [each.sop_instance for each in rows(room, ExamPhotograph)] == ["2.25.1", "2.25.2"]
    assert not list(spooled(room)) and len(rows(room, Job)) == 2
    lines = [each for each in rows(room, AuditEntry) if each.action == "photographs.add"]
    assert {line.address for line in lines} == {"fe80::1"}


def test_a_queue_that_is_full_after_all_takes_as_many_as_it_has_room_for_and_the_rest_later(room, site, monkeypatch):
    monkeypatch.setattr(keeper, "_RETRY_SECONDS", 0.02)
    with monkeypatch.context() as patch:
        patch.setattr(RoomKeeper, "_require_place", lambda _: None)
        first = RoomKeeper(room)
        for number in range(7):
            first(received(number + 10))
        first._spool.release()
    with RoomKeeper(room) as second:
        while len(rows(room, ExamPhotograph)) < 5:
            second.settle(0.1)
        assert not second.settle(0.2) and len(rows(room, ExamPhotograph)) == 5
        with room.database.transaction() as session:
            session.execute(update(Job).values(state="done"))
        assert second.settle()
    assert [each.sop_instance for each in rows(room, ExamPhotograph)] == [f"2.25.{number + 10}" for number in range(7)]


def test_what_is_refused_after_its_answer_is_kept_and_shown_and_can_be_taken_again(room, site, sign_in, monkeypatch):
    boss = sign_in("administrator")
    really = exams.add_exam

    def add_exam(session, caller, new):
        if session.get_one(Patient, new.patient_id).code == "4712":
            raise ConflictError("Not today. Come tomorrow.")
        if session.get_one(Patient, new.patient_id).code == "4713":
            raise KeyError("a mistake of ours")
        return really(session, caller, new)

    with monkeypatch.context() as patch, RoomKeeper(room) as taking:
        patch.setattr(exams, "add_exam", add_exam)
        for number in (1, 2, 3):
            taking(received(number, PatientID=f"471{number}"))
        assert taking.settle()
    assert [each.sop_instance for each in rows(room, ExamPhotograph)] == ["2.25.1"]
    with room.database.reading() as session:
        shown = find_refusals(session, boss.caller)
    assert [(one.row.sop_instance, one.row.reason, one.row.patient, one.row.caller) for one in shown] == [
        ("2.25.3", keeper._FAILED, "4713 (HOSPITAL)", "CAM-1"), ("2.25.2", "Not today. Come tomorrow.", "4712 (HOSPITAL)", "CAM-1"),
    ]  # fmt: skip
    page = boss.get("/settings/dicom").text
    assert "4712 (HOSPITAL)" in page and "Not today" in page and page.count("kept here") == 2
    for number in (1, 2):
        assert boss.post(f"/settings/dicom/refused/{number}/again").status_code == 200
    assert "Have it sent again" in boss.post("/settings/dicom/refused/1/again").text
    with RoomKeeper(room) as taking:
        while len(rows(room, ExamPhotograph)) < 3:
            taking.settle(0.1)
    with room.database.reading() as session:
        assert all(one.came_later and not one.row.file for one in find_refusals(session, boss.caller))


def test_a_receiver_of_no_site_waits_and_one_of_a_named_site_takes(room, camera, site, other_site):
    (found,) = camera({})
    assert found.status == 0xA700 and "no site" in found.said
    assert find_intake(room, other_site.name, "adult", "").site_id == other_site.id
    assert find_intake(room, "elsewhere", "adult", "") is None


def test_settings_of_the_station(tmp_path):
    (tmp_path / "settings.toml").write_text(
        '[receiver]\nport = 104\nallow = ["10.0.0.0/24"]\n[receiver.tls]\ncertificate = "a.pem"\nkey = "a.key"\n'
        '[worklist]\nstation = "CAM"\npeer = {title = "RIS", host = "ris", port = 4242}\n'
    )
    found = read_settings(tmp_path, {})
    assert (
        found.receiver.tls.certificate == tmp_path / "a.pem" and found.worklist.peer.port == 4242 and found.has_station
    )
    assert ServerSettings.model_validate_json(found.model_dump_json()) == found
    (tmp_path / "settings.toml").write_text('[receiver]\nallow = ["ward 3"]\n')
    with pytest.raises(UsageError, match="ward 3 is no address"):
        read_settings(tmp_path, {})


def test_reports_on_commitment_meet_their_questions_in_the_database(room):
    heard, asking = RoomReports(room.database), RoomReports(room.database)
    asking.expect("2.25.7", {"2.25.1": "c", "2.25.2": "c"}, "PACS@h:1")
    assert asking.wait("2.25.7", 0) is None
    report = CommitmentReport("2.25.7", frozenset({"2.25.1", "2.25.66"}), {"2.25.2": 0x0112})
    assert heard.take(report) and heard.take(report) and not heard.take(CommitmentReport("2.25.8", frozenset()))
    assert asking.wait("2.25.7", 0) == CommitmentReport("2.25.7", frozenset({"2.25.1"}), {"2.25.2": 0x0112})


@pytest.mark.parametrize("host", ["h", "fe80::1"])
def test_what_a_pacs_took_and_does_not_answer_for_is_sent_again(room, site, make_exam, host):
    reports = RoomReports(room.database)
    reports.expect("2.25.7", {"2.25.1": "c", "2.25.2": "c"}, str(DimsePeer(title="PACS", host=host, port=104)))
    exam = make_exam()
    with room.database.transaction() as session:
        shared = {"site_id": site.id, "protocol": "dimse", "host": host, "port": 104, "created_via": "pages"}
        places = [DicomDestination(name=title, called_title=title, **shared) for title in ("PACS", "OTHER")]
        session.add_all(places)
        session.flush()
        for number, place in enumerate(places):
            job = Job(kind="dicom_send", key=f"k{number}", payload={}, state="done", attempts=3)
            session.add(job)
            session.flush()
            for uid in ("2.25.1", "2.25.2"):
                session.add(
                    SentObject(
                        destination_id=place.id, sop_instance=uid, kind="SR", exam_id=exam.id, job_id=job.id, digest=""
                    )
                )
    assert reports.take(CommitmentReport("2.25.7", frozenset({"2.25.1"}), {"2.25.2": 0x0112}))
    ours, others = rows(room, Job)
    assert (ours.state, ours.attempts, others.state) == (
        "waiting",
        0,
        "done",
    ) and "does not answer for it" in ours.error
    assert [(row.job_id, row.sop_instance) for row in rows(room, SentObject)] == [
        (ours.id, "2.25.1"),
        (others.id, "2.25.1"),
        (others.id, "2.25.2"),
    ]


# --- the worklist


def order(number="A-7", step="S1", day=TODAY, **more):
    """An answer of a worklist."""
    found = Dataset()
    values = {"SpecificCharacterSet": "ISO_IR 192", "AccessionNumber": number, "PatientID": "4711", "PatientName": "Wang^XiaoDong=王^小东",
              "IssuerOfPatientID": "HOSPITAL", "PatientBirthDate": "20260105", "StudyInstanceUID": "2.25.77"}  # fmt: skip
    for keyword, value in (values | more).items():
        if value is not None:
            setattr(found, keyword, value)
    item = Dataset()
    item.ScheduledProcedureStepStartDate, item.ScheduledProcedureStepID, item.Modality = f"{day:%Y%m%d}", step, "OP"
    found.ScheduledProcedureStepSequence = [item]
    return found


@contextmanager
def worklist(*answers, last=0x0000):
    """A worklist that gives these answers; yields its address, and what it was asked."""
    asked = []

    def find(event):
        asked.append(event.identifier)
        for each in answers:
            yield 0xFF00, each
        if last:
            yield last, None

    entity = AE("RIS")
    entity.add_supported_context(WORKLIST)
    server = entity.make_server(
        ("127.0.0.1", 0), evt_handlers=[(evt.EVT_C_FIND, find)], server_class=ThreadedAssociationServer
    )
    entity._servers.append(server)
    Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    try:
        yield DimsePeer(title="RIS", host="127.0.0.1", port=server.server_address[1], seconds=5), asked
    finally:
        server.shutdown()


@pytest.fixture
def take(room, site):
    """take(*answers) -> outcomes, over a socket."""

    def take(*answers):
        with worklist(*answers) as (peer, _):
            return take_orders(
                room, Intake(site.id, issuer="HOSPITAL", who="worklist"), ask_worklist(peer, TODAY, "OP")
            )

    return take


def test_the_question_names_day_station_and_modality_and_the_answer_is_read_whole():
    japanese = order(
        SpecificCharacterSet=["", "ISO 2022 IR 87"],
        PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
        OtherPatientIDs=["1", "2"],
    )
    with worklist(japanese, order(step="S2")) as (peer, asked):
        found = ask_worklist(peer, TODAY, "OP", "CAM")
    step = asked[0].ScheduledProcedureStepSequence[0]
    assert (step.Modality, step.ScheduledStationAETitle, step.ScheduledProcedureStepStartDate) == (
        "OP",
        "CAM",
        f"{TODAY:%Y%m%d}",
    )
    assert [one.step for one in found] == ["S1", "S2"] and found[
        0
    ].header.patient_name == "Yamada^Tarou=山田^太郎=やまだ^たろう"
    assert found[0].other_numbers == (("1", "HOSPITAL"), ("2", "HOSPITAL")) and found[1].header.study == "2.25.77"
    with worklist(last=0xA700) as (peer, _), pytest.raises(PeerError, match="0xA700"):
        ask_worklist(peer, TODAY)


def test_an_order_becomes_an_exam_once_and_photographs_of_its_study_go_there(room, take, camera):
    assert [one.outcome for one in take(order())] == ["added"] and [one.outcome for one in take(order(), order())] == [
        "known"
    ] * 2
    (exam,), (patient,) = rows(room, Exam), rows(room, Patient)
    assert (exam.accession, exam.scheduled_step, exam.study, exam.day) == ("A-7", "S1", "2.25.77", TODAY)
    assert (patient.code, patient.name, patient.birth_date) == ("4711", "Wang XiaoDong 王 小东", date(2026, 1, 5))
    yesterday = f"{TODAY - timedelta(1):%Y%m%d}"
    camera(
        {
            "StudyInstanceUID": "2.25.77",
            "AccessionNumber": None,
            "AcquisitionDateTime": yesterday,
            "PatientBirthDate": "20260105",
        }
    )
    assert [each.exam_id for each in rows(room, ExamPhotograph)] == [exam.id]
    assert [
        one.outcome
        for one in take(order(day=TODAY + timedelta(1)), order("", StudyInstanceUID=None), order(PatientID=None))
    ] == ["later", "refused", "refused"]
    assert len(rows(room, Exam)) == 1


def test_photographs_that_came_first_get_their_order(room, take, camera):
    camera({"AccessionNumber": None})
    (found,) = take(order(PatientName="Li^Wei", PatientBirthDate="20260110"))
    (exam,) = rows(room, Exam)
    assert (found.outcome, found.exam_id, exam.accession, exam.scheduled_step) == ("changed", exam.id, "A-7", "S1")
    (other,) = take(order("A-8", StudyInstanceUID="2.25.78", PatientName="Li^Wei", PatientBirthDate="20260110"))
    assert other.outcome == "refused" and "of another order" in other.reason


def test_names_and_days_of_birth_are_put_right_with_their_trace(room, take):
    take(order(PatientName="Baby^Boy", PatientBirthDate="20260106"))
    assert [one.outcome for one in take(order())] == ["changed"]
    (patient,) = rows(room, Patient)
    assert (patient.name, patient.birth_date) == ("Wang XiaoDong 王 小东", date(2026, 1, 5))
    assert {(each.field, each.before) for each in rows(room, Correction)} == {
        ("name", "Baby Boy"),
        ("birth_date", "2026-01-06"),
    }
    assert [one.outcome for one in take(order(PatientName="XiaoDong^Wang"))] == ["known"]  # the same words: nobody else


def test_patients_whom_the_worklist_calls_one_are_merged_and_contradictions_are_not(room, take, make_patient):
    other = make_patient(code="EMERGENCY-1", birth_date=None, gestational_age=None)
    born = make_patient(code="EMERGENCY-2", birth_date=date(2026, 2, 2))
    foreign = make_patient(code="77", birth_date=None)
    told = order(OtherPatientIDs=["EMERGENCY-1", "EMERGENCY-2"])
    item = Dataset()
    item.PatientID, item.IssuerOfPatientID = "77", "ELSEWHERE"
    told.OtherPatientIDsSequence = [item]
    take(told)
    found = {each.code: each.merged_into for each in rows(room, Patient)}
    into = next(each.id for each in rows(room, Patient) if each.code == "4711")
    assert found == {"4711": None, other.code: into, born.code: None, foreign.code: None}
    assert [one.outcome for one in take(told)] == ["known"]


def test_an_order_that_is_given_to_another_patient_takes_its_exam_there(room, take, camera, sign_in, make_patient):
    take(order(PatientID="TEMP"))
    take(order())
    temp, real = rows(room, Patient)
    (exam,) = rows(room, Exam)
    assert (exam.patient_id, temp.merged_into) == (real.id, real.id)  # the same name and day of birth, and no exam left
    take(order(PatientID="9", PatientName="Li^Ming=李^明", PatientBirthDate="20260203"))
    last = rows(room, Patient)[2]
    assert rows(room, Exam)[0].patient_id == last.id and rows(room, Patient)[1].merged_into is None  # another person
    right = make_patient(code="right", birth_date=None)
    nurse = sign_in("technician").caller
    with room.database.transaction() as session:
        move_exam(session, nurse, exam.id, NewPatientOfExam(patient_id=right.id, why="looked at the band"))
    (found,) = take(order(PatientID="9", PatientName="Li^Ming=李^明", PatientBirthDate="20260203"))
    assert found.outcome == "known" and rows(room, Exam)[0].patient_id == right.id  # what a person put right stays


def test_a_merge_that_a_person_has_undone_is_not_made_again(room, take, sign_in, make_patient):
    other = make_patient(code="EMERGENCY-1", birth_date=None, gestational_age=None)
    told = order(OtherPatientIDs=["EMERGENCY-1"])
    take(told)
    boss = sign_in("administrator").caller
    with room.database.transaction() as session:
        unmerge_patients(session, boss, other.id, Reason(why="twins"))
    assert [one.outcome for one in take(told)] == ["known"]
    assert {each.code: each.merged_into for each in rows(room, Patient)} == {"EMERGENCY-1": None, "4711": None}
