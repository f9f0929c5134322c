"""The worklist: everything that waits for somebody, the most urgent first, lane after lane.

A lane is one query in one order; a page of the list takes rows from lane after lane until it is full, and its cursor names the lane
and the last row. The lanes, in their order:

    urgent      exams with findings or suspicion of ROP that nobody has read, or whose result nobody has acknowledged
    overdue     other exams that were not signed within 24 hours of their first photograph
    missed      infants whose next exam should have been by now, and who have none open
    incomplete  exams that lack views, or whose refused photographs were not repeated
    to_read     the other exams that have photographs
    again       exams to be read again, masked: second readings, hidden repeats, adjudication
    empty       exams without a photograph
    due         infants to be examined within a week, or whose window is open
    unclear     infants for whom no rule says when: a person must decide

With a filter on the state there is one lane `exams`, and a search adds `closed` (signed and cancelled exams) and `people`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from sqlalchemy import ColumnElement, Select, and_, case, exists, func, literal, or_, select, true, tuple_
from sqlalchemy.orm import Session, aliased

from fundoscope.languages import gettext as _
from fundoscope.languages import ngettext
from fundoscope.server.errors import ConflictError, InvalidError
from fundoscope.server.models import Exam, ExamPhotograph, Grading, Patient, Reading, ReadingTask, Site, User, now
from fundoscope.server.permissions import CLINICAL, EVERYBODY, Caller, Role, get_owned
from fundoscope.server.services import audit
from fundoscope.server.services.exam_state import URGENCIES, URGENT_BELOW, UrgencyReason
from fundoscope.server.services.inputs import BLANK_IS_NONE, GroupLine, Line, Number
from fundoscope.server.services.readings import find_hidden, masked_exams

#: From the first photograph to a signed reading (AAP 2015: results within 24 hours).
READ_WITHIN = timedelta(hours=24)
#: Infants who are due this soon stand in the list.
DUE_SOON = timedelta(days=7)
_MOST_NAMED = 300  # finds of a search that the statements name one by one
UNSIGNED = ("open", "to_read", "read")

Lane = Literal[
    "urgent", "overdue", "missed", "incomplete", "to_read", "again", "empty", "due", "unclear", "exams", "closed", "people"
]  # fmt: skip
WORK_LANES: tuple[Lane, ...] = (
    "urgent", "overdue", "missed", "incomplete", "to_read", "again", "empty", "due", "unclear",
)  # fmt: skip
_INFANT_LANES = ("missed", "due", "unclear", "people")

#: Values that a cursor may hold; others would be an error of the database.
_INT = Annotated[int, Field(ge=0, le=2**31 - 1)]
_MOMENT = Annotated[AwareDatetime, Field(ge=datetime(1970, 1, 1, tzinfo=UTC), le=datetime(3000, 1, 1, tzinfo=UTC))]
Day = Annotated[date | None, BLANK_IS_NONE]


class WorklistQuery(BaseModel):
    """What of the list is wanted. `search` is looked for in codes, names and accession numbers.

    `due` looks at the day by which the infant is to be examined next: gone by, or within a week. `day_from` and `day_to` are days of
    exams. `next` of one answer is `cursor` of the following call, with the same filters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lane: Lane | Literal[""] = ""
    state: Literal["", "open", "to_read", "read", "signed", "cancelled"] = ""
    site: Annotated[Number | None, BLANK_IS_NONE] = None
    kind: Literal["", "infant", "adult"] = ""
    due: Literal["", "overdue", "week"] = ""
    camera: Line = ""
    day_from: Day = None
    day_to: Day = None
    search: GroupLine = ""
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str, StringConstraints(max_length=500)] = ""

    @property
    def filters(self) -> dict[str, str]:
        """The filters that are set, as they stand in an address; the lane and the cursor are none."""
        names = ("state", "site", "kind", "due", "camera", "day_from", "day_to", "search")
        return {name: str(value) for name in names if (value := getattr(self, name))}


class WorklistItem(BaseModel):
    """A row of the list: an exam, an infant who is due (`exam` None), or a reading to be made again (`task`; it has no code and no name).

    `reason` is a code of `exam_state.UrgencyReason`, or `hidden` where the caller is to read the exam first without knowing it: the
    site hides the tool's answer until the first reading is saved, or the exam is to be read again. `hours_left` is until 24 hours after the first photograph, negative once they are over, None once it is signed. Of adults
    `worst_nicking` is the worst grade (0 to 3) that the tool gave a crossing of the exam, of `crossings`; `vessels` are the measures of
    the photograph in which most crossings were found, as its grading names them.
    """

    lane: Lane
    site: int
    site_name: str
    kind: str
    exam: int | None = None
    patient: int | None = None
    task: int | None = None
    adjudication: bool = False
    code: str = ""
    name: str = ""
    day: date | None = None
    postmenstrual_age: int | None = None  # days, on the day of the exam
    camera: str = ""
    accession: str = ""
    state: str = ""
    reason: str = ""
    urgent: bool = False
    highest_p: float | None = None
    photographs: int = 0
    waiting: int = 0
    missing_views: list[str] = Field(default_factory=list)
    uploaded_at: datetime | None = None
    signed_at: datetime | None = None
    hours_left: float | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""
    due_from: date | None = None
    due_by: date | None = None
    decision: str = ""
    left: str = ""  # how the programme lost or left the infant
    worst_nicking: int | None = None
    crossings: int | None = None
    vessels: dict[str, Any] | None = None


class WorklistPage(BaseModel):
    """Rows of the list, how many each lane holds in all (within the filters), and where it goes on."""

    items: list[WorklistItem]
    counts: dict[Lane, int]
    next: str | None = None


@dataclass(frozen=True)
class _LaneQuery:
    """One lane: the `keys` of its rows (never NULL; the last is the row's number), in their order, all upwards or all downwards.

    The rows themselves are fetched by their numbers: what is sorted is narrow, and may come from an index alone.
    """

    rows: Select[Any]
    keys: tuple[Any, ...]
    types: tuple[Any, ...]
    downwards: bool = False


@dataclass(frozen=True)
class _Found:
    """Numbers of the patients and exams that a search finds by code, name or accession number."""

    people: tuple[int, ...]
    exams: tuple[int, ...]


@dataclass
class _Asked:
    """What one call asks: by whom, when, with which filters."""

    caller: Caller
    query: WorklistQuery
    at: datetime
    today: date
    sites: Sequence[int]
    dialect: str
    found: _Found | None = None

    @property
    def read_before(self) -> datetime:
        """Photographs that came before this moment should have been read."""
        return self.at - READ_WITHIN


def list_work(session: Session, caller: Caller, query: WorklistQuery, at: datetime | None = None) -> WorklistPage:
    """A page of the worklist of the sites of `caller`, as it is at the moment `at` (now). Everybody sees the list of their sites.

    Raises `InvalidError` for a cursor that is none, `NotFoundError` for a site of others.
    """
    caller.require(*EVERYBODY)
    if query.site is not None:
        caller.require_site(query.site)
    moment = at or now()
    sites = [query.site] if query.site is not None else sorted(caller.sites)
    asked = _Asked(caller, query, moment, moment.astimezone().date(), sites, session.get_bind().dialect.name)
    asked.found = _find_words(session, asked)
    lanes = _find_lanes(asked)
    counts = _count(session, asked, lanes)
    start, after = _read_cursor(query.cursor, lanes)
    found: list[tuple[Lane, int]] = []
    following = None
    for lane in lanes[lanes.index(start) if start else 0 :]:
        if not counts[lane] or query.lane not in ("", lane):
            continue
        room = query.limit - len(found)
        wanted = _lane_query(lane, asked)
        rows = session.execute(_after(wanted, after if lane == start else None).limit(room + 1)).all()
        found += [(lane, row[-1]) for row in rows[:room]]
        if len(rows) > room:
            following = _write_cursor(lane, rows[room - 1] if room else None)
            break
    return WorklistPage(items=_describe(session, asked, found), counts=counts, next=following)


def acknowledge_exam(session: Session, caller: Caller, number: int) -> Exam:
    """Put the caller's name and the time to an urgent exam: somebody has seen it and acts on it. Once; the first name stays."""
    caller.require(*CLINICAL)
    exam = get_owned(session, caller, Exam, number)
    if exam.urgency >= URGENT_BELOW or exam.state == "cancelled":
        raise ConflictError(_("Exam {number} is not urgent, so nobody needs to acknowledge it.").format(number=number))
    if exam.acknowledged_at is None:
        exam.acknowledged_at, exam.acknowledged_by = now(), caller.user_id
        audit.record(session, caller, "exam.acknowledge", "exam", exam.id, exam.site_id, reason=exam.urgency_reason)
    return exam


def record_view(session: Session, caller: Caller, query: WorklistQuery, page: WorklistPage) -> None:
    """Write into the audit log that the list was looked at: which filters, how many rows; not the words of a search."""
    filters = sorted(query.filters)
    audit.record(session, caller, "worklist.view", site_id=query.site, filters=filters, rows=len(page.items))


def list_cameras(session: Session, caller: Caller) -> list[str]:
    """The cameras of the exams of the caller's sites, by name."""
    wanted = select(Exam.camera).where(Exam.site_id.in_(caller.sites), Exam.camera != "").distinct()
    return sorted(session.scalars(wanted))


def list_sites(session: Session, caller: Caller) -> list[Site]:
    """The sites of the caller, by name."""
    return list(session.scalars(select(Site).where(Site.id.in_(caller.sites)).order_by(Site.name)))


def describe_reason(code: str) -> str:
    """Why an exam comes where it comes, in a few words; blank where there is nothing to say of it."""
    return {
        "": "",
        "hidden": _("The reason is shown when you have read it"),
        UrgencyReason.TYPE_1: _("Type 1 ROP: treat"),
        UrgencyReason.AGGRESSIVE: _("Aggressive ROP (A-ROP)"),
        UrgencyReason.REFERRAL: _("Referral-warranted ROP"),
        UrgencyReason.POSSIBLE_TYPE_1: _("May be type 1: a finding is missing"),
        UrgencyReason.SUSPECTED: _("ROP suspected by the tool"),
        UrgencyReason.REFUSED_VIEWS: _("A photograph was refused and not repeated"),
        UrgencyReason.MISSING_VIEWS: _("Views are missing"),
    }[code]


def describe_lane(lane: str) -> str:
    """The heading of a lane."""
    return {
        "urgent": _("Urgent"),
        "overdue": _("To be read: overdue"),
        "missed": _("To be examined: overdue"),
        "incomplete": _("Incomplete"),
        "to_read": _("To be read"),
        "again": _("To be read again, masked"),
        "empty": _("No photographs yet"),
        "due": _("To be examined"),
        "unclear": _("No rule says when: decide"),
        "exams": _("Exams"),
        "closed": _("Signed or cancelled"),
        "people": _("Infants and patients"),
    }[lane]


def describe_clock(hours: float) -> str:
    """How long until 24 hours after the first photograph are over, or since they are."""
    late, minutes = hours < 0, round(abs(hours) * 60)
    if minutes < 120:
        text = ngettext("overdue by {n} minute", "overdue by {n} minutes", minutes) if late else ngettext(
            "{n} minute left", "{n} minutes left", minutes)  # fmt: skip
        return text.format(n=minutes)
    count = minutes // 60
    if late and count >= 48:
        days = count // 24
        return ngettext("overdue by {n} day", "overdue by {n} days", days).format(n=days)
    text = ngettext("overdue by {n} hour", "overdue by {n} hours", count) if late else ngettext(
        "{n} hour left", "{n} hours left", count)  # fmt: skip
    return text.format(n=count)


# --- lanes


def _find_lanes(asked: _Asked) -> list[Lane]:
    """The lanes that can hold something within the filters."""
    query = asked.query
    if query.state:
        return ["exams"]
    lanes: list[Lane] = list(WORK_LANES)
    of_exams = query.camera or query.day_from or query.day_to  # filters that no infant without an exam passes
    if asked.caller.role != Role.READER or of_exams or query.search or query.due:
        lanes.remove("again")  # and what is found by its camera, day or name is no longer masked
    if of_exams or query.kind == "adult":
        lanes = [lane for lane in lanes if lane not in _INFANT_LANES]
    if query.due and "unclear" in lanes:
        lanes.remove("unclear")
    if query.search:
        lanes += ["closed"] if of_exams else ["closed", "people"]
    return lanes


def _lane_query(lane: Lane, asked: _Asked) -> _LaneQuery:
    """The keys of the rows of a lane."""
    keys: tuple[Any, ...]
    rows: Any
    if lane == "again":
        rows = select(ReadingTask.id).join(Exam, ReadingTask.exam_id == Exam.id)
        rows = rows.join(Patient, Exam.patient_id == Patient.id).where(*_task_filters(asked))
        return _LaneQuery(rows, (ReadingTask.id,), (_INT,))
    if lane in _INFANT_LANES:
        keys, types = {
            "people": ((Patient.code, Patient.id), (Line, _INT)),
            "unclear": ((Patient.id,), (_INT,)),
        }.get(lane, ((Patient.due_by, Patient.id), (date, _INT)))
        rows = select(*keys).where(*_people_filters(asked, lane), _people_lane(lane, asked))
        return _LaneQuery(rows, keys, types)
    numbers, when, on = (_INT, _MOMENT, _INT), (_MOMENT, _INT), (date, _INT)
    keys, types = {
        "urgent": ((_SEEN, Exam.urgency, _BEGAN, Exam.id), (_INT, *numbers)),
        "overdue": ((Exam.uploaded_at, Exam.id), when),
        "incomplete": ((Exam.urgency, Exam.uploaded_at, Exam.id), numbers),
        "to_read": ((Exam.uploaded_at, Exam.id), when),
    }.get(lane, ((Exam.day, Exam.id), on))
    rows = _with_patients(select(*keys), asked).where(*_exam_filters(asked), _exam_lane(lane, asked))
    return _LaneQuery(rows, keys, types, downwards=lane in ("closed", "exams"))


def _with_patients(rows: Any, asked: _Asked) -> Any:
    """A query of exams, joined with their patients where a filter looks at these."""
    query = asked.query
    if query.kind or query.due or (query.search and asked.found is None):
        return rows.join(Patient, Exam.patient_id == Patient.id)
    return rows


_SEEN = case((Exam.acknowledged_at.is_(None), 0), else_=1)
_BEGAN = func.coalesce(Exam.uploaded_at, Exam.created_at)
_UNTOLD = or_(Exam.state != "signed", Exam.acknowledged_at.is_(None))  # not read, or told to nobody


def _exam_lane(lane: Lane, asked: _Asked) -> ColumnElement[bool]:
    """Which exams stand in a lane; within `_exam_filters`."""
    whole = URGENCIES[UrgencyReason.NONE]
    unread = Exam.state.in_(UNSIGNED)
    match lane:
        case "urgent":
            return and_(Exam.urgency < URGENT_BELOW, Exam.state.in_((*UNSIGNED, "signed")), _UNTOLD)
        case "overdue":
            return and_(unread, Exam.urgency >= URGENT_BELOW, Exam.uploaded_at < asked.read_before)
        case "incomplete":
            return and_(unread, Exam.urgency.between(URGENT_BELOW, whole - 1), Exam.uploaded_at >= asked.read_before)
        case "to_read":
            return and_(unread, Exam.urgency >= whole, Exam.uploaded_at >= asked.read_before)
        case "empty":
            return and_(unread, Exam.urgency >= URGENT_BELOW, Exam.uploaded_at.is_(None))
        case "closed":
            return and_(
                Exam.state.in_(("signed", "cancelled")),
                ~and_(Exam.urgency < URGENT_BELOW, Exam.state == "signed", _UNTOLD),
            )
        case _:  # "exams"
            return Exam.state == asked.query.state


def _people_lane(lane: Lane, asked: _Asked) -> ColumnElement[bool]:
    """Which infants stand in a lane; within `_people_filters`."""
    match lane:
        case "missed":
            return Patient.due_by < asked.today
        case "due":
            begun = or_(Patient.due_from <= asked.today, Patient.due_by <= asked.today + DUE_SOON)
            return and_(Patient.due_by >= asked.today, begun)
        case "unclear":
            decision = func.coalesce(Patient.due["decision"].as_string(), "cannot say")
            return and_(Patient.due_by.is_(None), decision == "cannot say")
        case _:  # "people"
            return true()


def _exam_filters(asked: _Asked) -> list[ColumnElement[bool]]:
    query = asked.query
    found = [Exam.site_id.in_(asked.sites)]
    if query.kind:
        found.append(Patient.kind == query.kind)
    if query.camera:
        found.append(Exam.camera == query.camera)
    if query.day_from:
        found.append(Exam.day >= query.day_from)
    if query.day_to:
        found.append(Exam.day <= query.day_to)
    if asked.found is not None:
        found.append(or_(Exam.patient_id.in_(asked.found.people), Exam.id.in_(asked.found.exams)))
    elif query.search:
        found.append(_matches(asked, Patient.code, Patient.name, Exam.accession))
    return found + _due_filters(asked)


def _people_filters(asked: _Asked, lane: Lane) -> list[ColumnElement[bool]]:
    query = asked.query
    found = [Patient.site_id.in_(asked.sites), Patient.merged_into.is_(None), *_due_filters(asked)]
    if asked.found is not None:
        found.append(Patient.id.in_(asked.found.people))
    elif query.search:
        found.append(_matches(asked, Patient.code, Patient.name))
    if lane == "people":
        return [*found, Patient.kind == query.kind] if query.kind else found
    being_examined = exists().where(Exam.patient_id == Patient.id, Exam.state.in_(UNSIGNED))
    return [*found, Patient.kind == "infant", Patient.left.in_(("", "lost")), ~being_examined]


def _due_filters(asked: _Asked) -> list[ColumnElement[bool]]:
    if asked.query.due == "overdue":
        return [Patient.due_by < asked.today]
    return [Patient.due_by.between(asked.today, asked.today + DUE_SOON)] if asked.query.due == "week" else []


def _task_filters(asked: _Asked) -> list[ColumnElement[bool]]:
    mine = aliased(Reading)
    own = mine.exam_id == ReadingTask.exam_id, mine.reader_id == asked.caller.user_id, mine.signed_at.is_not(None)
    found = [
        ReadingTask.site_id.in_(asked.sites),
        ReadingTask.done_at.is_(None),
        Exam.state != "cancelled",
        or_(ReadingTask.open_from.is_(None), ReadingTask.open_from <= asked.today),
        or_(
            ReadingTask.reader_id == asked.caller.user_id, and_(ReadingTask.reader_id.is_(None), ~exists().where(*own))
        ),
    ]
    return [*found, Patient.kind == asked.query.kind] if asked.query.kind else found


def _find_words(session: Session, asked: _Asked) -> _Found | None:
    """What the search finds, gone through once; None where nothing is searched, or more is found than a statement may name."""
    if not asked.query.search:
        return None
    people = select(Patient.id).where(Patient.site_id.in_(asked.sites), _matches(asked, Patient.code, Patient.name))
    exams = select(Exam.id).where(Exam.site_id.in_(asked.sites), Exam.accession != "", _matches(asked, Exam.accession))
    found = _Found(*(tuple(session.scalars(rows.limit(_MOST_NAMED + 1))) for rows in (people, exams)))
    return found if max(len(found.people), len(found.exams)) <= _MOST_NAMED else None


def _matches(asked: _Asked, *columns: Any) -> ColumnElement[bool]:
    """Whether a column holds the words of the search, in capital letters or small ones."""
    words = "%" + re.sub(r"([%_\\])", r"\\\1", asked.query.search) + "%"
    if asked.dialect == "sqlite":  # its LIKE looks past capitals by itself
        return or_(*(column.like(words, escape="\\") for column in columns))
    return or_(*(column.ilike(words, escape="\\") for column in columns))


def _after(lane: _LaneQuery, after: Sequence[Any] | None) -> Select[Any]:
    """The rows of a lane in their order, those behind the cursor's row."""
    rows = lane.rows.order_by(*(key.desc() if lane.downwards else key for key in lane.keys))
    if after is None:
        return rows
    try:
        values = [TypeAdapter(kind).validate_python(value) for kind, value in zip(lane.types, after, strict=True)]
    except (ValidationError, ValueError):
        raise _bad_cursor() from None
    mark = tuple_(*(literal(value, key.type) for value, key in zip(values, lane.keys, strict=True)))
    keys = tuple_(*lane.keys)
    return rows.where(keys < mark if lane.downwards else keys > mark)


def _write_cursor(lane: Lane, keys: Iterable[Any] | None) -> str:
    values = None if keys is None else [key.isoformat() if isinstance(key, date) else key for key in keys]
    return base64.urlsafe_b64encode(json.dumps([lane, values]).encode()).decode()


def _read_cursor(cursor: str, lanes: Sequence[Lane]) -> tuple[Lane | None, Sequence[Any] | None]:
    if not cursor:
        return None, None
    try:
        lane, values = json.loads(base64.urlsafe_b64decode(cursor))
        if lane not in lanes or not (values is None or isinstance(values, list)):
            raise ValueError
    except (ValueError, TypeError):
        raise _bad_cursor() from None
    return lane, values


def _bad_cursor() -> InvalidError:
    return InvalidError(_("The cursor is none of this list. Take it from `next`, with the same filters."), "cursor")


# --- rows for people and programs


def _count(session: Session, asked: _Asked, lanes: Sequence[Lane]) -> dict[Lane, int]:
    """How many rows each lane holds, asked for together."""
    counts: dict[Lane, int] = dict.fromkeys(lanes, 0)
    people = [lane for lane in lanes if lane in _INFANT_LANES and lane != "people"]
    exams = [lane for lane in lanes if lane not in (*_INFANT_LANES, "again")]
    for condition in _count_parts(asked, exams):
        lane = _exam_lane_name(asked)
        rows = _with_patients(select(lane, func.count()).select_from(Exam), asked)
        for name, n in session.execute(rows.where(*_exam_filters(asked), condition).group_by("lane")):
            counts[name] += n
    if people:
        rows = select(*(func.sum(case((_people_lane(lane, asked), 1), else_=0)) for lane in people))
        any_lane = or_(*(_people_lane(lane, asked) for lane in people))  # before each one's exams are looked at
        found = session.execute(rows.where(any_lane, *_people_filters(asked, people[0]))).one()
        counts |= {lane: int(n or 0) for lane, n in zip(people, found, strict=True)}
    for lane in set(lanes) & {"people", "again"}:
        rows = _lane_query(lane, asked).rows.with_only_columns(func.count(), maintain_column_froms=True)
        counts[lane] = session.scalar(rows) or 0
    return counts


def _count_parts(asked: _Asked, exams: Sequence[Lane]) -> list[ColumnElement[bool]]:
    """Which exams the lanes hold together, in parts that an index gives each."""
    if not exams:
        return []
    if asked.query.state:
        return [Exam.state == asked.query.state]
    untold = and_(Exam.state == "signed", Exam.urgency < URGENT_BELOW, Exam.acknowledged_at.is_(None))
    return [true()] if "closed" in exams else [Exam.state.in_(UNSIGNED), untold]


def _exam_lane_name(asked: _Asked) -> ColumnElement[Any]:
    """The lane in which an exam stands, as `_exam_lane` says it."""
    if asked.query.state:
        return literal("exams").label("lane")
    lanes = [(_exam_lane("closed", asked), "closed")] if asked.query.search else []
    lanes += [
        (Exam.urgency < URGENT_BELOW, "urgent"),
        (Exam.uploaded_at.is_(None), "empty"),
        (Exam.uploaded_at < asked.read_before, "overdue"),
        (Exam.urgency < URGENCIES[UrgencyReason.NONE], "incomplete"),
    ]
    return case(*lanes, else_="to_read").label("lane")


def _describe(session: Session, asked: _Asked, found: Sequence[tuple[Lane, int]]) -> list[WorklistItem]:
    """The rows as they are shown; each kind of row, and what stands beside it, is asked for once."""
    sites = {site.id: site for site in session.scalars(select(Site).where(Site.id.in_(asked.sites)))}
    of_exams = [number for lane, number in found if lane not in (*_INFANT_LANES, "again")]
    of_people = [number for lane, number in found if lane in _INFANT_LANES]
    tasks = [number for lane, number in found if lane == "again"]
    with_patient = select(Exam, Patient).join(Patient, Exam.patient_id == Patient.id).where(Exam.id.in_(of_exams))
    exams = {exam.id: (exam, patient) for exam, patient in session.execute(with_patient)} if of_exams else {}
    wanted = select(Patient).where(Patient.id.in_(of_people))
    people = {patient.id: patient for patient in session.scalars(wanted)} if of_people else {}
    beside = _Beside.find(session, [exam for exam, _ in exams.values()])
    hidden = find_hidden(session, asked.caller, of_exams)
    masked = (
        set(session.scalars(masked_exams(asked.caller).where(ReadingTask.exam_id.in_(hidden)))) if hidden else set()
    )
    grown = [exam.id for exam, patient in exams.values() if patient.kind == "adult" and exam.id not in hidden]
    nicking = summarise_nicking(session, grown)
    again = _describe_tasks(session, tasks, sites) if tasks else {}
    items = []
    for lane, number in found:
        if lane == "again":
            items.append(again[number])
        elif lane in _INFANT_LANES:
            patient = people[number]
            items.append(_describe_person(lane, patient, sites[patient.site_id]))
        else:
            exam, patient = exams[number]
            item = _describe_exam(lane, exam, patient, sites[exam.site_id], asked)
            if exam.id in hidden:
                told = item.reason != UrgencyReason.SUSPECTED and exam.id not in masked
                item = item.model_copy(update={"reason": item.reason if told else "hidden", "highest_p": None})
            more = {
                "photographs": beside.photographs.get(exam.id, 0),
                "acknowledged_by": beside.names.get(exam.acknowledged_by or 0, ""),
            }
            items.append(item.model_copy(update={**more, **nicking.get(exam.id, {})}))
    return items


@dataclass(frozen=True)
class _Beside:
    """What stands beside exams: how many photographs they have, and the names of people."""

    photographs: dict[int, int]
    names: dict[int, str]

    @classmethod
    def find(cls, session: Session, exams: Sequence[Exam]) -> _Beside:
        """Of these exams, in two statements at most."""
        if not exams:
            return cls({}, {})
        shown = ExamPhotograph.exam_id.in_([exam.id for exam in exams]), ExamPhotograph.state != "withdrawn"
        counted = select(ExamPhotograph.exam_id, func.count()).where(*shown).group_by(ExamPhotograph.exam_id)
        named = {exam.acknowledged_by for exam in exams} - {None}
        people = select(User.id, User.full_name).where(User.id.in_(named))
        return cls(dict(session.execute(counted).all()), dict(session.execute(people).all()) if named else {})


def _describe_tasks(session: Session, tasks: Sequence[int], sites: Mapping[int, Site]) -> dict[int, WorklistItem]:
    rows = select(ReadingTask, Patient.kind).join(Exam, ReadingTask.exam_id == Exam.id)
    rows = rows.join(Patient, Exam.patient_id == Patient.id).where(ReadingTask.id.in_(tasks))
    return {
        task.id: WorklistItem(
            lane="again", site=task.site_id, site_name=sites[task.site_id].name, kind=kind, exam=task.exam_id, task=task.id,
            adjudication=task.kind == "adjudication",
        )
        for task, kind in session.execute(rows)
    }  # fmt: skip


def _describe_person(lane: Lane, patient: Patient, site: Site) -> WorklistItem:
    return WorklistItem(
        lane=lane, site=site.id, site_name=site.name, kind=patient.kind, patient=patient.id, code=patient.code, name=patient.name,
        due_from=patient.due_from, due_by=patient.due_by, decision=str((patient.due or {}).get("decision") or ""),
        left=patient.left,
    )  # fmt: skip


def _describe_exam(lane: Lane, exam: Exam, patient: Patient, site: Site, asked: _Asked) -> WorklistItem:
    left = None
    if exam.uploaded_at is not None and exam.state in UNSIGNED:
        left = (exam.uploaded_at + READ_WITHIN - asked.at).total_seconds() / 3600
    age = None
    if patient.birth_date is not None and patient.gestational_age is not None:
        age = patient.gestational_age + (exam.day - patient.birth_date).days
    return WorklistItem(
        lane=lane, site=site.id, site_name=site.name, kind=patient.kind, exam=exam.id, patient=patient.id, code=patient.code,
        name=patient.name, day=exam.day, postmenstrual_age=age, camera=exam.camera, accession=exam.accession, state=exam.state,
        reason=exam.urgency_reason, urgent=exam.urgency < URGENT_BELOW, highest_p=exam.highest_p, waiting=exam.photographs_waiting,
        missing_views=exam.missing_views, uploaded_at=exam.uploaded_at, signed_at=exam.signed_at, hours_left=left,
        acknowledged_at=exam.acknowledged_at, due_from=patient.due_from, due_by=patient.due_by,
    )  # fmt: skip


def summarise_nicking(session: Session, exams: Sequence[int]) -> Mapping[int, dict[str, Any]]:
    """Of each exam of an adult that was graded `worst_nicking`, `crossings` and `vessels`, as in `WorklistItem`."""
    if not exams:
        return {}
    wanted = ExamPhotograph.exam_id.in_(exams), ExamPhotograph.state == "graded"
    rows = (
        select(ExamPhotograph.exam_id, Grading.photograph_id, Grading.rows)
        .join(Grading)
        .where(*wanted)
        .order_by(Grading.id)
    )
    newest = {photograph: (exam, graded) for exam, photograph, graded in session.execute(rows)}
    found: dict[int, dict[str, Any]] = {}
    most: dict[int, int] = {}
    for exam, graded in newest.values():
        entry = found.setdefault(exam, {"worst_nicking": None, "crossings": 0, "vessels": None})
        crossings = [row for row in graded.get("rows", ()) if row.get("crossing") is not None]
        grades = [row["grade"] for row in crossings if row.get("grade") is not None]
        entry["worst_nicking"] = max([*grades, *({entry["worst_nicking"]} - {None})], default=None)
        entry["crossings"] += len(crossings)
        if graded.get("photograph") and len(crossings) >= most.get(exam, 0):
            entry["vessels"], most[exam] = graded["photograph"], len(crossings)
    return found
