"""The reader's page and `/v1/readings`: what is shown, saved, previewed and signed, and for whom."""

import re

import pytest
from test_readings import add_grading

from fundoscope.server.models import Exam, Reading, Site

BOTH = {
    "kind": "first", "right.there": "1", "right.quality": "good", "right.zone": "II", "right.stage": "4A", "right.plus": "plus",
    "right.notch": "1", "left.there": "1", "left.quality": "none", "left.reason": "media", "note": "Seen <b>twice</b>.",
}  # fmt: skip


@pytest.fixture
def exam(room, make_exam, make_photograph):
    """An exam whose photograph the tool suspects."""
    exam = make_exam()
    photograph = make_photograph(exam, state="graded")
    add_grading(
        room, photograph, [{}], grader="rop screen", probability=0.83, suspected=True, pictures={"activation_place": [0, 0, 1, 1]}
    )  # fmt: skip
    return exam


def test_findings_are_saved_by_a_plain_form_and_stand_in_it_again(room, exam, sign_in):
    reader = sign_in("reader")
    page = reader.get(f"/exams/{exam.id}/read")
    assert page.status_code == 200 and "probability 0.83" in page.text and "data-map=" in page.text
    answer = reader.post(f"/exams/{exam.id}/read", data=BOTH, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/exams/{exam.id}/read")
    page = reader.get(f"/exams/{exam.id}/read").text
    assert re.search(r'name="right.stage" value="4A" checked', page)
    assert re.search(r'name="right.notch" value="1" checked', page)
    assert '<option value="media" selected>' in page and "Seen &lt;b&gt;twice&lt;/b&gt;." in page
    with room.database.reading() as session:
        (eye, other) = session.get(Reading, 1).eyes
        assert (eye.eye, eye.stage, eye.treated, other.gradable, other.reason) == ("right", "4A", None, False, "media")


def test_what_cannot_be_saved_is_told_and_stays_in_the_form(exam, sign_in):
    reader = sign_in("reader")
    wrong = BOTH | {"right.posterior": "1", "right.zone": "I"}
    page = reader.post(f"/exams/{exam.id}/read", data=wrong)
    assert page.status_code == 422 and "posterior belongs to zone II" in page.text
    assert re.search(r'name="right.stage" value="4A" checked', page.text)
    told = reader.post(
        f"/exams/{exam.id}/read", data=wrong, headers={"X-Requested-With": "fetch", "Accept": "application/json"}
    )
    assert (told.status_code, told.json()["field"]) == (422, "right.posterior")
    assert reader.post(f"/exams/{exam.id}/read", data=BOTH | {"right.stage": "6"}).status_code == 422
    assert reader.post(f"/exams/{exam.id}/read", data=BOTH | {"kind": "second"}).status_code == 409


def test_signing_asks_for_the_password_and_leads_to_the_report(room, exam, sign_in):
    reader = sign_in("reader")
    address = f"/exams/{exam.id}"
    answer = reader.post(f"{address}/read", data=BOTH | {"do": "sign"}, follow_redirects=False)
    assert answer.headers["location"] == f"{address}/read?sign=1"
    assert 'type="password"' in reader.get(f"{address}/read?sign=1").text
    wrong = reader.post(f"{address}/sign", data={"reading": 1, "password": "no"})
    assert wrong.status_code == 403 and "password is wrong" in wrong.text
    assert reader.post("/exams/99/sign", data={"reading": 1, "password": reader.password}).status_code == 404
    answer = reader.post(f"{address}/sign", data={"reading": 1, "password": reader.password}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{address}/report")
    page = reader.get(f"{address}/read").text
    assert "signed by" in page and 'id="reading"' not in page
    assert 'name="kind" value="correction"' in reader.get(f"{address}/read?kind=correction").text


def test_a_hidden_answer_stands_nowhere_in_the_page(room, exam, site, sign_in):
    reader = sign_in("reader")
    with room.database.transaction() as session:
        session.get(Site, site.id).hide_answer = True
    page = reader.get(f"/exams/{exam.id}/read").text
    for word in ("0.83", "data-map=", "suspects", "Urgent"):
        assert word not in page
    answer = reader.post(f"/exams/{exam.id}/read", data=BOTH, follow_redirects=False)
    assert answer.status_code == 303 and "probability 0.83" in reader.get(f"/exams/{exam.id}/read").text


def test_the_preview_is_a_part_of_the_page_and_keeps_nothing(room, exam, sign_in):
    reader = sign_in("reader")
    answer = reader.post(f"/exams/{exam.id}/read/preview", data=BOTH | {"right.stage": "3"})
    html = answer.json()["html"]
    assert "ETROP type 1" in html and "Treat by 12 Feb 2026" in html and "ophthalmoscopy" in html
    with room.database.reading() as session:
        assert session.get(Reading, 1) is None and session.get(Exam, exam.id).state == "open"


def test_crossings_are_listed_with_their_profile_and_graded_by_number(
    room, make_patient, make_exam, make_photograph, sign_in
):
    exam = make_exam(make_patient(kind="adult"))
    photograph = make_photograph(exam, state="graded")
    row = {"crossing": 1, "row": 20.0, "col": 30.0, "grade": 2, "narrowing_1": 0.4}
    add_grading(room, photograph, [row], pictures={"profile_1": {"width": 400}, "crossing_1": "crossing_1.jpg"})
    reader = sign_in("reader")
    page = reader.get(f"/exams/{exam.id}/read").text
    assert '"profile": {"width": 400}' in page and f"/photographs/{photograph.id}/crossings/1/crossing" in page
    assert 'name="right.zone"' not in page
    given = {"kind": "first", f"crossing.{photograph.id}.1": "3"}
    assert reader.post(f"/exams/{exam.id}/read", data=given, follow_redirects=False).status_code == 303
    page = reader.get(f"/exams/{exam.id}/read").text
    assert re.search(rf'name="crossing.{photograph.id}.1" value="3" checked', page)


@pytest.fixture
def grown(room, make_patient, make_exam, make_photograph):
    """The photograph of an adult, 640 by 480, in which the tool found one crossing."""
    photograph = make_photograph(make_exam(make_patient(kind="adult")), state="graded")
    add_grading(room, photograph, [{"crossing": 1, "row": 20.0, "col": 30.0, "grade": 2}])
    return photograph


def test_a_crossing_that_the_tool_missed_is_added_by_its_place_graded_and_taken_away(room, grown, sign_in):
    reader, read = sign_in("reader"), f"/exams/{grown.exam_id}/read"
    page = reader.get(read).text
    assert f'name="added.{grown.id}.1.row"' in page and "Add a crossing that the tool has missed" in page
    form = {"kind": "first", f"crossing.{grown.id}.1": "1"}
    place = {f"added.{grown.id}.1.row": "200.5", f"added.{grown.id}.1.col": "310", f"added.{grown.id}.1.grade": "3"}
    blank = {f"added.{grown.id}.2.row": "", f"added.{grown.id}.2.col": "", f"added.{grown.id}.2.grade": ""}
    assert reader.post(read, data=form | place | blank, follow_redirects=False).status_code == 303
    page = reader.get(read).text
    assert re.search(rf'name="added.{grown.id}.1.grade" value="3" checked', page) and 'value="200.5"' in page
    assert f'name="added.{grown.id}.2.row"' in page  # for the next one
    (reading,) = reader.get(f"/v1/exams/{grown.exam_id}/readings").json()["items"]
    assert reading["added"] == [{"photograph_id": grown.id, "row": 200.5, "col": 310.0, "grade": 3}]
    assert [one["crossing"] for one in reading["crossings"]] == [1]
    for wrong, told in (
        ({f"added.{grown.id}.1.grade": ""}, "Grade the crossing that you have added"), ({f"added.{grown.id}.1.col": ""}, "both the row and the column"),
        ({f"added.{grown.id}.1.row": "480"}, "beside the photograph, which has 480 rows"), ({f"added.{grown.id}.1.row": "x"}, "number"),
        ({f"added.{grown.id}.1.row": "21", f"added.{grown.id}.1.col": "31"}, "A crossing stands at row 21, column 31 already"),
        ({"added.999.1.row": "1", "added.999.1.col": "1", "added.999.1.grade": "0"}, "no photograph 999"),
    ):  # fmt: skip
        answer = reader.post(read, data=form | place | wrong)
        assert answer.status_code == 422 and told in answer.text, (told, answer.text[:3000])
    assert reader.post(read, data=form | blank, follow_redirects=False).status_code == 303
    assert reader.get(f"/v1/exams/{grown.exam_id}/readings").json()["items"][0]["added"] == []


def test_added_crossings_stay_in_what_is_signed_and_an_addendum_keeps_them(room, grown, make_exam, sign_in):
    reader, exam = sign_in("reader"), grown.exam_id
    added = [
        {"photograph_id": grown.id, "row": 99, "col": 100, "grade": None},
        {"photograph_id": grown.id, "row": 9, "col": 10, "grade": 2},
    ]
    saved = reader.post(f"/v1/exams/{exam}/readings", json={"added": added}).json()
    assert saved["added"] == added
    signed = reader.post(f"/v1/readings/{saved['id']}/sign", json={"password": reader.password}).json()
    assert signed["intact"] and signed["added"] == added
    with room.database.reading() as session:
        reading = session.get(Reading, saved["id"])
        assert [(one.crossing, one.added, one.grade) for one in reading.crossings] == [(-1, True, None), (-2, True, 2)]
    more = {"kind": "addendum", "why": "told", "note": "seen again"}
    for wrong in ({}, {"added": added[:1]}):
        assert reader.post(f"/v1/exams/{exam}/readings", json=more | wrong).status_code == 422
    assert reader.post(f"/v1/exams/{exam}/readings", json=more | {"added": added[::-1]}).status_code == 201
    infant = {"added": [{"photograph_id": grown.id, "row": 9, "col": 10, "grade": 2}]}
    assert "adults only" in reader.post(f"/v1/exams/{make_exam().id}/readings", json=infant).text
    for wrong in ({"row": -1}, {"grade": 4}, {"crossing": 1}):
        assert reader.post(f"/v1/exams/{exam}/readings", json={"added": [added[0] | wrong]}).status_code == 422


def test_others_are_kept_out(exam, other_site, sign_in):
    for path in ("read", "read?sign=1"):
        assert sign_in("technician").get(f"/exams/{exam.id}/{path}").status_code == 403
    stranger = sign_in("reader", "stranger", sites=[other_site])
    assert stranger.get(f"/exams/{exam.id}/read").status_code == 404
    assert stranger.post(f"/exams/{exam.id}/read", data=BOTH).status_code == 404
    assert stranger.post(f"/v1/exams/{exam.id}/readings", json={}).status_code == 404
    assert stranger.get("/v1/readings").json()["items"] == []


def test_a_program_saves_previews_signs_and_reads(room, exam, sign_in):
    reader = sign_in("reader")
    eyes = [
        {"eye": "right", "zone": "II", "stage": "2", "plus": "no"},
        {"eye": "left", "zone": "III", "stage": "0", "plus": "no"},
    ]
    preview = reader.post(f"/v1/exams/{exam.id}/readings/preview", json={"eyes": eyes}).json()
    assert preview["due"]["rule"] == "zone-2-stage-2-3" and preview["gaps"] == []
    saved = reader.post(f"/v1/exams/{exam.id}/readings", json={"eyes": eyes, "note": "By a program."})
    number = saved.json()["id"]
    assert saved.status_code == 201 and saved.json()["intact"] is None
    assert reader.post(f"/v1/readings/{number}/sign", json={"password": "no"}).status_code == 403
    signed = reader.post(f"/v1/readings/{number}/sign", json={"password": reader.password}).json()
    assert signed["intact"] and signed["due_by"] == "2026-02-16" and len(signed["digest"]) == 64
    assert reader.post(f"/v1/readings/{number}/sign", json={"password": reader.password}).status_code == 409
    items = reader.get(f"/v1/exams/{exam.id}/readings").json()["items"]
    assert [one["id"] for one in items] == [number] and items[0]["eyes"][0]["stage"] == "2"
    assert sign_in("technician").get(f"/v1/readings/{number}").json()["note"] == "By a program."
