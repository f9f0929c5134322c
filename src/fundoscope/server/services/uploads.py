"""Photographs in: what was sent is looked at, kept, and written down with the job that judges it, so that nothing accepted is lost.

The way of an upload: a route streams its files into a folder of its own (`incoming_folder`); `sort_files` opens archives and refuses
what is no photograph; `keep_files` moves the rest to its place, under the digest of its bytes, and forces it onto the disk;
`add_photographs` writes rows and jobs in one transaction and gives the receipt. What is cut off before that leaves no row, and
whoever sent it has no receipt; the same file sent again is the same row.
"""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session, joinedload

from fundoscope.errors import PhotographError
from fundoscope.folders import is_hidden
from fundoscope.imaging import DicomHeader
from fundoscope.languages import gettext as _
from fundoscope.languages import kept_text, translate_kept
from fundoscope.outputs import flush_to_disk
from fundoscope.server.errors import ConflictError, InvalidError, NotFoundError
from fundoscope.server.models import Exam, ExamPhotograph
from fundoscope.server.models.base import table_of
from fundoscope.server.permissions import CLINICAL, EVERYBODY, Caller, get_owned
from fundoscope.server.scratch import clear_scratch, make_scratch
from fundoscope.server.services import audit, jobs, judging
from fundoscope.server.services.archives import ArchiveError, unpack
from fundoscope.server.services.exam_state import refresh_exam
from fundoscope.server.services.inputs import Line, is_unseen
from fundoscope.server.services.patients import write_correction
from fundoscope.server.services.placing import PlaceGuess, guess_place
from fundoscope.server.services.sniffing import SniffedPhotograph, is_archive, sniff_photograph
from fundoscope.server.settings import ServerSettings, UploadLimits

_INCOMING = "incoming"
_LONGEST_NAME = 200  # characters that are shown
_WRONG_PATIENT = kept_text("Its header names the patient {code}. Is it the right patient?")
_WRONG_BIRTH = kept_text(
    "Its header says that the patient was born on {born}, and the room {known}. Is it the right patient?"
)
_WRONG_NAME = kept_text("Its header calls the patient {name}. Is it the right patient?")
_SAME_FILE = kept_text("Exam {number} of another patient holds this very file. Is it the right patient?")
_WRONG_DAY = kept_text("It was taken on {taken}, and the exam is of {day}. Is it the right exam?")
_LONGEST_UID = 64  # characters (PS3.5, 9.1)


#: What every upload asks, built once.
_EXAMS, _PHOTOGRAPHS = table_of(Exam), table_of(ExamPhotograph)
_OPENED = (
    select(Exam)
    .where(Exam.id == bindparam("exam"), Exam.site_id.in_(bindparam("sites", expanding=True)))
    .options(joinedload(Exam.patient, innerjoin=True))
    .with_for_update(of=Exam)
    .execution_options(populate_existing=True)
)
_STATE = select(_EXAMS.c.state).where(
    _EXAMS.c.id == bindparam("exam"), _EXAMS.c.site_id.in_(bindparam("sites", expanding=True))
)
_ANY_SAME = (
    select(_PHOTOGRAPHS.c.id)
    .where(_PHOTOGRAPHS.c.digest.in_(bindparam("digests", expanding=True)), _PHOTOGRAPHS.c.site_id == bindparam("site"))
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file as it was sent: its name, with folders where the browser tells them; where it lies; its size and SHA-256."""

    name: str
    file: Path
    size: int
    digest: str
    header: DicomHeader | None = None  # of a DICOM file, where it was read already


@dataclass(frozen=True, slots=True)
class SortedFile:
    """What was found out about one file: a photograph to be taken, or `refused` with the reason."""

    name: str
    sent: SentFile | None = None
    facts: SniffedPhotograph | None = None
    guess: PlaceGuess = field(default_factory=PlaceGuess)
    refused: str = ""


class ReceiptItem(BaseModel):
    """What became of one file.

    `outcome`: `accepted`; `already` (the exam holds this very file, as `photograph_id`); `refused` (`reason` says why and what to do).
    `remark` is what a person should look at though the file was accepted.
    """

    file: str
    outcome: Literal["accepted", "already", "refused"]
    reason: str = ""
    remark: str = ""
    photograph_id: int | None = None
    eye: str = ""
    view: str = ""


class UploadReceipt(BaseModel):
    """What became of each file that was sent, in its order."""

    exam_id: int
    accepted: int
    already: int
    refused: int
    items: list[ReceiptItem]


class PhotographPlace(BaseModel):
    """Eye and view of a photograph, as a person says; `why` is needed where another person had said otherwise."""

    model_config = ConfigDict(extra="forbid")

    eye: Literal["right", "left"]
    view: Literal["disc", "macula", "temporal", "nasal", "superior", "inferior", "other"]
    why: Line = ""


class Withdrawal(BaseModel):
    """Why a photograph is taken out of its exam."""

    model_config = ConfigDict(extra="forbid")

    why: Annotated[Line, Field(min_length=1)]


# --- before the transaction


def check_upload(session: Session, caller: Caller, exam_id: int, limits: UploadLimits | None = None) -> None:
    """Whether the caller may send photographs to an exam now, and with `limits` whether the queue has room: raises what `add_photographs` would."""
    caller.require(*CLINICAL)
    _require_open(session.connection().scalar(_STATE, {"exam": exam_id, "sites": list(caller.sites)}), exam_id)
    if limits is not None:
        jobs.require_place(session, limits.waiting_jobs, kind=judging.KIND)


@contextmanager
def incoming_folder(settings: ServerSettings) -> Generator[Path]:
    """A folder for the files of one request, on the file system where photographs are kept; it is gone afterwards."""
    folder = make_scratch(settings.data / _INCOMING)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear_incoming(settings: ServerSettings) -> None:
    """Remove what uploads left that were cut off with their process."""
    clear_scratch(settings.data / _INCOMING)


def sort_files(sent: Iterable[SentFile], folder: Path, limits: UploadLimits) -> list[SortedFile]:
    """Every file that was sent, archives opened, with what its header tells or why it is refused; hidden files are left out."""
    found: list[SortedFile] = []
    left = limits.upload_bytes
    for each in sent:
        if is_hidden(Path(clean_name(each.name)).name):
            continue
        if not each.size or not is_archive(each.file):
            found.append(sort_one(each, limits))
            continue
        try:
            for entry in unpack(each.file, folder, limits, limits.files - len(found), left):
                left -= entry.size
                name = f"{Path(clean_name(each.name)).stem}/{entry.name}"
                if entry.refused:
                    found.append(SortedFile(name, refused=entry.refused))
                elif entry.file is not None:
                    found.append(sort_one(SentFile(name, entry.file, entry.size, entry.digest), limits))
        except ArchiveError as error:
            found.append(SortedFile(each.name, refused=str(error)))
        each.file.unlink(missing_ok=True)
    return found


def sort_one(sent: SentFile, limits: UploadLimits) -> SortedFile:
    """One file that is no archive, with what its header tells or why it is refused."""
    if sent.size > limits.file_bytes:
        reason = _("It is larger than {most} MB. Export it smaller.").format(most=limits.file_bytes >> 20)
        return SortedFile(sent.name, refused=reason)
    try:
        facts = sniff_photograph(sent.file, clean_name(sent.name), limits.pixels, sent.header)
    except PhotographError as error:
        return SortedFile(sent.name, refused=f"{_(error.cause)}. {_(error.remedy)}")
    guess, written = guess_place(sent.name), guess_place(facts.view)
    return SortedFile(
        sent.name, sent, facts, replace(guess, eye=facts.eye or guess.eye, view=written.view or guess.view)
    )


def keep_files(found: Iterable[SortedFile], settings: ServerSettings) -> None:
    """Move photographs to their places, each under its digest, whole and forced onto the disk before anything names it."""
    folders: set[Path] = set()
    for each in found:
        if each.sent is None:
            continue
        place = judging.photograph_file(settings, each.sent.digest)
        folders.add(place.parent)  # of one that is there, too: who put it there may not have come so far
        with suppress(FileNotFoundError):
            os.utime(place)  # counted upon from now on: `sweeping` leaves it alone
            continue
        if not place.parent.is_dir():
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folders.add(place.parent.parent)
        flush_to_disk(each.sent.file)
        each.sent.file.chmod(0o600)
        each.sent.file.replace(place)
    for folder in folders:
        flush_to_disk(folder)


# --- the transaction


def add_photographs(
    session: Session, caller: Caller, exam_id: int, found: Sequence[SortedFile], limits: UploadLimits
) -> UploadReceipt:
    """Write down the photographs of an upload, and the jobs that judge them; the receipt names every file.

    Raises `ConflictError` where the exam is not open, and `BusyError` where the queue is full; then nothing of it was taken.
    """
    exam = _open_exam(session, caller, exam_id)
    digests = {each.sent.digest for each in found if each.sent is not None}
    there, elsewhere = _find_same(session, exam, digests, {sop_instance_of(each) for each in found} - {""})
    jobs.require_place(session, limits.waiting_jobs, len(digests - there.keys()), judging.KIND)
    items = []
    added: list[ExamPhotograph] = []
    for each in found:
        shown = clean_name(each.name)
        if each.sent is None or each.facts is None:
            items.append(ReceiptItem(file=shown, outcome="refused", reason=each.refused))
            continue
        known = there.get(each.sent.digest) or there.get(sop_instance_of(each))
        if known is None:
            known = there[each.sent.digest] = _add_one(session, caller, exam, each, shown)
            if known.sop_instance:
                there[known.sop_instance] = known
            added.append(known)
            known.remark = _remark(exam, each, elsewhere.get(each.sent.digest))
            items.append(
                ReceiptItem(file=shown, outcome="accepted", remark=translate_kept(known.remark), photograph_id=known.id, eye=known.eye, view=known.view)
            )  # fmt: skip
            continue
        reason = _("The exam holds this very file already.")
        if known.state == "withdrawn":
            reason = _(
                "The exam holds this very file, and somebody withdrew it. Bring it back there, or photograph again."
            )
        items.append(
            ReceiptItem(file=shown, outcome="already", reason=reason, photograph_id=known.id, eye=known.eye, view=known.view)
        )  # fmt: skip
    if added:
        judging.ask_to_judge(session, added, exam.patient, caller.user_id)
        refresh_exam(session, exam)
    counts = {name: sum(item.outcome == name for item in items) for name in ("accepted", "already", "refused")}
    audit.record(
        session, caller, "photographs.add", "exam", exam.id, exam.site_id,
        photographs=[photograph.id for photograph in added], **counts,
    )  # fmt: skip
    return UploadReceipt(exam_id=exam.id, items=items, **counts)


def _open_exam(session: Session, caller: Caller, exam_id: int) -> Exam:
    """The exam, locked, with its patient; `get_owned` in one question to the database."""
    caller.require(*CLINICAL)
    exam = session.scalar(_OPENED, {"exam": exam_id, "sites": list(caller.sites)})
    _require_open(None if exam is None else exam.state, exam_id)
    assert exam is not None
    return exam


def _require_open(state: str | None, exam_id: int) -> None:
    if state is None:
        raise NotFoundError(Exam.noun, exam_id)
    if state != "open":
        raise ConflictError(_("Photographs can be added while an exam is open, and this one is not. Reopen it first."))


def _add_one(session: Session, caller: Caller, exam: Exam, found: SortedFile, shown: str) -> ExamPhotograph:
    sent, facts = found.sent, found.facts
    assert sent is not None
    assert facts is not None
    photograph = ExamPhotograph(
        site_id=exam.site_id, exam_id=exam.id, digest=sent.digest, file_name=shown, file_bytes=sent.size,
        media_type=facts.media_type, width=facts.width, height=facts.height, eye=found.guess.eye, view=found.guess.view,
        taken_at=facts.taken_at or (found.guess.day.isoformat() if found.guess.day else ""), camera=facts.camera,
        study=short_uid(facts.header.study) if facts.header else "", sop_instance=sop_instance_of(found),
        created_by=caller.user_id, created_via=caller.via,
    )  # fmt: skip
    session.add(photograph)
    session.flush()
    return photograph


def _find_same(
    session: Session, exam: Exam, digests: set[str], instances: set[str]
) -> tuple[dict[str, ExamPhotograph], dict[str, int]]:
    """Photographs with these bytes or UIDs: those of the exam by both, and by their bytes the exams of other patients that hold them.

    One of two patients with the same photograph is a mistake.
    """
    asked = {"site": exam.site_id, "digests": list(digests)}
    if not instances and session.connection().scalar(_ANY_SAME, asked) is None:
        return {}, {}
    same = ExamPhotograph.digest.in_(digests)
    same = same | ExamPhotograph.sop_instance.in_(instances) if instances else same
    query = (
        select(ExamPhotograph, Exam.patient_id)
        .join(Exam, Exam.id == ExamPhotograph.exam_id)
        .where(same, ExamPhotograph.site_id == exam.site_id)
    )
    rows = session.execute(query).all() if digests else []
    there = {name: row for row, _ in rows if row.exam_id == exam.id for name in (row.sop_instance, row.digest) if name}
    elsewhere = {
        row.digest: row.exam_id for row, patient in rows if patient != exam.patient_id and row.state != "withdrawn"
    }
    return there, elsewhere


def sop_instance_of(found: SortedFile) -> str:
    """The UID of a DICOM photograph; blank for a file of another kind."""
    return short_uid(found.facts.header.sop_instance) if found.facts and found.facts.header else ""


def short_uid(uid: str) -> str:
    """A UID; blank where it is longer than UIDs are, or holds what cannot be seen."""
    return uid if len(uid) <= _LONGEST_UID and uid.isascii() and uid.isprintable() else ""


def _remark(exam: Exam, found: SortedFile, elsewhere: int | None) -> str:
    """What a person should look at though the photograph was taken, in English, as it is kept."""
    facts, patient = found.facts, exam.patient
    remarks = list(facts.doubts) if facts else []
    named = facts.patient if facts else ""
    if named and patient.code not in (named, named.split(" (")[0]):
        remarks.append(_WRONG_PATIENT.format(code=named[:64]))
    elif facts and facts.header:
        born = facts.header.birth_date
        if born and patient.birth_date is not None and born != patient.birth_date.isoformat():
            remarks.append(_WRONG_BIRTH.format(born=born, known=patient.birth_date))
        name = facts.header.patient_name
        if names_differ(name, patient.name):
            remarks.append(_WRONG_NAME.format(name=" ".join(re.split(r"[\^=\s]+", name))[:200]))
    if elsewhere is not None:
        remarks.append(_SAME_FILE.format(number=elsewhere))
    day = taken_day(facts.taken_at if facts else "") or found.guess.day
    if day is not None and day != exam.day:
        remarks.append(_WRONG_DAY.format(taken=day, day=exam.day))
    return " ".join(remarks)


def names_differ(name: str, other: str) -> bool:
    """Whether two names share no word (in Latin letters) and no letter (in Chinese and Japanese ones); of two scripts nothing is said."""
    for parts in (r"[^\W\d_\u2e80-\uffff]{2,}", r"[\u2e80-\uffff]"):
        one, two = (set(re.findall(parts, unicodedata.normalize("NFKC", each).casefold())) for each in (name, other))
        if one and two:
            return not one & two
    return False


def taken_day(taken_at: str) -> date | None:
    """The day of `ExamPhotograph.taken_at`; None where it tells none."""
    try:
        return date.fromisoformat(taken_at[:10])
    except ValueError:
        return None


def clean_name(path: str) -> str:
    """The name of a file without its folders, as it can be shown anywhere; "photograph" where nothing is left."""
    name = unicodedata.normalize("NFC", path).replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = "".join(letter for letter in name if not is_unseen(letter))
    name = " ".join(name.split())
    if len(name) > _LONGEST_NAME:
        stem, dot, ending = name.rpartition(".")
        ending = f"{dot}{ending}" if stem and len(ending) <= 5 else ""
        name = name[: _LONGEST_NAME - len(ending) - 1] + "…" + ending
    return name.strip() or "photograph"


# --- eye and view, withdrawing


def place_photograph(session: Session, caller: Caller, photograph_id: int, place: PhotographPlace) -> ExamPhotograph:
    """Confirm eye and view, or put them right, which leaves a trace; a reason is needed where a person had confirmed others."""
    photograph, exam = _changeable(session, caller, photograph_id)
    changed = [name for name in ("eye", "view") if getattr(photograph, name) != getattr(place, name)]
    if changed and photograph.placed and not place.why:
        raise InvalidError(_("Eye and view of this photograph were confirmed. Write why they change."), "why")
    for name in changed:
        if getattr(photograph, name):  # a guess that was blank is filled in, not put right
            why = place.why or _("guessed from the name of the file")
            write_correction(session, caller, photograph, name, getattr(photograph, name), getattr(place, name), why)
        setattr(photograph, name, getattr(place, name))
    photograph.placed = True
    refresh_exam(session, exam)
    audit.record(
        session, caller, "photograph.place", "photograph", photograph.id, photograph.site_id, changed=changed,
        eye=place.eye, view=place.view,
    )  # fmt: skip
    return photograph


def confirm_places(session: Session, caller: Caller, exam_id: int) -> int:
    """Confirm eye and view of all photographs of an exam for which both were guessed; how many that were."""
    exam = _unsigned_exam(session, caller, exam_id)
    query = select(ExamPhotograph).where(
        ExamPhotograph.exam_id == exam.id, ExamPhotograph.placed.is_(False), ExamPhotograph.eye != "", ExamPhotograph.view != "",
        ExamPhotograph.state != "withdrawn",
    )  # fmt: skip
    guessed = session.scalars(query).all()
    for photograph in guessed:
        photograph.placed = True
    audit.record(
        session, caller, "photographs.place", "exam", exam.id, exam.site_id, photographs=[each.id for each in guessed]
    )  # fmt: skip
    return len(guessed)


def withdraw_photograph(session: Session, caller: Caller, photograph_id: int, withdrawal: Withdrawal) -> ExamPhotograph:
    """Take a photograph out of its exam: it is not deleted, is read by nobody, and can be brought back."""
    photograph, exam = _changeable(session, caller, photograph_id)
    write_correction(session, caller, photograph, "state", photograph.state, "withdrawn", withdrawal.why)
    photograph.state, photograph.withdrawn_reason = "withdrawn", withdrawal.why
    refresh_exam(session, exam)
    audit.record(session, caller, "photograph.withdraw", "photograph", photograph.id, photograph.site_id)
    return photograph


def restore_photograph(session: Session, caller: Caller, photograph_id: int) -> ExamPhotograph:
    """Bring a withdrawn photograph back, with what the grader said of it."""
    photograph, exam = _changeable(session, caller, photograph_id, withdrawn=True)
    grading = judging.newest_grading(session, photograph)
    state = "waiting" if grading is None else judging.STATES[grading.status]
    write_correction(session, caller, photograph, "state", "withdrawn", state, photograph.withdrawn_reason)
    photograph.state, photograph.withdrawn_reason = state, ""
    refresh_exam(session, exam)
    audit.record(session, caller, "photograph.restore", "photograph", photograph.id, photograph.site_id)
    return photograph


def _changeable(
    session: Session, caller: Caller, photograph_id: int, withdrawn: bool = False
) -> tuple[ExamPhotograph, Exam]:
    """A photograph of an exam that is not signed, with its exam locked."""
    caller.require(*CLINICAL)
    photograph = get_owned(session, caller, ExamPhotograph, photograph_id)
    exam = _unsigned_exam(session, caller, photograph.exam_id)
    session.refresh(photograph, with_for_update=True)
    if (photograph.state == "withdrawn") != withdrawn:
        told = (
            _("The photograph is in its exam already.")
            if withdrawn
            else _("The photograph was withdrawn. Bring it back first.")
        )
        raise ConflictError(told)
    return photograph, exam


def _unsigned_exam(session: Session, caller: Caller, exam_id: int) -> Exam:
    caller.require(*CLINICAL)
    exam = get_owned(session, caller, Exam, exam_id)
    session.refresh(exam, with_for_update=True)
    if exam.state == "cancelled":
        raise ConflictError(_("The exam is cancelled. Reopen it first."))
    if exam.state == "signed":
        raise ConflictError(_("The exam is signed. A reader can correct the reading, or add to it."))
    return exam


# --- look


def list_photographs(session: Session, exam: Exam) -> Sequence[ExamPhotograph]:
    """All photographs of an exam, withdrawn ones too, in the order in which they came."""
    return session.scalars(
        select(ExamPhotograph).where(ExamPhotograph.exam_id == exam.id).order_by(ExamPhotograph.id)
    ).all()


def view_photograph(session: Session, caller: Caller, photograph_id: int) -> tuple[ExamPhotograph, Exam]:
    """A photograph and its exam; the audit log holds who saw it."""
    caller.require(*EVERYBODY)
    photograph = get_owned(session, caller, ExamPhotograph, photograph_id)
    audit.record(session, caller, "photograph.view", "photograph", photograph.id, photograph.site_id)
    return photograph, session.get_one(Exam, photograph.exam_id)
