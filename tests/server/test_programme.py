"""The programme's figures: coverage, overdue and lost infants, reading times, against counts made by hand."""

import csv
import io
from datetime import UTC, date, datetime, timedelta

import pytest

from fundoscope.evaluation.metrics.intervals import wilson
from fundoscope.server.errors import NotFoundError
from fundoscope.server.models import AuditEntry
from fundoscope.server.services.inputs import PeriodQuery
from fundoscope.server.services.programme import measure_programme, measure_share, month_before
from fundoscope.server.services.sheets import inert_cell

AT = datetime(2026, 6, 15, 12, tzinfo=UTC)


@pytest.fixture
def measure(room):
    def measure(person, **query):
        with room.database.reading() as session:
            return measure_programme(session, person.caller, PeriodQuery(**query), AT)

    return measure


@pytest.fixture
def cohort(make_patient, make_exam):
    """Infants of 28 weeks: the window of China 2014 is 31 to 32 weeks of age or 4 to 6 weeks after birth, so days 21 to 42."""
    born = date(2026, 4, 1)

    def infant(*days, **values):
        patient = make_patient(birth_date=born, gestational_age=28 * 7, birth_weight=1050, **values)
        for day in days:
            uploaded = datetime.combine(born, datetime.min.time(), UTC) + timedelta(days=day, hours=8)
            make_exam(
                patient,
                day=born + timedelta(days=day),
                state="signed",
                uploaded_at=uploaded,
                signed_at=uploaded + timedelta(hours=day - 20),
            )
        return patient

    infant(21), infant(42), infant(10, 30)  # in the window
    infant(20), infant(43)  # before, after
    infant()  # never
    infant(left="died", left_on=born + timedelta(days=9))  # was not there any more
    make_patient(birth_date=born, gestational_age=None, birth_weight=None)  # cannot be said
    make_patient(birth_date=born, gestational_age=39 * 7, birth_weight=3200)  # is not screened
    make_patient(birth_date=date(2026, 6, 1))  # its window has not ended


def test_coverage_counts_who_was_examined_in_the_window(measure, cohort, sign_in):
    figures = measure(sign_in("administrator"))
    whole, month = figures.coverage
    assert (whole.infants, whole.in_window, whole.early, whole.late, whole.never) == (6, 3, 1, 1, 1)
    assert (month.month, month.infants, figures.cannot_say, figures.infants) == ("2026-05", 6, 1, 10)
    assert (whole.coverage.low, whole.coverage.high) == wilson(3, 6)


def test_reading_time_counts_the_late_and_leaves_out_who_still_has_time(measure, cohort, sign_in, make_exam):
    make_exam(uploaded_at=AT - timedelta(hours=3), day=AT.date())
    make_exam(uploaded_at=AT - timedelta(hours=30), day=AT.date())
    whole = measure(sign_in("technician")).reading_time[0]
    # signed after 1, 22, -10, 10, 0, 23 hours; one never, and late; one with time
    assert (whole.exams, whole.signed, whole.still_in_time) == (8, 6, 1)
    assert (whole.within_24_hours.hits, whole.within_24_hours.n) == (6, 7)
    assert whole.hours_median == pytest.approx((1 + 10) / 2) and whole.hours_longest == pytest.approx(23)


def test_overdue_infants_are_lost_after_four_weeks_or_when_somebody_says_so(measure, sign_in, make_patient):
    for code, days, left in (
        ("A", 1, ""),
        ("B", 28, ""),
        ("C", 29, ""),
        ("D", 2, "lost"),
        ("E", 9, "died"),
        ("F", -1, ""),
    ):
        make_patient(code=code, due_by=AT.date() - timedelta(days=days), left=left)
    overdue = measure(sign_in("reader")).overdue
    assert [(infant.code, infant.lost) for infant in overdue] == [("C", True), ("B", False), ("D", True), ("A", False)]


def test_only_ones_own_sites_count(measure, cohort, sign_in, other_site, site):
    stranger = sign_in("reader", sites=[other_site])
    assert measure(stranger).infants == 0 and measure(stranger).coverage == []
    with pytest.raises(NotFoundError):
        measure(stranger, site=site.id)
    both = measure(sign_in("reader", sites=[site, other_site]))
    assert [(row.site_name, row.month) for row in both.coverage] == [
        ("", ""), ("", "2026-05"), ("Site A", ""), ("Site A", "2026-05"),
    ]  # fmt: skip


def test_intervals_draw_infants_and_are_left_out_where_these_are_few():
    alone = measure_share([True] * 8 + [False] * 2, range(10))
    assert (alone.low, alone.high) == wilson(8, 10)
    few = measure_share([True, False] * 9, [n // 2 for n in range(18)])
    assert (few.value, few.low, few.groups) == (0.5, None, 9)
    hits = [n < 60 for n in range(100)]  # ten infants whose ten exams are all alike
    alike = measure_share(hits, [n // 10 for n in range(100)])
    assert alike.high - alike.low > 2 * (wilson(60, 100)[1] - wilson(60, 100)[0]) > 0
    never = measure_share([False] * 40, [n // 4 for n in range(40)])
    assert (never.low, never.high) == wilson(0, 10)
    assert measure_share([], []).value is None


def test_months_before_go_over_the_new_year():
    assert [month_before(date(2026, 2, 28), n) for n in (0, 1, 2, 14)] == [
        date(2026, 2, 1), date(2026, 1, 1), date(2025, 12, 1), date(2024, 12, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_text_that_a_spreadsheet_works_out_is_inert(text):
    assert inert_cell(text) == "'" + text
    assert inert_cell(-1.5) == -1.5 and inert_cell("a=1") == "a=1"


def test_page_csv_and_rest_show_the_same(room, cohort, sign_in, make_patient):
    make_patient(code="=2", due_by=date(2026, 1, 1))
    person = sign_in("administrator")
    page = person.get("/programme?months=60")
    assert page.status_code == 200 and "<svg" in page.text and "style=" not in page.text
    figures = person.get("/v1/programme?months=60").json()
    rows = list(csv.DictReader(io.StringIO(person.get("/programme/coverage.csv?months=60").text)))
    assert [int(row["coverage_hits"]) for row in rows] == [row["coverage"]["hits"] for row in figures["coverage"]]
    (overdue, *_) = csv.DictReader(io.StringIO(person.get("/programme/overdue.csv?months=60").text))
    assert overdue["code"] == "'=2" and overdue["lost"] == "yes"
    assert person.get("/programme/reading_time.csv?site=").status_code == 200
    assert (
        person.get("/programme/names.csv").status_code in (404, 422)
        and person.get("/programme?months=0").status_code == 422
    )
    with room.database.reading() as session:
        assert "programme.view" in {line.action for line in session.query(AuditEntry)}
