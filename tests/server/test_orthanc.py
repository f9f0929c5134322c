"""A real PACS: photographs stored there are found, judged and answered; nothing is lost when it is away, and nothing comes twice."""

import hashlib
import io
import signal
import subprocess
import time
from datetime import date

import dicom_files as made
import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")
pydicom = pytest.importorskip("pydicom")
sr = pytest.importorskip("highdicom").sr
pytest.importorskip("dicomweb_client")

import orthanc as pacs_program
from conftest import add_site
from sqlalchemy import delete, func, select

from fundoscope.server.database import Database
from fundoscope.server.dicom import places
from fundoscope.server.dicom.web import DicomwebConnection, DicomwebServer
from fundoscope.server.models import (
    DicomDestination,
    DicomSource,
    Exam,
    ExamPhotograph,
    Job,
    Patient,
    SentObject,
    SourceItem,
    User,
)
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.piped import PipedProcess
from fundoscope.server.room import Room
from fundoscope.server.security.passwords import hash_password
from fundoscope.server.services import readings
from fundoscope.server.services.eye_findings import EyeFindings, ReadingContent
from fundoscope.server.settings import ServerSettings, TrafficSettings

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(not pacs_program.is_installed(), reason="orthanc and orthanc-dicomweb are not installed"),
]

TODAY = date.today()
NAME = "Wang^XiaoDong=王^小东"
REPORTS = {"SR": "1.2.840.10008.5.1.4.1.1.88.34", "KO": "1.2.840.10008.5.1.4.1.1.88.59", "DOC": "1.2.840.10008.5.1.4.1.1.104.1", "OT": "1.2.840.10008.5.1.4.1.1.7"}  # fmt: skip


@pytest.fixture(scope="module")
def eyes():
    """Two simulated eyes of an infant, RGB."""
    from fundoscope.simulate import infant

    return [infant(seed, camera="retcam", level="good").pixels for seed in (3, 4)]


def photograph(eyes, number, study, patient="4711", side="R"):
    """A DICOM photograph of today, as a camera sends it."""
    rgb = eyes[number % len(eyes)]
    day = f"{TODAY:%Y%m%d}"
    found = made.dataset(
        rows=rgb.shape[0], columns=rgb.shape[1], SOPInstanceUID=f"2.25.{study}{number}", StudyInstanceUID=f"2.25.{study}",
        SeriesInstanceUID=f"2.25.{study}9", PatientID=patient, PatientName=NAME, PatientBirthDate=f"{TODAY.year - 1}1201",
        StudyDate=day, ContentDate=day, AcquisitionDateTime=f"{day}101700", ImageLaterality=side, AccessionNumber=f"A-{study}",
    )  # fmt: skip
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    return made.encode(found, rgb)


class Hospital:
    """A PACS, and a room with its worker that looks there and answers there."""

    def __init__(self, folder):
        self.pacs = pacs_program.Orthanc(folder / "pacs").start()
        traffic = TrafficSettings(settle_seconds=1, first_wait_seconds=0.5, longest_wait_seconds=1, answer_seconds=10)
        self.settings = ServerSettings(data=folder / "room", workers=1, traffic=traffic)
        self.settings.data.mkdir(mode=0o700)
        self.room = Room(self.settings, Database(self.settings.database_url))
        self.room.database.upgrade()
        self.site = add_site(self.room, "Site A").id
        server = {"site_id": self.site, "url": self.pacs.url, "user": self.pacs.user, "password": self.pacs.password}
        with self.room.database.transaction() as session:
            user = User(name="ada", full_name="Ada Reader", role="reader", password=hash_password("a short sentence"))
            session.add(user)
            session.flush()
            self.reader = Caller(user.id, "ada", Role.READER, frozenset({self.site}))
            boss = Caller(None, "boss", Role.ADMINISTRATOR, frozenset({self.site}), via="command")
            to, out_of = (DicomDestination, places.DestinationValues), (DicomSource, places.SourceValues)
            for (model, values), more in ((to, {}), (out_of, {"interval": 1, "issuer": "HOSPITAL"})):
                places.add_place(session, boss, self.settings, model, values(name="Orthanc", **server, **more))
        self.worker = None

    def start_worker(self):
        self.worker = PipedProcess(self.settings, "fundoscope.server.worker")
        self.worker.start()

    def close(self):
        if self.worker is not None:
            self.worker.stop()
        self.pacs.stop(signal.SIGKILL)
        self.room.database.dispose()

    def count(self, model, *wanted):
        with self.room.database.reading() as session:
            return session.scalar(select(func.count()).select_from(model).where(*wanted))

    def rows(self, model, *wanted):
        with self.room.database.reading() as session:
            return session.scalars(select(model).where(*wanted).order_by(model.id)).all()

    def wait(self, is_so, seconds=120):
        until = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < until, [(job.kind, job.state, job.error) for job in self.rows(Job)] + [
                row.trouble for row in self.rows(DicomSource)
            ]
            time.sleep(0.2)

    def wait_until_sent(self, photographs):
        """Until so many photographs are in the room, judged, and nothing waits to be sent."""
        self.wait(
            lambda: (
                self.count(ExamPhotograph) >= photographs
                and not self.count(ExamPhotograph, ExamPhotograph.state == "waiting")
            )
        )
        self.wait(lambda: self.count(Job, Job.kind == "dicom_send") and not self.count(Job, Job.state.in_(("waiting", "running")), Job.kind == "dicom_send"))  # fmt: skip

    def answers(self, study):
        """What lies in the PACS beside a study's photographs, fetched by DICOMweb and read by pydicom."""
        found = []
        for file in self.pacs.files():
            one = pydicom.dcmread(io.BytesIO(file))
            if one.StudyInstanceUID == f"2.25.{study}" and one.Manufacturer == "Fundoscope":
                found.append(one)
        return found

    def kinds(self, study):
        return sorted(one.Modality for one in self.answers(study))


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    one = Hospital(tmp_path_factory.mktemp("hospital"))
    try:
        one.start_worker()
        yield one
    finally:
        one.close()


def test_photographs_are_found_judged_and_answered(hospital, eyes, tmp_path):
    for number, side in enumerate("RL"):
        hospital.pacs.put(photograph(eyes, number, 100, side=side))
    hospital.wait_until_sent(2)
    (patient,), (exam,) = hospital.rows(Patient), hospital.rows(Exam)
    assert (patient.code, patient.name, exam.accession, exam.day) == ("4711", "Wang XiaoDong 王 小东", "A-100", TODAY)
    assert [row.eye for row in hospital.rows(ExamPhotograph)] == ["right", "left"]
    found = {one.Modality: one for one in hospital.answers(100)}
    assert set(hospital.kinds(100)) >= {"SR", "DOC", "OT"} and len(hospital.answers(100)) <= 5
    for one in found.values():
        assert (str(one.PatientName), one.PatientID, one.IssuerOfPatientID, one.AccessionNumber) == (
            NAME,
            "4711",
            "HOSPITAL",
            "A-100",
        )
        assert one.SOPClassUID == REPORTS[one.Modality]
    client = DicomwebConnection(
        DicomwebServer(url=hospital.pacs.url, user=hospital.pacs.user, password=hospital.pacs.password)
    )
    assert [one.sop_instance for one in client.find_photographs("2.25.100", "OP")] == ["2.25.1000", "2.25.1001"] or len(client.find_photographs("2.25.100", "OP")) == 2  # fmt: skip
    buffer = io.BytesIO()
    found["SR"].save_as(buffer)
    report = sr.srread(io.BytesIO(buffer.getvalue()))
    assert {entry[2] for entry in report.get_evidence()} == {"2.25.1000", "2.25.1001"}
    sources = [
        group.source_images[0].referenced_sop_instance_uid for group in report.content.get_image_measurement_groups()
    ]
    assert sources == ["2.25.1000", "2.25.1001"]
    assert found["OT"].SourceImageSequence[0].ReferencedSOPInstanceUID in sources
    assert found["DOC"].EncapsulatedDocument.startswith(b"%PDF-")
    if "KO" in found:
        images = [item for item in found["KO"].ContentSequence if item.ValueType == "IMAGE"]
        assert {item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in images} <= set(sources)
    for one in found.values():
        path = tmp_path / f"{one.Modality}.dcm"
        one.save_as(path)
        told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        assert "Error" not in told.stderr + told.stdout, told.stderr
    dumped = subprocess.run(["dsrdump", "+U8", "+Pl", str(tmp_path / "SR.dcm")], capture_output=True, text=True)
    assert dumped.returncode == 0 and dumped.stdout.count('"Measurement Group"') == 2
    assert 'TEXT:(,,"Algorithm Name")="Fundoscope rop screen, bundle' in dumped.stdout


def test_what_is_signed_lies_beside_it_and_names_what_it_supersedes(hospital):
    (tool,) = [one for one in hospital.answers(100) if one.Modality == "SR"]
    eyes = tuple(EyeFindings(eye=eye, zone="II", stage="2", plus="no") for eye in ("right", "left"))
    with hospital.room.database.transaction() as session:
        number = readings.save_reading(session, hospital.reader, 1, ReadingContent(eyes=eyes)).id
    readings.sign_reading(hospital.room.database, hospital.reader, number, "a short sentence")
    hospital.wait(lambda: hospital.kinds(100).count("SR") == 2 and hospital.kinds(100).count("DOC") == 2)
    signed = next(one for one in hospital.answers(100) if one.Modality == "SR" and one.VerificationFlag == "VERIFIED")
    named = signed.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == tool.SOPInstanceUID and tool.VerificationFlag == "UNVERIFIED"
    assert str(signed.VerifyingObserverSequence[0].VerifyingObserverName) == "Ada Reader^"


def test_a_rerun_adds_nothing(hospital):
    before = {hashlib.sha256(file).hexdigest() for file in hospital.pacs.files()}
    photographs, exams = hospital.count(ExamPhotograph), hospital.count(Exam)
    hospital.worker.stop()
    with hospital.room.database.transaction() as session:  # as if the room had forgotten what it saw and sent
        session.execute(delete(SourceItem))
        session.execute(delete(SentObject))
        for job in session.scalars(select(Job).where(Job.kind == "dicom_send")):
            job.state = "waiting"
    hospital.start_worker()
    hospital.wait_until_sent(photographs)
    hospital.wait(lambda: hospital.count(SourceItem) == photographs)
    assert {hashlib.sha256(file).hexdigest() for file in hospital.pacs.files()} == before
    assert (hospital.count(ExamPhotograph), hospital.count(Exam)) == (photographs, exams)


def test_a_pacs_that_is_away_for_a_minute_loses_nothing_and_has_nothing_twice(hospital, eyes):
    photographs = hospital.count(ExamPhotograph)
    hospital.worker.stop()
    for number in range(2):
        hospital.pacs.put(photograph(eyes, number, 200, patient="4712", side="RL"[number]))
    hospital.start_worker()
    hospital.wait(lambda: hospital.count(ExamPhotograph) == photographs + 2)
    hospital.pacs.stop()
    stopped = time.monotonic()
    hospital.wait(
        lambda: any(job.error for job in hospital.rows(Job, Job.kind == "dicom_send", Job.state == "waiting"))
    )
    hospital.wait(lambda: "nothing answers there" in hospital.rows(DicomSource)[0].trouble)
    time.sleep(max(0.0, stopped + 60 - time.monotonic()))
    (waiting,) = hospital.rows(Job, Job.kind == "dicom_send", Job.state != "done")
    assert "nothing answers there" in waiting.error and waiting.attempts > 1
    hospital.pacs.start()
    hospital.wait_until_sent(photographs + 2)
    assert hospital.count(ExamPhotograph) == photographs + 2
    kinds = hospital.kinds(200)
    assert (kinds.count("SR"), kinds.count("DOC")) == (1, 1) and kinds.count("OT") in (1, 2) and kinds.count("KO") <= 1
    taken = {row.sop_instance for row in hospital.rows(SentObject, SentObject.job_id == waiting.id)}
    assert {one.SOPInstanceUID for one in hospital.answers(200)} == taken and len(kinds) == len(taken)
    hospital.wait(lambda: hospital.rows(DicomSource)[0].trouble == "")


def test_a_pacs_that_is_killed_in_the_middle_of_a_transfer_has_everything_once(hospital, eyes):
    photographs, sent = hospital.count(ExamPhotograph), hospital.count(SentObject)
    hospital.worker.stop()
    for number in range(5):
        hospital.pacs.put(photograph(eyes, number, 300, patient="4713", side="RL"[number % 2]))
    hospital.start_worker()
    hospital.wait(lambda: hospital.count(ExamPhotograph) > photographs)
    hospital.pacs.stop(signal.SIGKILL)  # while photographs are fetched
    hospital.pacs.start()
    hospital.wait(lambda: hospital.count(SentObject) > sent + 1)
    hospital.pacs.stop(signal.SIGKILL)  # while answers are sent
    time.sleep(2)
    hospital.pacs.start()
    hospital.wait_until_sent(photographs + 5)
    assert hospital.count(ExamPhotograph) == photographs + 5
    stored = {
        pydicom.dcmread(io.BytesIO(file), stop_before_pixels=True).SOPInstanceUID: hashlib.sha256(file).hexdigest()
        for file in hospital.pacs.files()
    }
    taken = {row.sop_instance: row.digest for row in hospital.rows(SentObject)}
    assert {uid: stored.get(uid) for uid in taken} == taken
    answers = {one.SOPInstanceUID for study in (100, 200, 300) for one in hospital.answers(study)}
    assert answers == set(taken) and len(answers) == sum(len(hospital.answers(study)) for study in (100, 200, 300))
