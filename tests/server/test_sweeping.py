"""What a killed server leaves in the folders is put away when the room opens, and never what a row names."""

import hashlib
import os
import time

import pytest
from test_readings import add_grading

from fundoscope.server.models import ExamPhotograph, Reading, SignedReport
from fundoscope.server.services import uploads
from fundoscope.server.services.judging import photograph_file, picture_place
from fundoscope.server.sweeping import KEPT_SECONDS, SWEPT, YOUNG_SECONDS, SweptFiles, sweep_files

HOURS = 3 * 3600


@pytest.fixture
def write(room):
    """write(path, age) -> a file of the room that is so old."""

    def write(path, age=HOURS):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age,) * 2)
        return path

    return write


def sweep(room):
    return sweep_files(room.settings, room.database)


def test_only_what_no_row_names_and_is_an_hour_old_is_put_away(room, write, make_photograph, sign_in, site):
    shot, settings = make_photograph(state="graded"), room.settings
    other = hashlib.sha256(b"other").hexdigest()
    add_grading(
        room,
        shot,
        [{}],
        pictures={"photograph": "photograph.jpg", "activation_place": [0, 0, 1, 1], "profile_1": {"width": 3}},
    )
    reader = sign_in("reader")
    with room.database.transaction() as session:
        reading = Reading(site_id=site.id, exam_id=shot.exam_id, reader_id=reader.id, created_via="pages")
        session.add(reading)
        session.flush()
        session.add(SignedReport(site_id=site.id, reading_id=reading.id, language="en", html="", file="reports/1_en_ab.pdf", created_via="pages"))  # fmt: skip
    stay = [
        write(photograph_file(settings, shot.digest)), write(picture_place(settings, shot.digest, "b" * 16, "photograph.jpg")),
        write(settings.pictures / "reports" / "1_en_ab.pdf"), write(photograph_file(settings, other[:2] + "1" * 62), YOUNG_SECONDS / 2),
        write(settings.pictures / ".aside" / "1-x" / "half.jpg"), write(settings.photographs / "notes" / "mine.txt"),
        write(settings.data / "settings.toml"),
    ]  # fmt: skip
    go = [
        write(photograph_file(settings, other)), write(picture_place(settings, shot.digest, "c" * 16, "photograph.jpg")),
        write(picture_place(settings, shot.digest, "b" * 16, "thumbnail.jpg")), write(picture_place(settings, other, "b" * 16, "photograph.jpg")),
        write(settings.pictures / "reports" / ".1f2e3d4c"), write(settings.pictures / "reports" / "2_en_cd.pdf"),
    ]  # fmt: skip
    assert sweep(room) == SweptFiles(moved=len(go))
    assert all(file.exists() for file in stay) and not any(file.exists() for file in go)
    aside = [file.parents[1] / SWEPT / file.parent.name / file.name for file in go]
    assert all(file.exists() for file in aside)
    assert sweep(room) == SweptFiles()  # nothing is done twice
    os.utime(aside[0], (time.time() - KEPT_SECONDS - 60,) * 2)
    assert sweep(room) == SweptFiles(removed=1) and not aside[0].exists() and aside[1].exists()


def test_what_was_put_away_by_a_wrong_database_comes_back(room, write, make_photograph):
    shot = make_photograph()
    file = write(photograph_file(room.settings, shot.digest))
    with room.database.transaction() as session:
        session.get(ExamPhotograph, shot.id).digest = "0" * 64
    assert sweep(room).moved == 1 and not file.exists()
    with room.database.transaction() as session:
        session.get(ExamPhotograph, shot.id).digest = shot.digest
    assert sweep(room) == SweptFiles(returned=1) and file.read_bytes() == b"x"
    assert sweep(room) == SweptFiles()


def test_an_upload_that_finds_its_file_there_keeps_it(room, write, tmp_path):
    digest = hashlib.sha256(b"x").hexdigest()
    left = write(photograph_file(room.settings, digest))
    sent = uploads.SentFile("a.png", write(tmp_path / "sent"), 1, digest)
    uploads.keep_files([uploads.SortedFile("a.png", sent)], room.settings)
    assert sweep(room) == SweptFiles() and left.exists()
    left.unlink()
    uploads.keep_files([uploads.SortedFile("a.png", sent)], room.settings)
    assert left.read_bytes() == b"x" and not sent.file.exists()
