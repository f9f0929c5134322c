"""A masked reading tells nobody whose eyes it shows: a second reading by another reader, and a hidden repeat by the same one."""

import json
from datetime import date, timedelta

import pytest
from sqlalchemy import select
from test_readings import add_grading

from fundoscope.server.models import Exam, Reading, ReadingTask, Site
from fundoscope.server.services import readings
from fundoscope.server.services.eye_findings import ReadingContent
from fundoscope.server.services.worklist import WorklistQuery, list_work

BORN, DAY, BEFORE = date(2026, 1, 7), date(2026, 2, 19), date(2026, 2, 11)
FOUND = {
    "left.there": "1", "left.quality": "none", "left.reason": "media", "right.there": "1", "right.zone": "II", "right.stage": "1",
    "right.plus": "no",
}  # fmt: skip
#: What must stand nowhere: the infant's number, name and twin, its days in every spelling, files, cameras, orders, notes, the tool.
TELLING = (
    "Q-8841", "Wren", "twins-5", "/patients/1", '"patient_id"', "IMG_0077", "RetCam-9", "ORD-31", "came late", "repeat", "1234",
    *(day.strftime(form) for day in (BORN, DAY, BEFORE) for form in ("%Y-%m-%d", "%d %b", "%d %B", "%Y%m%d", "%d.%m.%Y")),
    "7 Jan", "19 Feb", "11 Feb", "0.83", "The tool suspects",
)  # fmt: skip


@pytest.fixture
def masked(room, site, sign_in, make_patient, make_exam, make_photograph):
    """masked(kind) -> the person who is to read an exam again, masked, and the exam: signed by Rita, with one before it."""
    rita, rolf = sign_in("reader", "rita"), sign_in("reader", "rolf")

    def masked(kind):
        infant = make_patient(code="Q-8841", name="Wren", birth_date=BORN, birth_weight=1234, birth_group="twins-5")
        for day in (BEFORE, DAY):
            exam = make_exam(infant, day=day, camera="RetCam-9", accession="ORD-31", note="came late", weight=1234)
            photograph = make_photograph(
                exam, state="graded", file_name="IMG_0077.jpg", camera="RetCam-9", taken_at=f"{day}T10:00:00"
            )
            add_grading(
                room, photograph, [{}], grader="rop screen", probability=0.83, suspected=True, pictures={"activation_place": [0, 0, 1, 1]}
            )  # fmt: skip
        sign(room, rita, exam)
        with room.database.transaction() as session:
            who = rita.id if kind == "repeat" else None
            session.add(ReadingTask(site_id=site.id, exam_id=exam.id, kind=kind, reader_id=who, created_via="pages"))
        return (rita if kind == "repeat" else rolf), exam, photograph

    return masked


def sign(room, person, exam, kind="first", stage="2"):
    right = {"eye": "right", "zone": "II", "stage": stage, "plus": "no"}
    content = ReadingContent(eyes=[right, {"eye": "left", "gradable": False, "reason": "blurred"}])
    with room.database.transaction() as session:
        reading = readings.save_reading(session, person.caller, exam.id, content, kind=kind)
    return readings.sign_reading(room.database, person.caller, reading.id, person.password)


@pytest.mark.parametrize("kind", ["second", "repeat"])
def test_nothing_tells_whose_exam_is_read_until_it_is_signed(room, masked, kind):
    reader, exam, photograph = masked(kind)
    read = f"/exams/{exam.id}/read"
    answers = [reader.get(read), reader.get("/second-readings"), reader.get("/v1/worklist?lane=again")]
    answers += [reader.post(read, data=FOUND | {"kind": "second"}), reader.get(f"{read}?sign=1")]
    answers += [reader.post(f"{read}/preview", data=FOUND), reader.post(f"/v1/exams/{exam.id}/readings/preview", json={"eyes": [{"eye": "right", "zone": "I", "stage": "3"}]})]  # fmt: skip
    answers += [reader.get(f"/v1/{path}") for path in (f"exams/{exam.id}/photographs", f"photographs/{photograph.id}", f"exams/{exam.id}/readings", "readings", "reports", "agreement")]  # fmt: skip
    answers += [reader.get(f"/exams/{exam.id}", follow_redirects=True)]
    for answer in answers:
        assert answer.status_code == 200, answer.url
        assert [word for word in TELLING if word in answer.text] == [], answer.url
    assert "Masked reading 1" in answers[0].text and "weeks postmenstrual" in answers[0].text
    for path in (f"exams/{exam.id}/edit", f"exams/{exam.id}/photographs", f"photographs/{photograph.id}/correct", f"v1/exams/{exam.id}"):  # fmt: skip
        answer = reader.get(f"/{path}")
        assert answer.status_code == 409 and "without knowing whose it is" in answer.text, path
        assert "Q-8841" not in answer.text
    assert reader.post(f"/v1/exams/{exam.id}/move", json={"patient_id": 1, "why": "x"}).status_code == 409
    assert exam.id not in [row["id"] for row in reader.get("/v1/exams").json()["items"]]
    (draft,) = reader.get(f"/v1/exams/{exam.id}/readings").json()["items"]
    assert (draft["kind"], draft["masked"], draft["due"]) == ("second", True, None)
    assert reader.post(f"/exams/{exam.id}/sign", data={"reading": draft["id"], "password": reader.password}).status_code == 200  # fmt: skip
    with room.database.reading() as session:
        assert session.get(Reading, draft["id"]).kind == kind  # it was what its task asked for
    assert "Q-8841" in reader.get(read).text and reader.get(f"/v1/exams/{exam.id}").json()["patient_id"]


def test_others_see_whose_exam_it_is_meanwhile(masked, sign_in):
    _, exam, photograph = masked("repeat")
    for person in (sign_in("technician"), sign_in("reader", "ruth")):
        assert "Q-8841" in person.get(f"/exams/{exam.id}").text
        assert person.get(f"/v1/photographs/{photograph.id}").json()["file_name"] == "IMG_0077.jpg"


def test_beside_a_later_exam_the_one_to_be_read_again_shows_no_findings(room, masked, make_exam):
    reader, exam, _ = masked("second")
    with room.database.reading() as session:
        infant = session.get(Exam, exam.id).patient
    later = make_exam(infant, day=DAY + timedelta(days=7))
    page = reader.get(f"/exams/{later.id}/read").text
    assert "hidden: you are to read this exam again" in page and "stage 2" not in page
    assert "The tool suspects ROP (probability 0.83)." in page  # of the first exam, which nobody reads again
    assert page.count("The tool&#39;s answer is hidden.") == 1
    sign(room, reader, exam, "second")
    assert "stage 2" in reader.get(f"/exams/{later.id}/read").text


def test_the_worklist_keeps_back_what_was_said_of_an_exam_to_be_read_again(room, masked):
    reader, exam, _ = masked("second")
    with room.database.transaction() as session:
        row = session.get(Exam, exam.id)
        row.urgency, row.urgency_reason, row.highest_p = 0, "type-1", 0.83

    def look(lane):
        with room.database.reading() as session:
            found = list_work(session, reader.caller, WorklistQuery(lane=lane)).items
        return [(item.reason, item.highest_p) for item in found if item.exam == exam.id]

    assert look("urgent") == [("hidden", None)]
    sign(room, reader, exam, "second")
    with room.database.reading() as session:
        assert session.scalar(select(ReadingTask.done_at)) is not None
    assert look("urgent") != [("hidden", None)]


def test_figures_leave_out_what_the_reader_is_to_read_again(room, masked, sign_in):
    reader, exam, _ = masked("second")
    mine = reader.get("/v1/agreement").json()
    assert (mine["exams_read"], mine["kept_back"], mine["accuracy"], mine["kappas"]) == (0, 1, [], [])
    page = reader.get("/second-readings").text
    assert (
        "1 exam that you are to read again is in none of these figures" in page and "<svg" not in page.split("<main")[1]
    )
    for table in ("kappas", "accuracy"):
        assert len(reader.get(f"/second-readings/{table}.csv").text.splitlines()) == 1
    whole = sign_in("administrator").get("/v1/agreement").json()
    assert (whole["exams_read"], whole["kept_back"]) == (1, 0) and any(
        row["who"] == "tool" for row in whole["accuracy"]
    )
    sign(room, reader, exam, "second")
    mine = reader.get("/v1/agreement").json()
    assert (mine["exams_read"], mine["kept_back"]) == (1, 0) and any(row["who"] == "tool" for row in mine["accuracy"])


def test_a_site_that_hides_the_answer_hides_it_of_every_exam_not_read_yet(room, site, masked, sign_in):
    _, exam, _ = masked("repeat")
    with room.database.transaction() as session:
        session.get(Site, site.id).hide_answer = True
        before = session.scalar(select(Exam.id).where(Exam.day == BEFORE))
    ruth = sign_in("reader", "ruth")
    with room.database.reading() as session:
        assert readings.find_hidden(session, ruth.caller, [before, exam.id]) == {before}  # the other one is signed
        assert readings.find_hidden(session, sign_in("technician").caller, [before, exam.id]) == set()
    page = ruth.get(f"/exams/{exam.id}/read").text
    assert page.count("The tool&#39;s answer is hidden.") == 1
    assert json.loads(ruth.get(f"/v1/exams/{before}/photographs").text)["items"][0]["grading"] is None


def test_the_page_says_why_there_is_no_figure_and_no_interval(room, masked, sign_in):
    reader, exam, _ = masked("second")
    sign(room, reader, exam, "second", stage="1")
    page = " ".join(sign_in("administrator").get("/second-readings?months=60").text.split())
    assert "no kappa: every answer was the same, so chance alone would agree as often" in page
    assert "(no interval: 1 of the 10 patients that it needs)" in page
    assert "no such eye without ROP" in page and "1 exam of these months was read twice" not in page
    for word in ("too few for an interval", "fewer than ten"):
        assert word not in page
