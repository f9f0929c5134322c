"""A folder into which a camera writes: only whole files are taken, once, and what is refused says why."""

import os
from datetime import date, datetime
from pathlib import Path, PurePosixPath

import cv2
import dicom_files as made
import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")
pytest.importorskip("pydicom")

from sqlalchemy import select

from fundoscope.server.dicom import decode_child
from fundoscope.server.dicom import folder as watched
from fundoscope.server.dicom.folder import read_path
from fundoscope.server.dicom.sources import WatchMemory, find_turns, look, take_turn
from fundoscope.server.models import DicomSource, Exam, ExamPhotograph, Patient, SourceItem
from fundoscope.server.settings import ServerSettings, TrafficSettings

RGB = made.photograph()


@pytest.fixture
def settings(tmp_path):
    return ServerSettings(data=tmp_path / "room", traffic=TrafficSettings(whole_seconds=0.0), debug=True)


@pytest.fixture(autouse=True)
def decoded_here(request, monkeypatch):
    """Photographs are decoded in this process, but for the test of the child."""
    if "child" not in request.node.name:
        monkeypatch.setattr(
            decode_child,
            "_ask",
            lambda paths, limits: [decode_child.describe_fault(each, limits.pixels) for each in paths],
        )


@pytest.fixture
def camera(room, site, tmp_path):
    """The folder of a source."""
    place = tmp_path / "camera"
    place.mkdir()
    with room.database.transaction() as session:
        session.add(
            DicomSource(
                site_id=site.id, name="camera", kind="folder", folder=str(place), pattern="{patient}/{any}", interval=1, issuer="HOSPITAL", created_via="command",
            )
        )  # fmt: skip
    return place


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (datetime(2026, 2, 9, 12).timestamp(),) * 2)
    return path


def photograph(shade=1):
    return cv2.imencode(".jpg", RGB[..., ::-1] // shade)[1].tobytes()


def rows(room, model):
    with room.database.reading() as session:
        return session.scalars(select(model).order_by(model.id)).all()


def names(place):
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())


def test_whole_files_go_to_their_patients_and_are_moved_away(room, camera):
    put(camera / "N-7" / "OD_disc.jpg", photograph())
    put(camera / "N-7" / "OS_macula.jpg", photograph(2))
    put(camera / "dicom" / "IM1", made.encode(made.dataset(), RGB))
    put(camera / ".hidden.jpg", photograph())
    found = look(room, 1)
    assert (found.taken, found.refused, found.trouble) == (3, 0, "") and len(found.exams) == 2
    assert [patient.code for patient in rows(room, Patient)] == ["N-7", "4711"]
    assert [(row.eye, row.view) for row in rows(room, ExamPhotograph)] == [
        ("right", "disc"),
        ("left", "macula"),
        ("right", ""),
    ]
    assert [exam.day for exam in rows(room, Exam)] == [date(2026, 2, 9), date(2026, 3, 1)]
    assert names(camera) == [".hidden.jpg", "taken/N-7/OD_disc.jpg", "taken/N-7/OS_macula.jpg", "taken/dicom/IM1"]
    put(camera / "N-7" / "OD_disc.jpg", photograph())  # copied once more
    assert (look(room, 1).already, len(rows(room, ExamPhotograph))) == (1, 3)
    assert "taken/N-7/OD_disc-2.jpg" in names(camera) and len(rows(room, SourceItem)) == 3


def test_a_file_that_changes_or_is_cut_short_is_left_until_it_is_whole(room, camera, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(watched.time, "monotonic", lambda: clock[0])
    object.__setattr__(room.settings.traffic, "whole_seconds", 10.0)
    file, whole, memory = camera / "N-7" / "OD.jpg", photograph(), WatchMemory()
    put(file, whole[:900])
    for _ in range(3):
        assert look(room, 1, memory).taken == 0
        clock[0] += 12  # longer than it must not change, and not long enough to be given up
    put(file, whole)
    assert look(room, 1, memory).taken == 0
    clock[0] += 12
    assert look(room, 1, memory).taken == 1 and not file.exists()
    put(camera / "N-7" / "OS.jpg", whole[:900])
    look(room, 1, memory)
    clock[0] += 61
    assert look(room, 1, memory).refused == 1
    assert "cut" in (camera / "refused" / "N-7" / "OS.jpg.txt").read_text()


def test_what_is_refused_says_why_beside_the_file(room, camera):
    put(camera / "loose.jpg", photograph())
    put(camera / "N-8" / "notes.pdf", b"%PDF-1.4 nothing")
    with room.database.transaction() as session:
        session.get(DicomSource, 1).adds_patients = False
    put(camera / "N-9" / "OD.jpg", photograph(3))
    assert look(room, 1).refused == 3
    told = {path.name: path.read_text() for path in (camera / "refused").rglob("*.txt")}
    assert "does not fit the pattern {patient}/{any}" in told["loose.jpg.txt"]
    assert "PDF" in told["notes.pdf.txt"]
    assert "knows no patient N-9" in told["OD.jpg.txt"] and rows(room, Patient) == []


def test_a_stop_between_writing_and_moving_takes_nothing_twice(room, camera, monkeypatch):
    file = put(camera / "N-7" / "OD.jpg", photograph())
    with monkeypatch.context() as patch:
        patch.setattr(watched, "_put_away", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            look(room, 1)
    assert file.exists() and len(rows(room, ExamPhotograph)) == 1
    assert (look(room, 1).already, len(rows(room, ExamPhotograph)), file.exists()) == (1, 1, False)


def test_a_folder_that_is_gone_is_told_and_takes_its_turn_again(room, camera):
    camera.rmdir()
    assert find_turns(room.database) == [1] and take_turn(room.database, 1) and not take_turn(room.database, 1)
    found = look(room, 1)
    assert "cannot be used" in found.trouble and rows(room, DicomSource)[0].trouble == found.trouble
    assert rows(room, DicomSource)[0].looked_at is None


@pytest.mark.parametrize(
    ("pattern", "path", "told"),
    [
        ("{patient}/{any}", "A-7/2026/OD.jpg", ("A-7", "2026/OD.jpg", None, "", "")),
        ("{patient}_{day}_{eye}_{view}", "A-7_2026-02-09_OS_disc.png", ("A-7", "_2026-02-09_OS_disc.png", date(2026, 2, 9), "left", "disc")),
        ("{day}/{patient}-{any}", "20260209/77-R1.jpg", ("77", "20260209/-R1.jpg", date(2026, 2, 9), "", "")),
        ("{day}/{patient}", "20269909/77.jpg", None),
        ("{patient}/{any}", "loose.jpg", None),
        ("{patient}/{any}", "王小东/右眼.jpg", ("王小东", "右眼.jpg", None, "", "")),
    ],
)  # fmt: skip
def test_paths_are_read_by_their_pattern(pattern, path, told):
    found = read_path(PurePosixPath(path), pattern)
    assert (found and (found.patient, found.name, found.day, found.eye, found.view)) == told


def test_the_child_tells_what_does_not_decode(tmp_path):
    whole = photograph()
    good, cut = put(tmp_path / "a.jpg", whole), put(tmp_path / "b.jpg", whole[:2000])
    found = decode_child.find_broken([good, cut, tmp_path / "gone.jpg"], ServerSettings(data=tmp_path).limits)
    assert list(found) == [cut, tmp_path / "gone.jpg"] and "cut" in found[cut]


def test_links_are_passed_over(room, camera, tmp_path):
    secret = put(tmp_path / "elsewhere" / "OD.jpg", photograph())
    (camera / "N-7").mkdir()
    (camera / "N-7" / "OD.jpg").symlink_to(secret)
    assert look(room, 1).taken == 0 and Path(secret).exists()
