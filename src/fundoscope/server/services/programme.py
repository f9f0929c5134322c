"""How the programme does: who was examined in time, who is overdue or lost, how long a reading takes; by site and month.

coverage      of the infants whom the site's guideline screens and whose window of the first exam has ended, the share with an exam in it
overdue       infants whose last day for the next exam has gone by
lost          of these, infants who are marked as lost, or whose last day went by more than four weeks ago
reading time  from the first photograph of an exam to its first signed reading, and the share within 24 hours

Every share has its n and its 95 % interval: infants are independent of each other (Wilson 1927), exams of one infant are not, and then
infants are drawn (`evaluation`). An infant of whom the guideline cannot say whether it is screened, or when, is counted apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from statistics import median
from typing import Any

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from fundoscope.evaluation.metrics.intervals import MIN_GROUPS, estimate_share, wilson
from fundoscope.guidelines import decide_infant, read_guideline
from fundoscope.server.models import Exam, Patient, Site, now
from fundoscope.server.permissions import EVERYBODY, Caller
from fundoscope.server.services import audit
from fundoscope.server.services.due import ENDED, make_infant
from fundoscope.server.services.inputs import PeriodQuery
from fundoscope.server.services.worklist import READ_WITHIN

#: An infant whose last day went by longer ago than this is counted as lost to follow-up.
LOST_AFTER = timedelta(weeks=4)


class Share(BaseModel):
    """`hits` of `n`, of so many infants (`groups`); `low` to `high` is the 95 % interval, None where there are too few for one."""

    hits: int
    n: int
    groups: int
    value: float | None
    low: float | None
    high: float | None


class CoverageRow(BaseModel):
    """Infants of one site whose window of the first exam ended in one month."""

    site: int | None
    site_name: str
    month: str
    infants: int
    in_window: int
    early: int
    late: int
    never: int
    coverage: Share


class ReadingTimeRow(BaseModel):
    """Exams of one site whose first photograph came in one month; hours of those that are signed, exams that still have time apart."""

    site: int | None
    site_name: str
    month: str
    exams: int
    signed: int
    still_in_time: int
    hours_median: float | None
    hours_longest: float | None
    within_24_hours: Share


class OverdueInfant(BaseModel):
    """An infant whose next exam is overdue; `lost` by the rule above."""

    patient: int
    site: int
    site_name: str
    code: str
    due_by: date
    days_late: int
    last_exam: date | None
    marked_lost: bool
    lost: bool


class ProgrammeFigures(BaseModel):
    """All figures of the programme on a day. The first rows of a table are of all months of each site, the very first of all sites."""

    on: date
    months: int
    infants: int
    cannot_say: int
    coverage: list[CoverageRow]
    reading_time: list[ReadingTimeRow]
    overdue: list[OverdueInfant]


def measure_programme(
    session: Session, caller: Caller, query: PeriodQuery, at: datetime | None = None
) -> ProgrammeFigures:
    """The figures of the caller's sites, as they are at the moment `at` (now). `NotFoundError` for a site of others."""
    caller.require(*EVERYBODY)
    if query.site is not None:
        caller.require_site(query.site)
    moment = at or now()
    on = moment.astimezone().date()
    numbers = [query.site] if query.site is not None else sorted(caller.sites)
    sites = {site.id: site for site in session.scalars(select(Site).where(Site.id.in_(numbers)))}
    first = month_before(on, query.months - 1)
    patients = session.scalars(
        select(Patient).where(Patient.site_id.in_(sites), Patient.kind == "infant", Patient.merged_into.is_(None))
    ).all()
    exams = session.execute(
        select(Exam.patient_id, Exam.day, Exam.site_id, Exam.uploaded_at, Exam.signed_at)
        .where(Exam.site_id.in_(sites), Exam.state != "cancelled")
        .order_by(Exam.day)
    ).all()
    days = defaultdict(list)
    for exam in exams:
        if exam.uploaded_at is not None or exam.signed_at is not None:
            days[exam.patient_id].append(exam.day)
    coverage, cannot_say = _cover(patients, days, sites, first, on)
    return ProgrammeFigures(
        on=on, months=query.months, infants=len(patients), cannot_say=cannot_say, coverage=coverage,
        reading_time=_time(exams, sites, first, moment), overdue=_find_overdue(patients, days, sites, on),
    )  # fmt: skip


def record_view(session: Session, caller: Caller, query: PeriodQuery, what: str) -> None:
    """Write into the audit log that the figures were looked at, or that a table with codes was taken away."""
    audit.record(session, caller, "programme.view", site_id=query.site, what=what, months=query.months)


def measure_share(hits: Sequence[bool], groups: Sequence[object]) -> Share:
    """The share of hits with its interval. Where every hit has a group of its own it is Wilson's; else groups are drawn.

    Where all or none hit, drawing tells nothing: the interval is Wilson's of as many as there are groups. Fewer than ten groups of
    several have none.
    """
    n, found, count = len(hits), sum(hits), len(set(groups))
    low: float | None = None
    high: float | None = None
    if n and count == n:
        low, high = wilson(found, n)
    elif n and count >= MIN_GROUPS and found in (0, n):
        low, high = wilson(count if found else 0, count)
    elif n and count >= MIN_GROUPS:
        drawn = estimate_share([float(hit) for hit in hits], groups)
        low, high = drawn.low, drawn.high
    return Share(hits=found, n=n, groups=count, value=found / n if n else None, low=low, high=high)


def month_before(day: date, months: int) -> date:
    """The first day of the month that is so many months before that of the day."""
    number = day.year * 12 + day.month - 1 - months
    return date(number // 12, number % 12 + 1, 1)


def _cover(
    patients: Iterable[Patient], days: dict[int, list[date]], sites: dict[int, Site], first: date, on: date
) -> tuple[list[CoverageRow], int]:
    """The table of coverage, and how many infants the guideline cannot say anything of."""
    cells: dict[tuple[int | None, str], list[str]] = defaultdict(list)
    cannot_say = 0
    for patient in patients:
        answer = decide_infant(make_infant(patient, ()), read_guideline(sites[patient.site_id].guideline), on)
        if answer.meets_criteria is None or (answer.meets_criteria and answer.due_by is None):
            cannot_say += 1
            continue
        start, end = answer.due_from, answer.due_by
        gone = patient.left in ("died", "transferred") and patient.left_on is not None
        if (
            not answer.meets_criteria
            or end is None
            or not first <= end < on
            or (gone and (patient.left_on or end) <= end)
        ):
            continue
        seen = days.get(patient.id, [])
        inside = [day for day in seen if (start or day) <= day <= end]
        word = "in_window" if inside else "early" if [day for day in seen if day < end] else "late" if seen else "never"
        for cell in _cells(patient.site_id, end):
            cells[cell].append(word)
    rows = []
    for (site, month), words in _in_order(cells, sites):
        share = measure_share([word == "in_window" for word in words], range(len(words)))
        counts = {name: words.count(name) for name in ("in_window", "early", "late", "never")}
        name = sites[site].name if site is not None else ""
        rows.append(CoverageRow(site=site, site_name=name, month=month, infants=len(words), coverage=share, **counts))
    return rows, cannot_say


def _time(exams: Iterable[Any], sites: dict[int, Site], first: date, at: datetime) -> list[ReadingTimeRow]:
    """The table of times from the first photograph to the signature; an exam that is not signed and late counts as not in time."""
    cells: dict[tuple[int | None, str], list[tuple[int, float, bool]]] = defaultdict(list)
    for exam in exams:
        if exam.uploaded_at is None or exam.uploaded_at.astimezone().date() < first:
            continue
        hours = ((exam.signed_at or at) - exam.uploaded_at).total_seconds() / 3600
        for cell in _cells(exam.site_id, exam.uploaded_at.astimezone().date()):
            cells[cell].append((exam.patient_id, hours, exam.signed_at is not None))
    limit = READ_WITHIN.total_seconds() / 3600
    rows = []
    for (site, month), found in _in_order(cells, sites):
        signed = [hours for _, hours, done in found if done]
        judged = [(patient, done and hours <= limit) for patient, hours, done in found if done or hours > limit]
        rows.append(
            ReadingTimeRow(
                site=site, site_name=sites[site].name if site is not None else "", month=month, exams=len(found),
                signed=len(signed), still_in_time=len(found) - len(judged),
                hours_median=median(signed) if signed else None, hours_longest=max(signed, default=None),
                within_24_hours=measure_share([hit for _, hit in judged], [patient for patient, _ in judged]),
            )
        )  # fmt: skip
    return rows


def _find_overdue(
    patients: Iterable[Patient], days: dict[int, list[date]], sites: dict[int, Site], on: date
) -> list[OverdueInfant]:
    """The infants who are overdue, the longest first."""
    found = []
    for patient in patients:
        by = patient.due_by
        if by is None or by >= on or patient.left in ENDED:
            continue
        marked = patient.left == "lost"
        found.append(
            OverdueInfant(
                patient=patient.id, site=patient.site_id, site_name=sites[patient.site_id].name, code=patient.code, due_by=by,
                days_late=(on - by).days, last_exam=max(days.get(patient.id, []), default=None), marked_lost=marked,
                lost=marked or on - by > LOST_AFTER,
            )
        )  # fmt: skip
    return sorted(found, key=lambda infant: (-infant.days_late, infant.patient))


def _cells(site: int, day: date) -> tuple[tuple[int | None, str], ...]:
    """The rows of a table in which something of a site and a day counts: all, the site, the month, the site's month."""
    month = day.strftime("%Y-%m")
    return ((None, ""), (site, ""), (None, month), (site, month))


def _in_order(
    cells: dict[tuple[int | None, str], Any], sites: dict[int, Site]
) -> list[tuple[tuple[int | None, str], Any]]:
    """All first, then sites by name; of each all months first, then the newest. With one site what is of all is left out."""
    kept = [(cell, found) for cell, found in cells.items() if cell[0] is None or len(sites) > 1]

    def place(entry: tuple[tuple[int | None, str], Any]) -> tuple[str, bool, int]:
        site, month = entry[0]
        return ("" if site is None else sites[site].name, bool(month), -int(month.replace("-", "") or 0))

    return sorted(kept, key=place)
