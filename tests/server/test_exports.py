"""What leaves the room for studies: labels, coded names, nothing else; and that the studies' commands take it."""

import csv
import hashlib
import io
import re
import subprocess
import sys
import zipfile
from datetime import date

import numpy as np
import pytest
from PIL import Image

from fundoscope.server.errors import NotAllowedError, NotFoundError
from fundoscope.server.models import AuditEntry, CrossingReading, Exam, ExamPhotograph, EyeReading, Reading, now
from fundoscope.server.services.exports import COHORT_COLUMNS, ExportQuery, plan_cohort, plan_patches
from fundoscope.server.services.judging import photograph_file

NAME, DAY = "Li Ming", date(2026, 5, 17)


@pytest.fixture
def add_file(room, make_photograph):
    """add_file(exam, content, ...) -> a graded photograph whose file lies in the room."""

    def add_file(exam, content, **values):
        digest = hashlib.sha256(content).hexdigest()
        file = photograph_file(room.settings, digest)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return make_photograph(exam, **{"digest": digest, "state": "graded", "file_name": f"{NAME} OD.jpg"} | values)

    return add_file


@pytest.fixture
def sign(room):
    """sign(exam, reader, kind, right={...}, left={...}, grades={...}) -> a signed reading."""

    def sign(exam, reader, kind="first", grades=None, **eyes):
        with room.database.transaction() as session:
            found = [EyeReading(**{"eye": eye, "gradable": True} | values) for eye, values in eyes.items()]
            crossings = [
                CrossingReading(photograph_id=photograph, crossing=number, row=row, col=col, grade=grade)
                for (photograph, number, row, col), grade in (grades or {}).items()
            ]
            reading = Reading(
                site_id=exam.site_id, exam_id=exam.id, reader_id=reader.id, kind=kind, created_via="pages", eyes=found,
                crossings=crossings, note=f"{NAME} looks better",
            )  # fmt: skip
            session.add(reading)
            session.flush()
            reading.signed_at = now()
            session.get(Exam, exam.id).state = "signed"
        return reading

    return sign


def make_jpeg(seed, exif=True):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)
    tags = Image.Exif()
    tags[0x9286] = tags[0x010E] = NAME  # comment and description
    tags[0x0132] = "2026:05:17 10:00:00"
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", exif=tags if exif else None)
    return out.getvalue()


def open_zip(answer):
    assert answer.status_code == 200
    return zipfile.ZipFile(io.BytesIO(answer.content))


def read_table(archive, name):
    return list(csv.DictReader(io.StringIO(archive.read(name).decode())))


def test_a_cohort_holds_what_readers_said_and_nothing_that_tells_who_it_was(
    room, sign_in, make_patient, make_exam, add_file, sign
):
    reader = sign_in("reader")
    patient = make_patient(
        code="HOSP-77", name=NAME, birth_date=date(2026, 3, 1), birth_weight=1063, gestational_age=28 * 7 + 3
    )
    exam = make_exam(patient, day=DAY, camera="=cmd()", accession="ACC-9", note=NAME)
    content = make_jpeg(1)
    add_file(exam, content, eye="right")
    add_file(exam, make_jpeg(2), eye="left", view="macula")
    add_file(exam, make_jpeg(3), eye="left", placed=False)
    add_file(exam, make_jpeg(4), eye="right", state="refused")
    sign(exam, reader, right={"zone": "II", "stage": "3", "plus": "plus"}, left={"stage": "0", "plus": "no"})
    open_exam = make_exam(patient, day=DAY)
    add_file(open_exam, make_jpeg(5))
    archive = open_zip(reader.get("/v1/exports/cohort.zip"))
    rows = read_table(archive, "cohort.csv")
    assert tuple(rows[0]) == COHORT_COLUMNS
    assert [(row["label"], row["treatment_requiring"], row["eye"], row["view"]) for row in rows] == [
        ("rop", "yes", "right", "disc"), ("normal", "no", "left", "macula"),
    ]  # fmt: skip
    assert (rows[0]["gestational_age"], rows[0]["birth_weight"], rows[0]["postmenstrual_weeks"]) == (
        "28+3",
        "1050",
        "39",
    )
    assert rows[0]["camera"] == "'=cmd()" and len({row["infant"] for row in rows}) == 1
    assert [row["reason"] for row in read_table(archive, "left_out.csv")] == [
        "nobody has confirmed which eye it shows", "the tool refused it",
    ]  # fmt: skip
    readme = archive.read("README.md").decode()
    assert "1 labelled rop, 1 normal" in readme and "1 exams are not signed" in readme
    # the pixels are those of the file, and nothing else of it is there
    picture = Image.open(io.BytesIO(archive.read(rows[0]["image"])))
    assert picture.format == "PNG" and not picture.info and not picture.getexif()
    assert np.array_equal(np.asarray(picture), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
    everything = b"".join(archive.read(name) for name in archive.namelist()) + " ".join(archive.namelist()).encode()
    for told in (NAME, "HOSP", "ACC-9", "2026-0", "2026:0", hashlib.sha256(content).hexdigest()[:16]):
        assert told.encode() not in everything
    assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    with room.database.reading() as session:
        (line,) = [line for line in session.query(AuditEntry) if line.action == "export.cohort"]
        assert (line.user_id, line.detail["photographs"], line.detail["left_out"]) == (reader.id, 2, 2)


def test_names_are_coded_alike_in_every_export_and_differ_between_rooms(room, sign_in, make_exam, add_file, sign):
    reader = sign_in("reader")
    exam = make_exam(day=DAY)
    add_file(exam, make_jpeg(1))
    sign(exam, reader, right={"stage": "1"})

    def infant(**query):
        with room.database.transaction() as session:
            return plan_cohort(session, reader.caller, ExportQuery(**query)).photographs[0].row["infant"]

    first = infant()
    assert first == infant(day_from=DAY, day_to=DAY) and re.fullmatch(r"infant-[0-9a-f]{16}", first)
    with room.database.transaction() as session:
        from fundoscope.server.models import RoomSecret

        secret = session.get(RoomSecret, "export")
        kept, secret.value = secret.value, "0" * 64
    assert infant() != first
    with room.database.transaction() as session:
        session.get(RoomSecret, "export").value = kept
        assert plan_cohort(session, reader.caller, ExportQuery(day_to=date(2026, 5, 16))).photographs == []


def test_the_adjudication_labels_and_a_file_that_is_gone_is_told(room, sign_in, make_exam, add_file, sign):
    rita, rolf, ruth = (sign_in("reader", name) for name in ("rita", "rolf", "ruth"))
    exam = make_exam(day=DAY)
    photograph = add_file(exam, make_jpeg(1))
    gone = add_file(exam, make_jpeg(2))
    photograph_file(room.settings, gone.digest).unlink()
    sign(exam, rita, right={"stage": "0"})
    sign(exam, rolf, "second", right={"zone": "II", "stage": "3"})
    sign(exam, ruth, "adjudication", right={"zone": "II", "stage": "3"})
    archive = open_zip(rita.get("/exports/cohort.zip?site=&day_from="))
    (row,) = read_table(archive, "cohort.csv")
    assert (row["label"], row["treatment_requiring"], row["readers"]) == ("rop", "", "3")  # plus was not said
    assert [row["reason"] for row in read_table(archive, "left_out.csv")] == ["its file could not be read"]
    assert photograph.id


def test_only_readers_and_administrators_take_data_away_and_only_of_their_sites(
    room, sign_in, make_exam, add_file, sign, other_site, site
):
    exam = make_exam(day=DAY)
    add_file(exam, make_jpeg(1))
    sign(exam, sign_in("reader"), right={"stage": "1"})
    nurse, stranger = sign_in("technician"), sign_in("administrator", sites=[other_site])
    assert nurse.get("/exports/cohort.zip").status_code == 403
    with room.database.transaction() as session:
        assert plan_cohort(session, stranger.caller, ExportQuery()).photographs == []
        for plan in (plan_cohort, plan_patches):
            with pytest.raises(NotAllowedError):
                plan(session, nurse.caller, ExportQuery())
            with pytest.raises(NotFoundError):
                plan(session, stranger.caller, ExportQuery(site=site.id))


def test_grades_of_readers_go_into_their_columns_and_a_lone_reader_settles(
    room, sign_in, make_patient, make_exam, add_file, sign
):
    rita, rolf, ruth = (sign_in("reader", name) for name in ("rita", "rolf", "ruth"))

    def planned(*readings):
        exam = make_exam(make_patient(kind="adult"), day=DAY)
        photograph = add_file(exam, make_jpeg(exam.id))
        for reader, kind, grades in readings:
            places = {(photograph.id, n, 10.0 * n, 5.0): grade for n, grade in grades.items()}
            sign(exam, reader, kind, places)
        with room.database.transaction() as session:
            plan = plan_patches(session, rita.caller, ExportQuery())
        found = list(plan.crossings.values())[-1]
        return [(one.crossing, one.reader_1, one.reader_2, one.settled) for one in found], plan

    alone, _ = planned((rita, "first", {1: 2, 2: None}))
    assert alone == [(1, 2, None, 2)]
    both, _ = planned((rita, "first", {1: 2, 3: 1}), (rolf, "second", {1: 2, 3: 0}))
    assert both == [(1, 2, 2, None), (3, 1, 0, None)]
    third, plan = planned((rita, "first", {1: 0}), (rolf, "second", {1: 3}), (ruth, "adjudication", {1: 2}))
    assert third == [(1, 0, 3, 2)]
    assert len({photograph.row["photograph"] for photograph in plan.photographs}) == 3


def test_what_two_readers_added_at_one_place_is_one_crossing(room, sign_in, make_patient, make_exam, add_file, sign):
    rita, rolf = sign_in("reader", "rita"), sign_in("reader", "rolf")
    exam = make_exam(make_patient(kind="adult"), day=DAY)
    photograph = add_file(exam, make_jpeg(1))  # 640 pixels wide: 6 are the same place
    sign(
        exam,
        rita,
        "first",
        {(photograph.id, 1, 10.0, 5.0): 1, (photograph.id, -1, 90.0, 90.0): None, (photograph.id, -2, 50.0, 60.0): 3},
    )
    sign(
        exam,
        rolf,
        "second",
        {(photograph.id, 1, 10.0, 5.0): 1, (photograph.id, -1, 53.0, 64.0): 2, (photograph.id, -2, 200.0, 60.0): 0},
    )
    with room.database.transaction() as session:
        (found,) = plan_patches(session, rita.caller, ExportQuery()).crossings.values()
    assert [(one.crossing, one.row, one.reader_1, one.reader_2, one.settled) for one in found] == [
        (1, 10.0, 1, 1, None), (-1, 50.0, 3, 2, None), (-2, 200.0, None, 0, None),
    ]  # fmt: skip


@pytest.mark.services
def test_the_commands_of_studies_take_the_cohort(room, sign_in, make_patient, make_exam, add_file, sign, tmp_path):
    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "fundoscope", *map(str, arguments)], capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr

    assert run("simulate", "infants", 24, "--out", tmp_path / "eyes")[0] == 0
    reader, exams, said = sign_in("reader"), {}, {}
    with (tmp_path / "eyes" / "cohort.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            infant = row["infant"]
            exams.setdefault(infant, None)
            exams[infant] = exams[infant] or make_exam(make_patient(code=infant), day=DAY)
            add_file(exams[infant], (tmp_path / "eyes" / row["image"]).read_bytes(), eye=row["eye"], view="other")
            said.setdefault(infant, {})[row["eye"]] = {"stage": row["eye_stage"], "zone": row["eye_zone"] or None}
    for infant, eyes in said.items():
        sign(exams[infant], reader, **eyes)
    open_zip(reader.get("/v1/exports/cohort.zip")).extractall(tmp_path / "cohort")
    code, told = run("cohort", "audit", tmp_path / "cohort" / "cohort.csv")
    assert code == 0, told
    code, told = run("rop", "evaluate", tmp_path / "cohort" / "cohort.csv", "--out", tmp_path / "evaluation")
    assert code == 0, told
    assert (tmp_path / "evaluation" / "results.json").is_file()
    with room.database.reading() as session:
        assert session.query(ExamPhotograph).count() > 12


@pytest.mark.services
def test_the_patches_of_adults_are_those_that_readers_graded(
    room, sign_in, make_patient, make_exam, add_file, sign, tmp_path
):
    from fundoscope.nicking.grade_study.patch_table import read_patch_table
    from fundoscope.nicking.grading.grader import NickingGrader
    from fundoscope.nicking.reading.cut import WIDE_SIDE

    done = subprocess.run(
        [sys.executable, "-m", "fundoscope", "simulate", "adults", "1", "--out", str(tmp_path / "eyes")]
    )
    assert done.returncode == 0
    (file, *_) = sorted((tmp_path / "eyes" / "images").iterdir())
    crossings = [row for row in NickingGrader.open(measures=False).grade([file]) if row.crossing is not None][:3]
    assert crossings
    rita, rolf = sign_in("reader"), sign_in("reader")
    exam = make_exam(make_patient(kind="adult", code="HOSP-9"), day=DAY)
    photograph = add_file(exam, file.read_bytes())
    places = [(photograph.id, each.crossing, each.row, each.col) for each in crossings]
    places[0] = (*places[0][:2], 1.0, 1.0)  # graded where the tool now finds nothing
    for reader, kind in ((rita, "first"), (rolf, "second")):
        added = {(photograph.id, -1, crossings[-1].row + 9, crossings[-1].col): 2}
        sign(exam, reader, kind, grades={place: number % 4 for number, place in enumerate(places)} | added)
    archive = open_zip(rita.get("/v1/exports/patches.zip"))
    archive.extractall(tmp_path / "patches")
    rows = read_patch_table(tmp_path / "patches" / "patches.csv")
    told = [row["reason"] for row in read_table(archive, "left_out.csv")]
    assert [row.readers for row in rows] == [*((number % 4, number % 4) for number in range(1, len(places))), (2, 2)]
    by = [row["found_by"] for row in read_table(archive, "patches.csv")]
    assert by == ["tool"] * (len(places) - 1) + ["reader"] and rows[-1].vein_px > 0
    assert told == [f"crossing {places[0][1]} is not found again where it was graded"]
    assert {Image.open(row.path).size for row in rows} == {(WIDE_SIDE, WIDE_SIDE)}
    assert b"HOSP" not in b"".join(archive.read(name) for name in archive.namelist())
