"""Agreement of readers and accuracy of tool and readers, against counts made by hand."""

import csv
import io
from datetime import UTC, date, datetime

import pytest

from fundoscope.server.errors import NotAllowedError, NotFoundError
from fundoscope.server.models import EyeReading, Grading, Reading, now
from fundoscope.server.services.agreement import measure_agreement, sees_rop
from fundoscope.server.services.inputs import PeriodQuery

AT = datetime(2026, 6, 15, tzinfo=UTC)


@pytest.fixture
def measure(room):
    def measure(person, **query):
        with room.database.reading() as session:
            return measure_agreement(session, person.caller, PeriodQuery(**query), AT)

    return measure


@pytest.fixture
def read(room, make_exam, make_photograph):
    """read(reader, second=..., first=...) -> an exam with signed readings by kind; findings are (stage, plus) of the right eye."""

    def read(readers, suspected=None, day=date(2026, 6, 1), camera="Neo", masked=False, **kinds):
        exam = make_exam(day=day, camera=camera, state="signed")
        if suspected is not None:
            photograph = make_photograph(exam, state="graded")
            with room.database.transaction() as session:
                for said in (not suspected, suspected):  # an older bundle said otherwise
                    session.add(
                        Grading(
                            site_id=exam.site_id, photograph_id=photograph.id, grader="rop screen", bundle="b",
                            bundle_digest=str(said), version="1", status="ok", suspected=said, rows={"rows": []}, created_at=now(),
                        )
                    )  # fmt: skip
                    session.flush()
        for (kind, (stage, plus)), reader in zip(kinds.items(), readers, strict=True):
            with room.database.transaction() as session:
                eye = EyeReading(eye="right", zone="II", stage=stage, plus=plus)
                reading = Reading(
                    site_id=exam.site_id, exam_id=exam.id, reader_id=reader.id, kind=kind, masked=masked or kind == "second",
                    created_via="pages", eyes=[eye],
                )  # fmt: skip
                session.add(reading)
                session.flush()
                reading.signed_at = now()
        return exam

    return read


def test_kappas_are_those_of_what_both_said(measure, read, sign_in):
    rita, rolf = sign_in("reader", "rita"), sign_in("reader", "rolf")
    stages = [
        ("0", "0"),
        ("1", "2"),
        ("2", "2"),
        ("3", "1"),
        ("3", "3"),
        ("0", "1"),
        ("2", "3"),
        ("1", "1"),
        ("4A", "4B"),
        ("0", "0"),
        ("2", "2"),
    ]
    for one, other in stages:
        read([rita, rolf], first=(one, "no"), second=(other, "no"))
    read([rita], first=("3", "no"))
    figures = measure(sign_in("administrator"))
    assert (figures.exams_read, figures.exams_read_twice) == (12, 11)
    rows = {row.question: row for row in figures.kappas}
    one, other = zip(*[(int(a[0]), int(b[0])) for a, b in stages], strict=True)
    seen = sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) / 11
    by_chance = sum((a - b) ** 2 for a in one for b in other) / 121  # Cohen 1968
    assert rows["stage"].kappa == pytest.approx(1 - seen / by_chance) and rows["stage"].n == 11
    assert rows["stage"].low < rows["stage"].kappa < rows["stage"].high and rows["stage"].weighted
    # stage 3 or more is referral-warranted: both 2 of 11, one only 2, neither 7
    expected = (9 / 11 - (3 * 3 + 8 * 8) / 121) / (1 - (3 * 3 + 8 * 8) / 121)
    assert rows["referral"].kappa == pytest.approx(expected)
    assert rows["treatment"].kappa is None and rows["treatment"].same == 1.0  # nobody said treat
    assert {row.pair for row in figures.kappas} == {"two readers"}


def test_a_repeat_compares_a_reader_with_themself(measure, read, sign_in):
    rita = sign_in("reader", "rita")
    read([rita, rita], first=("1", "no"), repeat=("1", "plus"))
    rows = {row.question: row for row in measure(rita).kappas}
    assert {row.pair for row in rows.values()} == {"one reader twice"}
    assert rows["stage"].same == 1.0 and rows["plus"].same == 0.0 and rows["plus"].low is None


def test_the_tool_is_judged_by_the_deciding_reading_by_month_camera_and_site(measure, read, sign_in):
    rita, ruth = sign_in("reader", "rita"), sign_in("reader", "ruth")
    for suspected, stage, day, camera in (
        (True, "2", date(2026, 6, 2), "Neo"), (False, "1", date(2026, 5, 2), "Neo"), (True, "0", date(2026, 6, 3), "RetCam"),
        (False, "0", date(2026, 6, 4), "RetCam"), (True, "1", date(2025, 1, 1), "Neo"),
    ):  # fmt: skip
        read([rita], suspected, day, camera, first=(stage, "no"))
    read([rita, ruth], True, first=("0", "no"), adjudication=("3", "no"), masked=True)
    read([rita], True, first=(None, "no"))  # leaves it open
    figures = measure(sign_in("administrator"))
    rows = {(row.slice, row.value): row for row in figures.accuracy if row.who == "tool"}
    whole = rows["all", ""]
    assert (whole.sensitivity.hits, whole.sensitivity.n, whole.specificity.hits, whole.specificity.n) == (2, 3, 1, 2)
    assert [rows["month", month].sensitivity.n for month in ("2026-05", "2026-06")] == [1, 2]
    assert rows["camera", "RetCam"].specificity.value == 0.5 and rows["site", "Site A"].sensitivity.n == 3
    assert (rows["masked", ""].sensitivity.hits, rows["masked", ""].sensitivity.n, figures.left_out) == (1, 1, 1)
    assert {row.slice for row in figures.accuracy} == {"all", "masked", "month", "camera", "site"}


def test_readers_are_judged_by_what_was_settled_and_see_only_themselves_by_name(measure, read, sign_in):
    rita, rolf, ruth = (sign_in("reader", name) for name in ("rita", "rolf", "ruth"))
    read([rita, rolf], first=("3", "no"), second=("3", "no"))
    read([rita, rolf, ruth], first=("1", "no"), second=("3", "no"), adjudication=("3", "no"))
    read([rita, rolf], first=("1", "no"), second=("3", "no"))  # not settled yet
    read([rolf, rita], first=("0", "no"), second=("1", "no"))
    rows = {(row.who, row.slice): row for row in measure(sign_in("administrator")).accuracy}
    assert (rows["Rita", "all"].sensitivity.hits, rows["Rita", "all"].sensitivity.n) == (1, 2)
    assert (rows["Rolf", "all"].sensitivity.hits, rows["Rolf", "all"].sensitivity.n) == (2, 2)
    assert rows["Rita", "all"].specificity.n == rows["Rolf", "all"].specificity.n == 1
    mine = measure(rita).accuracy
    assert {row.who for row in mine} == {"you", "other readers"}
    assert next(row for row in mine if row.who == "you").sensitivity.hits == 1


@pytest.mark.parametrize(
    ("findings", "rop"),
    [
        ({"stage": "0"}, False), ({"stage": "1"}, True), ({"stage": "4A"}, True), ({"plus": "plus"}, True), ({"plus": "no"}, None),
        ({"aggressive": True}, True), ({"vascularised": True}, False), ({"stage": "2", "regression": "regressed"}, None),
        ({"gradable": False, "stage": "2"}, None), ({"stage": "0", "plus": "pre-plus"}, False), ({}, None),
    ],
)  # fmt: skip
def test_rop_is_seen_where_a_finding_says_so(findings, rop):
    assert sees_rop(EyeReading(**{"gradable": True} | findings)) is rop


def test_the_page_its_tables_and_rest(read, sign_in, other_site, measure, site):
    rita, rolf = sign_in("reader", "rita"), sign_in("reader", "rolf")
    read([rita, rolf], True, now().date(), first=("3", "no"), second=("1", "no"))
    page = rolf.get("/second-readings")
    assert page.status_code == 200 and "<svg" in page.text and "style=" not in page.text
    figures = rolf.get("/v1/agreement").json()
    for table in ("kappas", "accuracy"):
        rows = list(csv.DictReader(io.StringIO(rolf.get(f"/second-readings/{table}.csv").text)))
        assert len(rows) == len(figures[table]) > 0
    assert sign_in("technician").get("/second-readings").status_code == 403
    stranger = sign_in("administrator", sites=[other_site])
    assert stranger.get("/second-readings").status_code == 200 and measure(stranger).exams_read == 0
    with pytest.raises(NotFoundError):
        measure(stranger, site=site.id)
    with pytest.raises(NotAllowedError):
        measure(sign_in("technician"))
