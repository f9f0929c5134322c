"""The worklist: who comes first, what is found, page after page."""

import base64
import json
import re
from datetime import date, timedelta

import pytest

from fundoscope.server.errors import ConflictError, InvalidError, NotFoundError
from fundoscope.server.models import AuditEntry, Exam, Grading, ReadingTask, Site, now
from fundoscope.server.services.worklist import (
    WorklistQuery,
    acknowledge_exam,
    describe_clock,
    describe_lane,
    list_work,
)

TODAY = date.today()


def write(cursor):
    return base64.urlsafe_b64encode(json.dumps(cursor).encode()).decode()


@pytest.fixture
def show(room, sign_in):
    """show(reader, search="...") -> the page that this person gets."""

    def show(person, **filters):
        with room.database.reading() as session:
            return list_work(session, person.caller, WorklistQuery(**filters))

    return show


@pytest.fixture
def every_lane(make_patient, make_exam, make_photograph, room):
    """One exam or infant for each lane, made in another order than the list's; by the code of the patient."""

    def exam(code, hours=None, complete=True, kind="infant", **values):
        patient = make_patient(code=code, kind=kind, due={"decision": "stop"})
        made = make_exam(patient, **values)
        if hours is not None:
            for eye in ("right", "left") if complete else ("right",):
                for view in ("disc", "macula", "temporal"):
                    made_at = now() - timedelta(hours=hours)
                    make_photograph(made, eye=eye, view=view, state="graded", created_at=made_at)
        return made.id

    def infant(code, days, **values):
        decision = {"decision": "examine" if days is not None else "cannot say"}
        due = None if days is None else TODAY + timedelta(days=days)
        make_patient(code=code, due_by=due, due=decision, **values)

    infant("due", 3)
    infant("later", 30)
    infant("unclear", None)
    infant("missed", -1, left="lost")
    infant("gone", -1, left="died")
    exam("empty")
    exam("rest", 2)
    exam("incomplete", 2, complete=False)
    exam("overdue", 30)
    exam("signed", 40, state="signed")
    urgent = exam("urgent", 1)
    with room.database.transaction() as session:
        session.get(Exam, urgent).urgency, session.get(Exam, urgent).urgency_reason = 10, "suspected"
    return urgent


def test_the_list_goes_from_the_most_urgent_to_the_rest_and_pages_give_the_same_as_the_whole(show, sign_in, every_lane):
    reader = sign_in("reader")
    page = show(reader)
    assert [(item.lane, item.code) for item in page.items] == [
        ("urgent", "urgent"), ("overdue", "overdue"), ("missed", "missed"), ("incomplete", "incomplete"), ("to_read", "rest"),
        ("empty", "empty"), ("due", "due"), ("unclear", "unclear"),
    ]  # fmt: skip
    assert page.counts == {
        lane: int(lane != "again")
        for lane in ("urgent", "overdue", "missed", "incomplete", "to_read", "again", "empty", "due", "unclear")
    }
    assert page.next is None
    for limit in (1, 2, 3):
        items, cursor = [], ""
        while cursor is not None:
            part = show(reader, limit=limit, cursor=cursor)
            assert len(part.items) <= limit
            items, cursor = items + part.items, part.next
        assert [item.code for item in items] == [item.code for item in page.items]
    assert [item.code for item in show(reader, lane="overdue").items] == ["overdue"]
    clocks = {item.code: item.hours_left for item in page.items}
    assert clocks["overdue"] == pytest.approx(-6, abs=0.1) and clocks["urgent"] == pytest.approx(23, abs=0.1)
    assert all(describe_lane(item.lane) for item in page.items)


def test_many_rows_of_one_lane_come_page_by_page_in_both_directions(show, sign_in, make_exam, make_patient):
    reader = sign_in("reader")
    for number in range(7):
        make_exam(make_patient(code=f"S{number}"), state="signed", day=date(2026, 2, 1 + number // 2), signed_at=now())
        make_exam(make_patient(code=f"E{number}"), day=date(2026, 2, 1 + number // 2))
    for filters, expected in (
        ({"state": "signed"}, [f"S{n}" for n in range(6, -1, -1)]),
        ({"lane": "empty"}, [f"E{n}" for n in range(7)]),
    ):
        codes, cursor = [], ""
        while cursor is not None:
            part = show(reader, limit=2, cursor=cursor, **filters)
            codes, cursor = codes + [item.code for item in part.items], part.next
        assert codes == expected


def test_an_urgent_exam_is_acknowledged_by_name_and_stays_first_until_it_is_signed_too(room, show, sign_in, every_lane):
    reader, nurse = sign_in("reader"), sign_in("technician")
    with room.database.transaction() as session:
        acknowledge_exam(session, nurse.caller, every_lane)
    with room.database.transaction() as session:
        exam = acknowledge_exam(session, reader.caller, every_lane)
        assert exam.acknowledged_by == nurse.id  # the first name stays
        actions = [line.action for line in session.query(AuditEntry)]
        assert actions.count("exam.acknowledge") == 1
    (first, *_) = show(reader).items
    assert (first.lane, first.acknowledged_by) == ("urgent", nurse.user.full_name)
    with room.database.transaction() as session:
        session.get(Exam, every_lane).state = "signed"
    assert "urgent" not in {item.lane for item in show(reader).items}
    with room.database.transaction() as session:
        exam = session.get(Exam, every_lane)
        exam.acknowledged_at = exam.acknowledged_by = None
    assert show(reader).items[0].lane == "urgent"  # signed, and told to nobody
    with room.database.transaction() as session, pytest.raises(ConflictError, match="not urgent"):
        session.get(Exam, every_lane).urgency = 50
        acknowledge_exam(session, reader.caller, every_lane)


def test_filters_and_search_find_what_they_name_and_a_masked_task_is_not_found_by_them(
    room, show, sign_in, make_exam, make_patient, make_photograph
):
    reader = sign_in("reader")
    first = make_exam(make_patient(code="B-1%", name="Anna Müller"), camera="Neo", accession="X7", day=date(2026, 3, 1))
    make_exam(make_patient(code="C-2", name="李明", kind="adult"), camera="RetCam", day=date(2026, 3, 9))
    with room.database.transaction() as session:
        session.add(ReadingTask(site_id=first.site_id, exam_id=first.id, kind="repeat", created_via="command"))

    def codes(**filters):
        return sorted({item.code for item in show(reader, **filters).items})

    assert codes() == ["", "B-1%", "C-2"]  # the masked task has no code
    assert codes(search="b-1%") == codes(search="müller") == codes(search="ANNA") == codes(search="x7") == ["B-1%"]
    assert codes(search="%") == ["B-1%"] and codes(search="_") == [] and codes(search="李") == ["C-2"]
    assert codes(kind="adult") == codes(camera="RetCam") == codes(day_from=date(2026, 3, 2)) == ["C-2"]
    assert codes(day_to=date(2026, 3, 2)) == ["B-1%"] and codes(state="cancelled") == []
    assert {item.lane for item in show(reader, search="anna").items} == {"empty", "people"}
    (task,) = [item for item in show(reader).items if item.lane == "again"]
    assert (task.exam, task.code, task.name, task.day, task.adjudication) == (first.id, "", "", None, False)
    assert not [item for item in show(sign_in("technician")).items if item.lane == "again"]


def test_people_of_other_sites_see_nothing(room, show, sign_in, other_site, every_lane):
    stranger = sign_in("reader", sites=[other_site])
    assert show(stranger).items == [] and show(stranger, search="urgent").items == []
    with pytest.raises(NotFoundError):
        show(stranger, site=1)
    with room.database.transaction() as session, pytest.raises(NotFoundError):
        acknowledge_exam(session, stranger.caller, every_lane)


def test_where_the_site_hides_the_tools_answer_the_reason_is_not_told_to_readers(room, show, sign_in, every_lane, site):
    reader, nurse = sign_in("reader"), sign_in("technician")
    with room.database.transaction() as session:
        session.get(Site, site.id).hide_answer = True
        session.get(Exam, every_lane).highest_p = 0.9
        session.get(Exam, every_lane).state = "to_read"
    assert [(show(who).items[0].reason, show(who).items[0].highest_p) for who in (reader, nurse)] == [
        ("hidden", None),
        ("suspected", 0.9),
    ]


def test_adults_show_their_worst_grade_and_the_vessels_of_their_best_photograph(
    room, show, sign_in, make_patient, make_exam, make_photograph
):
    exam = make_exam(make_patient(kind="adult", code="A1"))
    for grades, vessels in (((0, 3, None), None), ((1,), {"crae": 140.2, "avr": 0.7})):
        photograph = make_photograph(exam, state="graded")
        rows = [{"crossing": n + 1, "grade": grade} for n, grade in enumerate(grades)]
        with room.database.transaction() as session:
            session.add(
                Grading(
                    site_id=exam.site_id, photograph_id=photograph.id, grader="nicking grade", bundle="b", bundle_digest="d",
                    version="1", status="ok", rows={"rows": rows, "photograph": vessels}, created_at=now(),
                )
            )  # fmt: skip
    (item,) = show(sign_in("reader")).items
    assert (item.worst_nicking, item.crossings, item.vessels["avr"]) == (3, 4, 0.7)
    assert item.missing_views == []  # an adult's exam needs no set of views


@pytest.mark.parametrize(
    "cursor",
    [
        "x", "bnVsbA==", write(["due", [[1], 1]]), write(["urgent", [0, 0, "x", 1]]), write(["unclear", [10**30]]),
        write(["overdue", ["2026-01-01T00:00:00", 1]]), write(["overdue", ["0001-01-01T00:00:00+14:00", 1]]), write(["due", [1]]),
        write(["signed", [1]]), write([["urgent"], None]), write({"urgent": 1}),
    ],
)  # fmt: skip
def test_a_cursor_of_something_else_is_refused(show, sign_in, every_lane, cursor):
    with pytest.raises(InvalidError, match="cursor"):
        show(sign_in("reader"), cursor=cursor)


@pytest.mark.parametrize(
    ("hours", "text"),
    [(23.4, "23 hours left"), (0.5, "30 minutes left"), (-0.25, "overdue by 15 minutes"), (-3.5, "overdue by 3 hours"),
     (-49, "overdue by 2 days")],
)  # fmt: skip
def test_the_clock_says_how_long(hours, text):
    assert describe_clock(hours) == text


def test_the_page_shows_all_lanes_and_is_written_into_the_log_unless_it_asks_for_itself(room, sign_in, every_lane):
    reader = sign_in("reader")
    answer = reader.get("/")
    assert answer.status_code == 200
    shown = re.findall(r'class="row-link" href="([^"]+)"[^>]*>([^<]+)<', answer.text)
    assert [code for _, code in shown] == [
        "urgent", "overdue", "missed", "incomplete", "rest", "empty", "due", "unclear",
    ]  # fmt: skip
    assert f"/exams/{every_lane}/acknowledge" in answer.text and "style=" not in answer.text
    reader.get("/", headers={"X-Automatic": "1"})
    with room.database.reading() as session:
        assert len([1 for line in session.query(AuditEntry) if line.action == "worklist.view"]) == 1
    for back, place in (("/?kind=infant", "/?kind=infant"), ("//evil.example", "/"), ("/\\evil.example", "/")):
        answer = reader.post(f"/exams/{every_lane}/acknowledge", data={"back": back}, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, place)
    assert "acknowledged by" in reader.get("/?lane=urgent").text
    assert reader.get("/?site=x").status_code == 422
    assert "Nothing found" in reader.get("/?search=nobody").text


def test_programs_get_the_list_page_by_page(sign_in, client, every_lane):
    reader = sign_in("reader")
    first = reader.get("/v1/worklist", params={"limit": 3}).json()
    rest = reader.get("/v1/worklist", params={"limit": 200, "cursor": first["next"]}).json()
    assert [item["code"] for item in first["items"] + rest["items"]][:4] == [
        "urgent",
        "overdue",
        "missed",
        "incomplete",
    ]
    assert rest["next"] is None and len(rest["items"]) == 5
    assert reader.get("/v1/worklist", params={"limit": 0}).status_code == 422
    assert reader.get("/v1/worklist", params={"colour": "red"}).status_code == 422
    assert reader.post(f"/v1/exams/{every_lane}/acknowledge").json()["acknowledged_by"] == reader.id
    assert sign_in("administrator").post(f"/v1/exams/{every_lane}/acknowledge").status_code == 403
    assert client.get("/v1/worklist").status_code == 401
