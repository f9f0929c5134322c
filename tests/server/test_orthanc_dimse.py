"""A real PACS by DIMSE: it sends to the room's station and answers for what it was sent; its worklist becomes exams; kills lose nothing."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import dicom_files
import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")
pytest.importorskip("pynetdicom", reason="the extra dicom is not installed")

import orthanc as pacs_program
from conftest import add_site
from postgres import find_port
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import build_context
from sqlalchemy import select

from fundoscope.server.database import Database
from fundoscope.server.dicom.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE, ask_for
from fundoscope.server.dicom.commitment_rows import RoomReports
from fundoscope.server.dicom.peers import associate, send_echo
from fundoscope.server.dicom.sender import send_by_dimse
from fundoscope.server.dicom.settings import DimsePeer
from fundoscope.server.models import Exam, ExamPhotograph, Job, Patient
from fundoscope.server.services import judging
from fundoscope.server.settings import ServerSettings

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(not pacs_program.is_installed(), reason="orthanc and orthanc-dicomweb are not installed"),
]

TODAY = date.today()
RGB = dicom_files.photograph(64, 64)
JAPANESE = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"


def photograph(number, **more):
    """A file of today."""
    wanted = {
        "SOPInstanceUID": f"2.25.7{number}",
        "AcquisitionDateTime": f"{TODAY:%Y%m%d}1200",
        "PatientBirthDate": f"{TODAY.year - 1}1201",
    }
    found = dicom_files.dataset(rows=64, columns=64, **wanted | more)
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    return dicom_files.encode(found, RGB)


def named(data, name):
    """The file with these bytes for the patient's name."""
    at = data.index(b"\x10\x00\x10\x00PN")
    padded = name + b" " * (len(name) % 2)
    return data[: at + 6] + len(padded).to_bytes(2, "little") + padded + data[at + 8 + int.from_bytes(data[at + 6 : at + 8], "little") :]  # fmt: skip


class Ward:
    """A PACS and a room whose station is a process of its own, which can be killed."""

    def __init__(self, folder):
        self.port = find_port()
        self.pacs = pacs_program.Orthanc(folder / "pacs", {"FUNDOSCOPE": self.port}).start()
        data = folder / "room"
        data.mkdir(mode=0o700)
        (data / "settings.toml").write_text(
            f'[receiver]\nport = {self.port}\nissuer = "HOSPITAL"\nfree_bytes = 0\n'
            f'[worklist]\nevery = 0.5\nissuer = "HOSPITAL"\npeer = {{title = "ORTHANC", host = "127.0.0.1", port = {self.pacs.dicom_port}}}\n'
        )
        self.database = Database(ServerSettings(data=data).database_url)
        self.database.upgrade()
        self.settings = ServerSettings(data=data)
        self.reports = RoomReports(self.database)
        add_site(self, "Site A")
        self.here = DimsePeer(title="FUNDOSCOPE", host="127.0.0.1", port=self.port, seconds=20, calling="ORTHANC")
        self.there = DimsePeer(
            title="ORTHANC", host="127.0.0.1", port=self.pacs.dicom_port, seconds=20, commitment_seconds=30
        )
        self.log = folder / "station.log"
        self.station = None

    def start(self):
        command = [sys.executable, "-m", "fundoscope.server.dicom.station", "--data", self.settings.data]
        with self.log.open("ab") as log:
            self.station = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(300):
            try:
                return send_echo(self.here)
            except Exception:  # noqa: BLE001 - not yet
                assert self.station.poll() is None, self.log.read_text()[-3000:]
                time.sleep(0.1)
        raise TimeoutError

    def kill(self):
        self.station.send_signal(signal.SIGKILL)
        self.station.wait()

    def rows(self, model):
        with self.database.reading() as session:
            return session.scalars(select(model).order_by(model.id)).all()

    def send(self, numbers):
        """Orthanc sends what it holds under these numbers to the room; whether all were taken."""
        asked = {"Resources": numbers, "Synchronous": False}
        job = self.pacs.ask("/modalities/FUNDOSCOPE/store", "POST", json=asked)["ID"]
        self.wait_for(lambda: self.pacs.ask(f"/jobs/{job}")["State"] in ("Success", "Failure"), 3000)
        taken = self.pacs.ask(f"/jobs/{job}")["State"] == "Success"
        if taken:  # and in the room a moment later
            self.wait_for(lambda: not any((self.settings.data / "received").glob("*.dcm")))
        return taken

    def wait_for(self, condition, tries=600):
        for _ in range(tries):
            if found := condition():
                return found
            time.sleep(0.05)
        raise TimeoutError(self.log.read_text()[-3000:])


@pytest.fixture
def ward(tmp_path):
    made = Ward(tmp_path)
    yield made
    if made.station is not None:
        made.kill()
    made.pacs.stop(signal.SIGKILL)
    made.database.dispose()


def test_the_pacs_sends_to_us_names_come_whole_and_nothing_comes_twice(ward):
    ward.start()
    assert ward.pacs.ask("/modalities/FUNDOSCOPE/echo", "POST", json={}) == {}
    files = [
        named(photograph(1, SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientID="1"), JAPANESE),
        named(photograph(2, SpecificCharacterSet="GB18030", PatientID="2"), "Wang^XiaoDong=王^小东".encode("gb18030")),
        named(photograph(3, SpecificCharacterSet="ISO_IR 100", PatientID="3"), "王^小东".encode("gb18030")),
        photograph(4, PatientID="4", PatientName="=王^小东", ImageLaterality="L"),
    ]  # fmt: skip
    numbers = [ward.pacs.put(each)["ID"] for each in files]
    assert ward.send(numbers) and ward.send(numbers)
    found = {patient.code: patient.name for patient in ward.rows(Patient)}
    assert found == {"1": "Yamada Tarou 山田 太郎 やまだ たろう", "2": "Wang XiaoDong 王 小东", "3": "", "4": "王 小东"}
    photographs = ward.rows(ExamPhotograph)
    assert [row.sop_instance for row in photographs] == ["2.25.71", "2.25.72", "2.25.73", "2.25.74"]
    assert [bool("not whole" in row.remark) for row in photographs] == [False, False, True, False]
    assert [row.eye for row in photographs] == ["right"] * 3 + ["left"] and len(ward.rows(Job)) == 4


def test_we_send_to_the_pacs_and_it_answers_for_what_it_took(ward, tmp_path):
    ward.start()
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.dcm")
        paths[-1].write_bytes(photograph(number))
    assert "Orthanc" in send_echo(ward.there) or send_echo(ward.there)
    asking = ward.there.model_copy(update={"commitment": True})
    done = send_by_dimse(asking, paths, ward.reports)
    assert [(one.result, one.commitment) for one in done] == [("stored", "committed")] * 3
    assert len(ward.pacs.ask("/instances")) == 3
    assert [one.result for one in send_by_dimse(ward.there, paths)] == ["stored"] * 3 and len(
        ward.pacs.ask("/instances")
    ) == 3
    with associate(ward.there, [build_context(PUSH_MODEL)]) as association:
        missing = {"2.25.70": dicom_files.CLASSES["op8"], "2.25.7999": dicom_files.CLASSES["op8"]}
        ward.reports.expect("2.25.123", missing, str(ward.there))
        status, _ = association.send_n_action(ask_for("2.25.123", missing), 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
        assert status.Status == 0
    report = ward.reports.wait("2.25.123", 30)
    assert report.committed == {"2.25.70"} and report.failed == {"2.25.7999": 0x0112}
    stranger = ward.there.model_copy(update={"calling": "NOBODY"})
    assert [one.result for one in send_by_dimse(stranger, paths[:1])] == ["not sent"]


def test_a_worklist_file_becomes_an_exam_to_which_its_photographs_go(ward):
    for number, (charset, name) in enumerate(
        [("ISO_IR 192", "王^小东".encode()), ("GB18030", "李^明".encode("gb18030"))]
    ):
        found = Dataset()
        found.file_meta = FileMetaDataset()
        found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        found.file_meta.MediaStorageSOPClassUID, found.file_meta.MediaStorageSOPInstanceUID = (
            "1.2.276.0.7230010.3.1.0.1",
            f"2.25.9{number}",
        )
        step = Dataset()
        step.Modality, step.ScheduledStationAETitle, step.ScheduledProcedureStepID = "OP", "FUNDOSCOPE", "S1"
        step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime = f"{TODAY:%Y%m%d}", "0900"
        values = {"SpecificCharacterSet": charset, "AccessionNumber": f"W-{number}", "PatientID": f"W{number}", "PatientName": name.decode(charset.replace("ISO_IR 192", "utf-8")),
                  "PatientBirthDate": "20260105", "PatientSex": "F", "StudyInstanceUID": f"2.25.55{number}", "RequestedProcedureDescription": "ROP"}  # fmt: skip
        for keyword, value in values.items():
            setattr(found, keyword, value)
        found.ScheduledProcedureStepSequence = [step]
        found.save_as(ward.pacs.worklists / f"{number}.wl", enforce_file_format=True)
    ward.start()
    ward.wait_for(lambda: len(ward.rows(Exam)) == 2)
    assert {(patient.code, patient.name) for patient in ward.rows(Patient)} == {("W0", "王 小东"), ("W1", "李 明")}
    assert {(exam.accession, exam.scheduled_step, exam.day) for exam in ward.rows(Exam)} == {
        ("W-0", "S1", TODAY),
        ("W-1", "S1", TODAY),
    }
    number = ward.pacs.put(
        photograph(
            1,
            PatientID="W1",
            PatientName="李^明",
            StudyInstanceUID="2.25.551",
            AccessionNumber="W-1",
            PatientBirthDate="20260105",
        )
    )["ID"]
    assert ward.send([number])
    (row,) = ward.rows(ExamPhotograph)
    assert next(exam.accession for exam in ward.rows(Exam) if exam.id == row.exam_id) == "W-1" and row.remark == ""
    time.sleep(1.5)  # it is asked again and again
    assert len(ward.rows(Exam)) == len(ward.rows(Patient)) == 2


def test_killed_again_and_again_every_photograph_is_there_once(ward):
    with ThreadPoolExecutor(2) as pool:
        numbers = [
            each["ID"] for each in pool.map(ward.pacs.put, [photograph(n, InstanceNumber=n + 1) for n in range(120)])
        ]
        for after in (10, 40, 70):
            ward.start()
            sending = pool.submit(ward.send, numbers)
            ward.wait_for(lambda: len(ward.rows(ExamPhotograph)) >= after)  # noqa: B023 - done before the next round
            ward.kill()
            assert not sending.result(120)
        assert 70 <= len(ward.rows(ExamPhotograph)) < 120
        ward.start()
        assert ward.send(numbers)
    photographs = ward.rows(ExamPhotograph)
    assert sorted(row.sop_instance for row in photographs) == sorted(f"2.25.7{n}" for n in range(120))
    assert len(ward.rows(Job)) == 120 and len(ward.rows(Exam)) == 1
    files = [judging.photograph_file(ward.settings, row.digest) for row in photographs]
    assert all(
        file.read_bytes()[:132] == b"\0" * 128 + b"DICM" and file.stat().st_size == row.file_bytes
        for file, row in zip(files, photographs, strict=True)
    )
    assert len({os.fspath(file) for file in files}) == 120
