"""Second readings: who is drawn, what differs, who adjudicates."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from fundoscope.server.errors import ConflictError
from fundoscope.server.models import (
    AuditEntry,
    CrossingReading,
    Exam,
    EyeReading,
    Reading,
    ReadingTask,
    RoomSecret,
    Site,
)
from fundoscope.server.services import readings
from fundoscope.server.services.eye_findings import ReadingContent
from fundoscope.server.services.second_readings import REPEAT_AFTER_DAYS, draw, find_differences
from fundoscope.server.services.worklist import WorklistQuery, list_work

QUIET = {"zone": "II", "stage": "1", "plus": "no"}
TYPE_1 = {"zone": "II", "stage": "3", "plus": "plus"}


@pytest.fixture
def double(room, site):
    """Every signed exam of the site is read again by another reader, and by the same one."""
    with room.database.transaction() as session:
        session.get(Site, site.id).second_reading_share = 1.0
        session.get(Site, site.id).repeat_share = 1.0


@pytest.fixture
def read(room):
    """read(person, exam, findings, kind) -> the signed reading: the right eye with the findings, the left one cannot be graded."""

    def read(person, exam, findings, kind="first", **options):
        content = ReadingContent(
            eyes=[{"eye": "right", **findings}, {"eye": "left", "gradable": False, "reason": "blurred"}]
        )
        with room.database.transaction() as session:
            reading = readings.save_reading(session, person.caller, exam.id, content, kind=kind, **options)
        return readings.sign_reading(room.database, person.caller, reading.id, person.password)

    return read


def find_tasks(room):
    with room.database.reading() as session:
        return {task.kind: task for task in session.scalars(select(ReadingTask))}


def list_again(room, person):
    with room.database.reading() as session:
        return [item for item in list_work(session, person.caller, WorklistQuery()).items if item.lane == "again"]


def test_the_draw_takes_its_share_and_stays_whoever_asks_again(room):
    with room.database.transaction() as session:
        drawn = [draw(session, "second", number) for number in range(2000)]
        assert drawn == [draw(session, "second", number) for number in range(2000)]
        assert abs(sum(x < 0.1 for x in drawn) / 2000 - 0.1) < 5 * (0.09 / 2000) ** 0.5
        assert min(drawn) >= 0 and max(drawn) < 1
        other = [draw(session, "repeat", number) for number in range(2000)]
        both = sum(x < 0.3 and y < 0.3 for x, y in zip(drawn, other, strict=True))
        assert abs(both / 2000 - 0.09) < 5 * (0.09 * 0.91 / 2000) ** 0.5  # one draw tells nothing of the other
        secret, kept = session.get(RoomSecret, "draw"), session.get(RoomSecret, "draw").value
        secret.value = "0" * 64
        assert [draw(session, "second", number) for number in range(100)] != drawn[:100]
        secret.value = kept


def test_a_signed_exam_goes_to_another_reader_and_a_difference_to_a_third_whose_reading_counts(
    room, double, read, sign_in, make_exam
):
    rita, rolf, ruth = (sign_in("reader", name) for name in ("rita", "rolf", "ruth"))
    exam = make_exam()
    read(rita, exam, QUIET)
    assert [list_again(room, who) == [] for who in (rita, rolf, ruth)] == [True, False, False]
    (item,) = list_again(room, rolf)
    assert (item.code, item.reason, item.adjudication, item.exam) == ("", "", False, exam.id)
    second = read(rolf, exam, TYPE_1, "second")
    tasks = find_tasks(room)
    assert (tasks["second"].reading_id, tasks["second"].reader_id) == (second.id, rolf.id)
    assert [[each.adjudication for each in list_again(room, who)] for who in (rita, rolf, ruth)] == [[], [], [True]]
    with room.database.reading() as session:
        assert readings.current_reading(session, session.get(Exam, exam.id)).kind == "first"
    third = read(ruth, exam, TYPE_1, "adjudication")
    with room.database.reading() as session:
        fresh = session.get(Exam, exam.id)
        assert readings.current_reading(session, fresh).id == third.id
        assert (fresh.urgency_reason, fresh.state) == ("type-1", "signed")
    assert [list_again(room, who) for who in (rita, rolf, ruth)] == [[], [], []]


def test_two_that_agree_need_no_third(room, double, read, sign_in, make_exam):
    rita, rolf = sign_in("reader", "rita"), sign_in("reader", "rolf")
    exam = make_exam()
    read(rita, exam, QUIET)
    read(rolf, exam, QUIET | {"stage": "2"}, "second")
    assert set(find_tasks(room)) == {"second", "repeat"}


def test_a_hidden_repeat_comes_weeks_later_to_the_same_reader_and_looks_like_a_second_reading(
    room, double, read, sign_in, make_exam
):
    rita, rolf = sign_in("reader", "rita"), sign_in("reader", "rolf")
    first, other = make_exam(), make_exam()
    signed = read(rita, first, QUIET)
    read(rolf, other, QUIET)  # which rita is to read a second time
    task = find_tasks(room)["repeat"]
    with room.database.transaction() as session:
        task = session.scalar(select(ReadingTask).where(ReadingTask.exam_id == first.id, ReadingTask.kind == "repeat"))
        days = (task.open_from - signed.signed_at.date()).days
        assert REPEAT_AFTER_DAYS[0] <= days <= REPEAT_AFTER_DAYS[1] and task.reader_id == rita.id
        task.open_from -= timedelta(days=days)
    shown = list_again(room, rita)
    assert {item.exam for item in shown} == {first.id, other.id}
    repeat, second = (
        next(i.model_dump(exclude={"exam", "task"}) for i in shown if i.exam == e.id) for e in (first, other)
    )
    assert repeat == second
    read(rita, first, TYPE_1, "repeat")
    with room.database.reading() as session:
        assert (
            readings.current_reading(session, session.get(Exam, first.id)).id == signed.id
        )  # it does not speak for the exam
    assert "adjudication" not in find_tasks(room)


def test_a_correction_draws_nothing_again_and_the_log_does_not_tell_the_kind(room, double, read, sign_in, make_exam):
    rita = sign_in("reader", "rita")
    exam = make_exam()
    read(rita, exam, QUIET)
    read(rita, exam, QUIET | {"stage": "2"}, "correction", why="a ridge was missed")
    with room.database.reading() as session:
        assert len(session.scalars(select(ReadingTask)).all()) == 2
        lines = [line for line in session.scalars(select(AuditEntry)) if line.action == "reading_task.add"]
        assert [line.detail for line in lines] == [{}, {}]
    with pytest.raises(ConflictError):
        read(rita, exam, QUIET, "second")  # not by whom it was read first


def test_nobody_is_asked_where_the_site_draws_none(room, read, sign_in, make_exam):
    read(sign_in("reader"), make_exam(), TYPE_1)
    assert find_tasks(room) == {}


def eye(**findings):
    return Reading(eyes=[EyeReading(**{"eye": "right", "gradable": True} | findings)])


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        (eye(**QUIET), eye(**TYPE_1), {"treatment", "referral"}),
        (eye(**QUIET), eye(zone="II", stage="3", plus="no"), {"referral"}),
        (eye(**TYPE_1), eye(zone="II", stage="3", plus="no"), {"treatment"}),
        (eye(**QUIET), eye(zone="II", stage="2", plus="pre-plus"), set()),
        (eye(**TYPE_1), eye(gradable=False), set()),
        (eye(**QUIET), eye(aggressive=True), {"treatment", "referral"}),
        (eye(zone="II", stage="3"), eye(**TYPE_1), {"treatment"}),  # plus was not said: it does not say "treat"
    ],
)
def test_readings_differ_by_treatment_and_referral_and_by_nothing_else(first, second, what):
    for one, other in ((first, second), (second, first)):
        assert {difference.what for difference in find_differences(one, other)} == what


def test_grades_of_nicking_differ_when_they_are_two_apart():
    def adult(*grades):
        crossings = [CrossingReading(photograph_id=1, crossing=n, grade=grade) for n, grade in enumerate(grades)]
        return Reading(crossings=crossings)

    assert find_differences(adult(0, 1, None, 3), adult(1, 3, 3, None)) == find_differences(adult(0, 1), adult(1, 3))
    assert [each.where for each in find_differences(adult(0, 1), adult(1, 3))] == ["1:1"]
    one, other = (Reading(crossings=[CrossingReading(photograph_id=1, crossing=-1, row=10, col=col, grade=grade)]) for col, grade in ((10, 0), (400, 3)))  # fmt: skip
    assert find_differences(one, other) == []  # what each has added stands elsewhere
