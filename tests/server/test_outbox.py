"""Answers on their way to a PACS: asked for with what they answer, sent once, kept until they are taken, superseded by what is signed."""

import hashlib
import io
from datetime import timedelta

import cv2
import dicom_files as made
import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")
pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")
pytest.importorskip("dicomweb_client")

from sqlalchemy import select, update

from fundoscope.dicom import documents
from fundoscope.server.dicom import outbox, sending, web
from fundoscope.server.dicom.intake import ArrivedFile, Intake, take_photographs
from fundoscope.server.dicom.web import DicomwebError, StoreOutcome
from fundoscope.server.errors import ConflictError, NotFoundError
from fundoscope.server.judge import JudgeAnswer
from fundoscope.server.models import (
    AuditEntry,
    DicomDestination,
    Exam,
    ExamPhotograph,
    Grading,
    Job,
    Patient,
    SentObject,
    now,
)
from fundoscope.server.services import jobs, judging, readings, uploads
from fundoscope.server.services.eye_findings import EyeFindings, ReadingContent
from fundoscope.server.services.uploads import SentFile
from fundoscope.server.settings import ServerSettings, TrafficSettings

RGB = made.photograph()


@pytest.fixture
def settings(tmp_path):
    return ServerSettings(
        data=tmp_path / "room", traffic=TrafficSettings(settle_seconds=0, first_wait_seconds=7), debug=True
    )


@pytest.fixture(autouse=True)
def quick_documents(monkeypatch, request):
    """Pages are drawn in one test only."""
    if "once" not in request.node.name:
        monkeypatch.setattr(
            documents, "draw_pdf", lambda study, pictures: repr((study.reading, study.photographs)).encode()
        )


class Pacs:
    """Takes objects as a PACS does; `troubles` are what the next ones meet: an error, or a reason of refusal."""

    def __init__(self):
        self.stored, self.times, self.troubles = {}, [], []

    def store(self, study, file):
        found = pydicom.dcmread(io.BytesIO(file))
        trouble = self.troubles.pop(0) if self.troubles else None
        if isinstance(trouble, BaseException):
            raise trouble
        self.times.append(found.SOPInstanceUID)
        assert study == found.StudyInstanceUID
        if trouble:
            return StoreOutcome(found.SOPInstanceUID, "refused", trouble)
        self.stored[found.SOPInstanceUID] = found
        return StoreOutcome(found.SOPInstanceUID, "stored")

    def kinds(self):
        return sorted(found.Modality for found in self.stored.values())


@pytest.fixture
def pacs(monkeypatch):
    one = Pacs()
    monkeypatch.setattr(web, "DicomwebConnection", lambda server: one)
    return one


@pytest.fixture
def destination(room, site):
    def destination(**values):
        wanted = {
            "site_id": site.id,
            "name": "PACS",
            "protocol": "dicomweb",
            "url": "http://localhost:1/x",
            "created_via": "command",
        }
        with room.database.transaction() as session:
            row = DicomDestination(**wanted | values)
            session.add(row)
        return row

    return destination


@pytest.fixture
def photograph(room, site):
    """photograph(1): a DICOM photograph of patient 4711, in the room by itself; returns its number."""

    def photograph(number=1, side="R", **more):
        content = made.encode(made.dataset(SOPInstanceUID=f"2.25.{number}", ImageLaterality=side, **more), RGB)
        with uploads.incoming_folder(room.settings) as folder:
            (folder / "x").write_bytes(content)
            sent = SentFile(f"IM{number}", folder / "x", len(content), hashlib.sha256(content).hexdigest())
            (found,) = take_photographs(room, Intake(site.id, issuer="HOSPITAL"), [ArrivedFile(sent)], folder)
        assert found.outcome == "taken", found
        with room.database.reading() as session:
            return session.scalar(select(ExamPhotograph.id).where(ExamPhotograph.sop_instance == f"2.25.{number}"))

    return photograph


@pytest.fixture
def judge(room):
    def judge(number, p=0.8):
        row = {
            "file": "",
            "status": "ok",
            "reason": "",
            "p_rop": p,
            "rop": "yes" if p > 0.5 else "no",
            "p_tr": None,
            "treatment_requiring": None,
            "quality": 0.9,
        }
        bundle = judging.bundle_identity("rop")
        answer = JudgeAnswer(
            grader="rop screen", bundle=bundle.name, bundle_digest=bundle.digest, version="9", status="ok", reason="", rows=[row],
            probability=p, suspected=p > 0.5, size=RGB.shape[:2], pictures={"photograph": "p.jpg"},
        )  # fmt: skip
        with room.database.transaction() as session:
            judging._write_answer(session, number, answer, 0.1)
        with room.database.reading() as session:
            photograph, grading = (
                session.get(ExamPhotograph, number),
                session.scalar(select(Grading).where(Grading.photograph_id == number)),
            )
        place = judging.picture_file(room.settings, photograph, grading, "photograph")
        place.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place), RGB[..., ::-1])

    return judge


@pytest.fixture
def work(room):
    """Does all sendings that may be done now, as a worker would; returns how many."""

    def work():
        count = 0
        while True:
            with room.database.transaction() as session:
                taken = jobs.take_jobs(session, "test", (outbox.KIND,))
            if not taken:
                return count
            count += 1
            try:
                write = sending.send_answer(room, taken[0])
                with room.database.transaction() as session:
                    write(session)
                    jobs.finish_jobs(session, taken)
            except jobs.TryAgainError as error:
                with room.database.transaction() as session:
                    jobs.fail_job(session, taken[0], str(error), error.wait, error.attempts)
            except jobs.NotYetError as error:
                with room.database.transaction() as session:
                    jobs.postpone_job(session, taken[0], error.until)

    return work


def texts(found):
    return [element.value for element in found.iterall() if element.keyword == "TextValue"]


def rows(room, model):
    with room.database.reading() as session:
        return session.scalars(select(model).order_by(model.id)).all()


def sendings(room):
    return [job for job in rows(room, Job) if job.kind == outbox.KIND]


def make_due(room):
    with room.database.transaction() as session:
        session.execute(update(Job).values(run_after=now() - timedelta(seconds=1)))


def sign(room, reader, exam_id, kind="first", why="", **found):
    eyes = tuple(EyeFindings(eye=eye, zone="II", stage="2", plus="no", **found) for eye in ("right", "left"))
    with room.database.transaction() as session:
        number = readings.save_reading(
            session, reader.caller, exam_id, ReadingContent(eyes=eyes), kind=kind, why=why
        ).id
    return readings.sign_reading(room.database, reader.caller, number, reader.password)


def test_the_programs_answer_goes_when_all_is_judged_and_once(room, pacs, destination, photograph, judge, work):
    destination(content="tool")
    first, second = photograph(1), photograph(2, "L")
    judge(first)
    assert sendings(room) == []
    judge(second, 0.1)
    assert len(sendings(room)) == 1 and work() == 1
    assert pacs.kinds() == ["DOC", "KO", "SR"]
    report = next(found for found in pacs.stored.values() if found.Modality == "SR")
    assert (report.PatientID, report.AccessionNumber, report.VerificationFlag) == ("4711", "A-1", "UNVERIFIED")
    assert {row.sop_instance for row in rows(room, SentObject)} == set(pacs.stored)
    assert [line.action for line in rows(room, AuditEntry)][-1] == "answer.send"
    with room.database.transaction() as session:  # asked for again, at whatever change of the exam
        outbox.ask_for_tool_answer(session, session.get(Exam, 1))
    assert (len(sendings(room)), work(), len(pacs.times)) == (1, 0, len(pacs.stored))


def test_a_further_photograph_sends_only_what_is_new(room, pacs, destination, photograph, judge, work):
    destination(content="tool")
    judge(photograph(1))
    work()
    before = set(pacs.stored)
    judge(photograph(2), 0.9)
    assert work() == 1
    assert set(pacs.times[len(before) :]).isdisjoint(before) and len(pacs.times) == len(set(pacs.times))


def test_an_answer_that_is_not_taken_waits_longer_each_time_and_only_the_rest_is_sent(
    room, pacs, destination, photograph, judge, work
):
    destination(content="tool")
    pacs.troubles = [None, "out of resources (0xA700)", None]
    judge(photograph(1))
    work()
    (job,) = sendings(room)
    assert (job.state, job.attempts) == ("waiting", 1) and "out of resources" in job.error
    assert 5 < (job.run_after - now()).total_seconds() < 8
    taken = len(pacs.stored)
    pacs.troubles = [DicomwebError("http://pacs: nothing answers there.")]
    make_due(room)
    work()
    (job,) = sendings(room)
    assert (
        len(pacs.stored) == taken
        and 12 < (job.run_after - now()).total_seconds() < 15
        and "nothing answers" in job.error
    )
    make_due(room)
    assert work() == 1 and sendings(room)[0].state == "done" and len(pacs.stored) > taken
    assert sorted(map(pacs.times.count, pacs.stored)) == [1, 1, 2]  # the refused one twice


def test_a_worker_that_dies_in_the_middle_sends_nothing_twice(room, pacs, destination, photograph, judge, work):
    destination(content="tool")
    judge(photograph(1))
    pacs.troubles = [None, KeyboardInterrupt()]
    with room.database.transaction() as session:
        (job,) = jobs.take_jobs(session, "dead", (outbox.KIND,))
    with pytest.raises(KeyboardInterrupt):
        sending.send_answer(room, job)
    with room.database.transaction() as session:
        session.execute(update(Job).values(lease_until=now() - timedelta(seconds=1)))
    assert work() == 1 and len(pacs.times) == len(set(pacs.times)) == len(pacs.stored) == 3


def test_what_is_signed_supersedes_what_was_sent(room, pacs, destination, photograph, judge, work, sign_in):
    destination(content="both")
    judge(photograph(1)), judge(photograph(2, "L"))
    work()
    tool = next(found for found in pacs.stored.values() if found.Modality == "SR")
    reader = sign_in("reader")
    first = sign(room, reader, 1)
    work()
    signed = next(
        found for found in pacs.stored.values() if found.Modality == "SR" and found.VerificationFlag == "VERIFIED"
    )

    def predecessor(found):
        return (
            found.PredecessorDocumentsSequence[0]
            .ReferencedSeriesSequence[0]
            .ReferencedSOPSequence[0]
            .ReferencedSOPInstanceUID
        )

    assert predecessor(signed) == tool.SOPInstanceUID
    assert str(signed.VerifyingObserverSequence[0].VerifyingObserverName) == "Reader1^"
    assert "zone II, stage 2, no plus" in texts(signed)
    sign(room, reader, 1, "correction", "mistyped", treated=True)
    work()
    reports = [found for found in pacs.stored.values() if found.Modality == "SR"]
    assert (
        len(reports) == 3
        and predecessor(reports[-1]) == signed.SOPInstanceUID
        and "Why: mistyped" in texts(reports[-1])
    )
    assert first.id == 1 and {job.state for job in sendings(room)} == {"done"}


@pytest.mark.parametrize(
    ("content", "moment", "before", "after"),
    [("signed", "judged", [], ["signed"]), ("tool", "signed", [], ["tool"]), ("both", "signed", [], ["tool", "signed"]), ("nothing", "judged", [], [])],
)  # fmt: skip
def test_what_is_sent_and_when_is_a_setting(
    room, destination, photograph, judge, sign_in, content, moment, before, after
):
    destination(content=content, moment=moment)
    destination(name="other", active=False)
    judge(photograph(1))
    assert [job.payload["what"] for job in sendings(room)] == before
    sign(room, sign_in("reader"), 1)
    assert [job.payload["what"] for job in sendings(room)] == after


def test_an_exam_of_other_files_asks_for_nothing(room, destination, make_photograph, judge):
    destination()
    judge(make_photograph().id)
    assert sendings(room) == []


def test_an_answer_under_a_wrong_name_is_held_until_it_is_put_right(room, pacs, destination, photograph, judge, work):
    destination(content="tool")
    judge(photograph(1))
    with room.database.transaction() as session:
        session.get(Patient, 1).code = "another"
    work()
    (job,) = sendings(room)
    assert job.state == "failed" and "names the patient 4711 (HOSPITAL)" in job.error and pacs.stored == {}


def test_an_answer_that_came_too_late_gives_way_and_comes_back(room, pacs, destination, photograph, judge, work):
    destination(content="tool")
    judge(photograph(1))
    second = photograph(2)
    judge(second)
    with room.database.transaction() as session:
        session.get(ExamPhotograph, second).state = "withdrawn"
        judging.refresh_exam(session, session.get(Exam, 1))
    assert work() == 2  # of two photographs: set aside; of the one that is left: there since the beginning
    with room.database.transaction() as session:
        session.get(ExamPhotograph, second).state = "graded"
        judging.refresh_exam(session, session.get(Exam, 1))
    assert work() == 1
    reports = [found for found in pacs.stored.values() if found.Modality == "SR"]
    assert [
        len(found.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence)
        for found in reports
    ] == [1, 2]


def test_an_answer_settles_first_and_waits_for_a_destination_that_is_off(
    room, pacs, destination, photograph, judge, work
):
    object.__setattr__(room.settings.traffic, "settle_seconds", 100.0)
    place = destination(content="tool")
    judge(photograph(1))
    work()
    (job,) = sendings(room)
    assert (job.state, job.attempts) == ("waiting", 0) and 90 < (job.run_after - now()).total_seconds() < 101
    object.__setattr__(room.settings.traffic, "settle_seconds", 0.0)
    with room.database.transaction() as session:
        session.get(DicomDestination, place.id).active = False
    make_due(room)
    work()
    assert sendings(room)[0].state == "waiting" and pacs.stored == {}


def test_answers_behind_one_that_found_nobody_are_not_tried(room, pacs, destination, photograph, judge, work):
    destination(content="tool")
    pacs.troubles = [DicomwebError("away")]
    judge(photograph(1))
    judge(photograph(2, PatientID="4712", StudyInstanceUID="2.25.2002"))
    work()
    first, second = sendings(room)
    assert (first.attempts, second.attempts, second.error) == (1, 0, "") and pacs.stored == {}
    assert second.run_after <= now() + timedelta(seconds=8)
    room.away.clear()
    make_due(room)
    assert work() == 2 and {job.state for job in sendings(room)} == {"done"}


def test_sending_again_by_hand(room, pacs, destination, photograph, judge, work, sign_in, other_site):
    destination(content="tool")
    pacs.troubles = [DicomwebError("away")] * 2
    judge(photograph(1))
    work()
    nurse, stranger = sign_in("technician"), sign_in("technician", sites=[other_site])
    with room.database.transaction() as session:
        (found,) = outbox.find_sendings(session, nurse.caller, "waiting")
        assert (found.exam_id, found.what, found.state, found.destination.name) == (1, "tool", "waiting", "PACS")
        assert (
            outbox.find_sendings(session, stranger.caller) == [] and outbox.count_troubled(session, nurse.caller) == 1
        )
        assert outbox.find_sendings(session, nurse.caller, exam_id=2) == []
        with pytest.raises(NotFoundError):
            outbox.send_again(session, stranger.caller, found.job.id)
    pacs.troubles = []
    with room.database.transaction() as session:
        outbox.send_again(session, nurse.caller, found.job.id)
    assert work() == 1
    before = len(pacs.times)
    with room.database.transaction() as session:
        assert outbox.get_sending(session, nurse.caller, found.job.id).state == "sent"
        outbox.send_again(session, nurse.caller, found.job.id)  # the PACS has lost it
    assert work() == 1 and len(pacs.times) == 2 * before and len(pacs.stored) == before
    with room.database.transaction() as session:
        session.get(Job, found.job.id).state = "running"
    with pytest.raises(ConflictError), room.database.transaction() as session:
        outbox.send_again(session, nurse.caller, found.job.id)


def test_by_dimse_each_file_goes_as_it_is(room, destination, photograph, judge, work, monkeypatch):
    from fundoscope.server.dicom import sender

    sent = []

    def send(peer, paths, *more):
        sent.append((str(peer), peer.commitment, [path.read_bytes() for path in paths]))
        outcomes = [sender.InstanceOutcome(path, "", "stored", "stored") for path in paths]
        return [
            *outcomes[:-1],
            sender.InstanceOutcome(paths[-1], "", "refused", "refused: the class is not supported (0x0122)"),
        ]

    monkeypatch.setattr(sender, "send_by_dimse", send)
    destination(content="tool", protocol="dimse", host="10.0.0.7", port=104, called_title="PACS", commitment=True)
    judge(photograph(1))
    work()
    make_due(room)
    work()
    assert sent[0][:2] == ("PACS@10.0.0.7:104", True) and sent[1][2] == sent[0][2][-1:]
    assert "not supported" in sendings(room)[0].error
    assert [hashlib.sha256(file).hexdigest() for file in sent[0][2][:-1]] == [
        row.digest for row in rows(room, SentObject)
    ]
