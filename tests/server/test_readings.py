"""Readings: what may be saved, who sees what, what signing does, and that a signed one never changes."""

from datetime import date

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from fundoscope.server.errors import ConflictError, InvalidError, NotAllowedError, NotFoundError
from fundoscope.server.models import AuditEntry, Exam, Grading, Job, Patient, Reading, ReadingTask, Site, now
from fundoscope.server.services import readings
from fundoscope.server.services.eye_findings import ReadingContent, check_content, find_gaps
from fundoscope.server.services.reader_page import open_reader_page, preview_reading


def content(**right):
    values = {"zone": "II", "stage": "2", "plus": "no"} | right
    return ReadingContent(eyes=[{"eye": "right", **values}, {"eye": "left", "gradable": False, "reason": "blurred"}])


@pytest.fixture
def exam(make_exam):
    return make_exam()


@pytest.fixture(autouse=True)
def no_chance(room, site):
    """Nobody is drawn for a second reading by chance."""
    with room.database.transaction() as session:
        row = session.get(Site, site.id)
        row.second_reading_share = row.repeat_share = 0.0


@pytest.fixture
def rita(sign_in):
    return sign_in("reader", "rita")


@pytest.fixture
def rolf(sign_in):
    return sign_in("reader", "rolf")


@pytest.fixture
def graded(room, make_patient, make_exam, make_photograph):
    """A photograph of an adult with two crossings that the tool has graded."""
    photograph = make_photograph(make_exam(make_patient(kind="adult")), state="graded")
    add_grading(room, photograph, [{"crossing": n, "row": 10.0 * n, "col": 5.0 * n, "grade": n} for n in (1, 2)])
    return photograph


def add_grading(room, photograph, rows, **values):
    with room.database.transaction() as session:
        session.add(
            Grading(
                **{"site_id": photograph.site_id, "photograph_id": photograph.id, "grader": "nicking grade", "bundle": "nicking",
                   "bundle_digest": "b" * 16, "version": "0.1", "status": "ok", "created_at": now(), "rows": {"rows": rows}} | values
            )
        )  # fmt: skip


def save(room, person, exam, said=None, **options):
    with room.database.transaction() as session:
        return readings.save_reading(session, person.caller, exam.id, said or content(), **options)


def save_and_sign(room, person, exam, said=None, **options):
    return readings.sign_reading(
        room.database, person.caller, save(room, person, exam, said, **options).id, person.password
    )


def test_a_draft_is_changed_in_its_place_and_seen_by_its_reader_only(room, exam, rita, rolf):
    for stage in ("2", "4B"):
        reading = save(room, rita, exam, content(stage=stage))
    with room.database.reading() as session:
        exam = session.get(Exam, exam.id)
        (kept,) = readings.list_readings(session, rita.caller, exam)
        found = kept.id, kept.eyes[0].eye, kept.eyes[0].stage, kept.eyes[1].reason
        assert found == (reading.id, "right", "4B", "blurred")
        assert exam.state == "read"
        assert readings.list_readings(session, rolf.caller, exam) == []
        with pytest.raises(NotFoundError):
            readings.get_reading(session, rolf.caller, reading.id)


@pytest.mark.parametrize(
    ("right", "field", "word"),
    [
        ({"gradable": False}, "right.reason", "why"),
        ({"gradable": False, "reason": "blurred"}, "right.zone", "Take one"),
        ({"posterior": True, "zone": "I"}, "right.posterior", "zone II"),
        ({"notch": True, "zone": None}, "right.notch", "zone"),
        ({"aggressive": True, "stage": "0"}, "right.stage", "contradict"),
        ({"reason": "dark"}, "right.reason", "Take one"),
    ],
)
def test_findings_that_contradict_each_other_are_refused_by_their_name(right, field, word):
    with pytest.raises(InvalidError, match=word) as refused:
        check_content(content(**right), "infant")
    assert refused.value.field == field


def test_crossings_are_graded_where_the_tool_found_them(room, graded, rita):
    exam = Exam(id=graded.exam_id)
    both = ReadingContent(
        crossings=[{"photograph_id": graded.id, "crossing": 1, "grade": 3}, {"photograph_id": graded.id, "crossing": 2}]
    )
    reading = save(room, rita, exam, both)
    assert [(one.row, one.col, one.grade) for one in reading.crossings] == [(10.0, 5.0, 3), (20.0, 10.0, None)]
    assert readings.content_of(reading) == both
    with pytest.raises(InvalidError, match="no crossing 3"):
        save(room, rita, exam, ReadingContent(crossings=[{"photograph_id": graded.id, "crossing": 3, "grade": 0}]))
    with pytest.raises(InvalidError, match="one of infants"):
        save(room, rita, exam, ReadingContent(eyes=[{"eye": "left", "plus": "no"}]))


def test_signing_needs_the_password_and_both_eyes(room, exam, rita, rolf):
    reading = save(room, rita, exam, ReadingContent(eyes=[{"eye": "right", "stage": "1"}]))
    with pytest.raises(InvalidError, match="Left eye"):
        readings.sign_reading(room.database, rita.caller, reading.id, rita.password)
    save(room, rita, exam)
    with pytest.raises(NotAllowedError, match="password is wrong"):
        readings.sign_reading(room.database, rita.caller, reading.id, "another password")
    with pytest.raises(NotFoundError):
        readings.sign_reading(room.database, rolf.caller, reading.id, rolf.password)
    with room.database.reading() as session:
        assert session.get(Reading, reading.id).signed_at is None
        assert session.get(Exam, exam.id).state == "read"


def test_a_signed_reading_holds_what_is_due_by_which_rule_and_on_what_it_rests(room, exam, rita, make_photograph):
    photograph = make_photograph(exam)
    add_grading(room, photograph, [{}], grader="rop screen", bundle="rop", probability=0.8, suspected=True)
    both = {"zone": "II", "stage": "2", "plus": "no"}
    said = ReadingContent(eyes=[{"eye": "right", **both}, {"eye": "left", **both}], note="Seen twice.")
    signed = save_and_sign(room, rita, exam, said)
    assert signed.due["rule"] == "zone-2-stage-2-3" and signed.due["sentence"] == "Zone II stage 2 or 3: every week."
    assert signed.due_by == date(2026, 2, 16)  # a week after the exam
    assert signed.basis["photographs"][0]["digest"] == photograph.digest
    assert signed.basis["gradings"][0]["bundle_digest"] == "b" * 16
    with room.database.reading() as session:
        kept, exam = session.get(Reading, signed.id), session.get(Exam, exam.id)
        assert readings.digest_of(kept) == kept.digest != ""
        assert (exam.state, exam.signed_at) == ("signed", kept.signed_at)
        assert session.get(Patient, exam.patient_id).due_by == date(2026, 2, 16)
        assert readings.current_reading(session, exam).id == kept.id
        (job,) = session.scalars(select(Job).where(Job.kind == "report")).all()
        assert job.payload == {"reading": kept.id, "language": "en"}
        entry = session.scalar(select(AuditEntry).where(AuditEntry.action == "reading.sign"))
        assert (entry.user_id, entry.subject_id, entry.detail["digest"]) == (rita.id, kept.id, kept.digest)


def test_the_database_refuses_every_change_of_a_signed_reading(room, exam, rita, rolf, make_photograph):
    other = save(room, rolf, exam)
    signed = save_and_sign(room, rita, exam)
    photograph = make_photograph(exam)
    changes = [
        "UPDATE readings SET note = 'x' WHERE id = {id}",
        "UPDATE readings SET signed_at = NULL WHERE id = {id}",
        "DELETE FROM readings WHERE id = {id}",
        "UPDATE eye_readings SET stage = '1' WHERE reading_id = {id}",
        "UPDATE eye_readings SET reading_id = {id} WHERE reading_id = {other}",
        "DELETE FROM eye_readings WHERE reading_id = {id}",
        "INSERT INTO crossing_readings (reading_id, photograph_id, crossing, row, col) VALUES ({id}, {photograph}, 1, 0, 0)",
    ]
    for change in changes:
        statement = change.format(id=signed.id, other=other.id, photograph=photograph.id)
        with pytest.raises(DBAPIError, match="a signed reading never changes"), room.database.transaction() as session:
            session.execute(text(statement))
    with room.database.transaction() as session:  # a draft still changes
        session.get(Reading, other.id).note = "changed"


def test_two_first_readings_cannot_both_be_signed(room, exam, rita, rolf):
    second = save(room, rolf, exam)
    save_and_sign(room, rita, exam)
    with pytest.raises(ConflictError, match="signed meanwhile"):
        readings.sign_reading(room.database, rolf.caller, second.id, rolf.password)
    with pytest.raises(ConflictError, match="correction or an addendum"):
        save(room, rita, exam)


def test_corrections_and_addenda_supersede_and_say_why(room, exam, rita, rolf):
    first = save_and_sign(room, rita, exam)
    with pytest.raises(InvalidError, match="Say why"):
        save(room, rolf, exam, content(stage="3"), kind="correction")
    with pytest.raises(InvalidError, match="write a correction"):
        save(room, rita, exam, content(stage="3"), kind="addendum", why="more was seen")
    corrected = save_and_sign(room, rolf, exam, content(stage="3"), kind="correction", why="stage 3 is seen nasally")
    said = readings.content_of(corrected).model_copy(update={"note": "Told the ward by telephone."})
    added = save_and_sign(room, rita, exam, said, kind="addendum", why="the ward was told")
    assert (corrected.supersedes, added.supersedes) == (first.id, corrected.id)
    with room.database.reading() as session:
        exam = session.get(Exam, exam.id)
        assert readings.current_reading(session, exam).id == added.id
        assert readings.superseding_reading(session, session.get(Reading, first.id)).id == corrected.id
        assert (exam.state, exam.urgency_reason) == ("signed", "referral-warranted")
        assert session.get(Patient, exam.patient_id).due["rule"] == "zone-2-stage-2-3"


def test_the_answer_is_hidden_until_the_first_reading_is_saved(room, graded, site, rita, rolf):
    exam = Exam(id=graded.exam_id)
    with room.database.transaction() as session:
        session.get(Site, site.id).hide_answer = True
    with room.database.transaction() as session:
        page = open_reader_page(session, rita.caller, exam.id)
    (shown,) = page.shown.photographs
    assert page.hidden and shown.grading is None
    assert [set(one) & {"grade", "p3", "narrowing_1"} for one in shown.crossings] == [set(), set()]
    graded_one = ReadingContent(crossings=[{"photograph_id": graded.id, "crossing": 1, "grade": 1}])
    assert save(room, rita, exam, graded_one).masked
    with room.database.transaction() as session:
        assert not open_reader_page(session, rita.caller, exam.id).hidden
        assert open_reader_page(session, rolf.caller, exam.id).hidden
    assert save(room, rita, exam, graded_one.model_copy(update={"note": "seen"})).masked
    changed = ReadingContent(crossings=[{"photograph_id": graded.id, "crossing": 1, "grade": 2}])
    assert not save(room, rita, exam, changed).masked
    with room.database.reading() as session:
        entry = session.scalar(select(AuditEntry).where(AuditEntry.action == "reading.unmask"))
        assert entry.detail["before"]["crossings"] == [{"photograph_id": graded.id, "crossing": 1, "grade": 1}]


def test_a_masked_second_reader_sees_neither_the_answer_nor_the_first_reading(
    room, exam, site, rita, rolf, make_photograph
):
    photograph = make_photograph(exam)
    add_grading(room, photograph, [{}], grader="rop screen", probability=0.9, suspected=True)
    first = save_and_sign(room, rita, exam)
    with room.database.transaction() as session:
        session.add(ReadingTask(site_id=site.id, exam_id=exam.id, kind="second", created_via="command"))
    with room.database.transaction() as session:
        page = open_reader_page(session, rolf.caller, exam.id)
        assert (page.kind, page.hidden, page.masked, page.shown.reading, page.others) == (
            "second",
            True,
            True,
            None,
            [],
        )
        assert page.shown.photographs[0].grading is None
        with pytest.raises(NotFoundError):
            readings.get_reading(session, rolf.caller, first.id)
        assert not open_reader_page(session, rita.caller, exam.id).masked  # who read it first is not asked
    with pytest.raises(ConflictError, match="first"):
        save(room, rolf, exam, content(stage="3"), kind="correction", why="because")
    second = save_and_sign(room, rolf, exam, content(stage="3"), kind="second")
    assert second.masked
    with room.database.reading() as session:
        assert session.scalar(select(ReadingTask)).reading_id == second.id
        assert readings.current_reading(session, session.get(Exam, exam.id)).id == first.id
        assert len(readings.list_readings(session, rolf.caller, session.get(Exam, exam.id))) == 2
    with pytest.raises(ConflictError, match="Nobody asked"):
        save(room, rolf, exam, kind="second")


def test_a_preview_tells_type_and_date_and_what_is_missing(room, exam, rita):
    def preview(**right):
        with room.database.reading() as session:
            return preview_reading(session, rita.caller, exam.id, content(**right))

    found = preview(zone="I", stage="3")
    right = next(one for one in found.eyes if one.eye == "right")
    assert (right.etrop, right.referral, found.due.urgent) == ("type 1", True, True)
    assert found.due.when == "Treat by 12 Feb 2026"  # 72 hours
    assert found.hints == ["Left eye: photograph again within 24 hours, else examine by ophthalmoscopy (AAP 2015)."]
    assert preview(posterior=True, zone="I").gaps == ["Right eye: posterior belongs to zone II only."]
    assert preview(zone=None, stage=None, plus=None).gaps == ["Right eye: enter a finding, or why it cannot be graded."]


def test_a_rop_makes_no_eye_less_urgent(room, exam, rita):
    def preview(**right):
        with room.database.reading() as session:
            return preview_reading(session, rita.caller, exam.id, content(**right))

    assert preview(stage="3", plus="plus").due.rule == "treatment"
    assert preview(stage="3", plus="plus", aggressive=True).due.rule == "treatment"
    assert preview(stage="1", plus="plus", aggressive=True).eyes[0].aggressive
    assert preview(zone="I", stage=None, plus="plus", aggressive=True).due.rule == "treatment"


def test_contradictions_are_not_signed():
    vascular = {"eye": "right", "vascularised": True, "stage": "2", "zone": "III"}
    other = {"eye": "left", "stage": "0", "zone": "III", "plus": "no"}
    assert "contradict" in find_gaps(ReadingContent(eyes=[vascular, other]), "infant")[0]
    assert find_gaps(ReadingContent(eyes=[vascular | {"regression": "regressed"}, other]), "infant") == []
