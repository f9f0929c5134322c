"""Second readings: which exams are read again, by whom, and what becomes of it.

When a first reading is signed the exam is drawn, or not, for a masked second reading by another reader, and for a masked repeat by the
same reader some weeks later. The draw is a keyed digest of the exam's number: nobody without the room's secret can foresee it, and
signing again, correcting, or asking again never changes it. How many are drawn stands in the site (`second_reading_share`,
`repeat_share`).

Two readings differ (`find_differences`) where, of one eye that both could grade, one says that it needs treatment (type 1 of ETROP, or
A-ROP) or is referral-warranted (AAP 2015) and the other does not say so; for adults where the two grade one crossing of the tool's list two
or more grades apart. Then a third reader is asked, who sees both; that reading speaks for the exam.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from fundoscope.server.models import EYES, Exam, Reading, ReadingTask, RoomSecret, Site
from fundoscope.server.permissions import Caller
from fundoscope.server.services import audit
from fundoscope.server.services.exam_state import EyeClasses, classify_eye

#: A hidden repeat comes this many days after the first reading, drawn by chance between the two.
REPEAT_AFTER_DAYS = (28, 70)
#: Grades of one crossing that are so far apart are settled by a third reader.
NICKING_APART = 2
_STEPS = 2**53  # a double holds every one of them


@dataclass(frozen=True, slots=True)
class ReadingDifference:
    """On what two readings differ: `what` is `treatment`, `referral` or `nicking`; `where` an eye, or photograph and crossing."""

    what: str
    where: str


def note_signed(session: Session, caller: Caller, reading: Reading, current: Reading | None) -> list[ReadingTask]:
    """Ask for the readings that a reading just signed leads to; called in the transaction that signs. Gives the new tasks.

    After a first reading: a second one and a repeat, where the exam is drawn. After a second one that differs from `current`, the
    reading that speaks for the exam: adjudication.
    """
    exam = session.get_one(Exam, reading.exam_id)
    session.flush()
    made: list[ReadingTask] = []
    if reading.kind == "first":
        site = session.get_one(Site, exam.site_id)
        if draw(session, "second", exam.id) < site.second_reading_share:
            made += _add_task(session, caller, exam, "second")
        if draw(session, "repeat", exam.id) < site.repeat_share:
            made += _add_task(session, caller, exam, "repeat", reader=reading.reader_id)
    elif reading.kind == "second" and current is not None and find_differences(current, reading):
        made += _add_task(session, caller, exam, "adjudication")
    return made


def draw(session: Session, purpose: str, exam_id: int) -> float:
    """A number from 0 to below 1 for an exam: always the same, and known to nobody without the room's secret."""
    digest = session.get_one(RoomSecret, "draw").digest(purpose, exam_id)
    return (int.from_bytes(digest[:8]) >> 11) / _STEPS


def find_differences(first: Reading, second: Reading) -> list[ReadingDifference]:
    """On what two readings of one exam differ, by the rule above; an eye or crossing that only one could grade is no difference."""
    found = []
    one, other = ({eye.eye: classify_eye(eye) for eye in each.eyes if eye.gradable} for each in (first, second))
    for eye in EYES:
        if eye in one and eye in other:
            for what, say in (("treatment", needs_treatment), ("referral", warrants_referral)):
                if (say(one[eye]) is True) != (say(other[eye]) is True):
                    found.append(ReadingDifference(what, eye))
    grades = {(each.photograph_id, each.crossing): each.grade for each in first.crossings if not each.added}
    for each in second.crossings:
        grade = grades.get((each.photograph_id, each.crossing))
        if grade is not None and each.grade is not None and abs(grade - each.grade) >= NICKING_APART:
            found.append(ReadingDifference("nicking", f"{each.photograph_id}:{each.crossing}"))
    return found


def needs_treatment(classes: EyeClasses) -> bool | None:
    """Type 1 of ETROP, or A-ROP; None where a finding that was not said leaves it open."""
    return True if classes.aggressive else classes.type_1


def warrants_referral(classes: EyeClasses) -> bool | None:
    """Referral-warranted, or A-ROP; None where a finding that was not said leaves it open."""
    return True if classes.aggressive else classes.referral


def _add_task(
    session: Session, caller: Caller, exam: Exam, kind: str, reader: int | None = None
) -> Sequence[ReadingTask]:
    """The task of that kind; none where the exam has one already. A repeat is put off by some weeks."""
    known = select(ReadingTask.id).where(ReadingTask.exam_id == exam.id, ReadingTask.kind == kind)
    if session.scalar(known) is not None:
        return ()
    open_from = None
    if kind == "repeat":
        first, last = REPEAT_AFTER_DAYS
        days = first + int(draw(session, "repeat-day", exam.id) * (last - first + 1))
        signed = exam.signed_at
        assert signed is not None
        open_from = signed.date() + timedelta(days=days)
    task = ReadingTask(
        site_id=exam.site_id, exam_id=exam.id, kind=kind, reader_id=reader, open_from=open_from,
        created_by=caller.user_id, created_via=caller.via,
    )  # fmt: skip
    session.add(task)
    session.flush()
    # the kind stays out of the log: readers may see it one day
    audit.record(session, caller, "reading_task.add", "reading task", task.id, exam.site_id)
    return (task,)
