"""What studies are made of, taken out of the room without telling who it was: a cohort of infants, graded patches of adults.

A ZIP that is written while it is sent: `plan_cohort` or `plan_patches` decides in one transaction what goes in and writes the log;
`stream_cohort` and `stream_patches` then read the photographs one by one. Photographs are read and written anew as PNG, so that
nothing of their files' own data stays; patients, exams and sites bear coded names (HMAC-SHA256 with the room's secret, the same in
every export of the room); no day, no name, no note, no file name goes out. What is left out stands in `left_out.csv` with its reason.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import cv2
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.orm import Session, defer, selectinload

from fundoscope.errors import FundoscopeError, counted
from fundoscope.imaging import Pixels, read
from fundoscope.server.models import Exam, ExamPhotograph, EyeReading, Patient, Reading, RoomSecret
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.services import audit
from fundoscope.server.services.agreement import sees_rop
from fundoscope.server.services.exam_state import DECIDING_KINDS, classify_eye
from fundoscope.server.services.inputs import BLANK_IS_NONE, Number
from fundoscope.server.services.judging import photograph_file
from fundoscope.server.services.readings import APART
from fundoscope.server.services.second_readings import needs_treatment
from fundoscope.server.services.sheets import write_sheet
from fundoscope.server.settings import ServerSettings

COHORT_COLUMNS = (
    "image", "label", "treatment_requiring", "infant", "eye", "exam", "view", "gestational_age", "birth_weight",
    "postmenstrual_weeks", "camera", "site", "zone", "stage", "plus", "read_masked", "readers",
)  # fmt: skip
PATCH_COLUMNS = (
    "number", "patch", "photograph", "row", "column", "reader_1", "reader_2", "settled", "span", "vein_px", "slope", "found_by",
)  # fmt: skip
_LEFT_OUT_COLUMNS = ("image", "eye", "reason")
_WEIGHT_STEP = 50  # g, to which birth weights are rounded
_ONE_MARK = 0.01  # of a photograph's width, within which what two readers have added is one crossing
_STEP = 1 << 16  # bytes of a piece of the answer


class ExportQuery(BaseModel):
    """Of which site (all of the caller's where it is blank) and of exams of which days, both included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    site: Annotated[Number | None, BLANK_IS_NONE] = None
    day_from: Annotated[date | None, BLANK_IS_NONE] = None
    day_to: Annotated[date | None, BLANK_IS_NONE] = None


@dataclass(frozen=True, slots=True)
class ExportedPhotograph:
    """A photograph that goes out: the SHA-256 that names its file, its name in the ZIP, and its row of the table."""

    digest: str
    image: str
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GradedCrossing:
    """What readers said of a crossing of a photograph, and where it was found (pixels); below 0 one that readers have added."""

    crossing: int
    row: float
    col: float
    reader_1: int | None
    reader_2: int | None
    settled: int | None


@dataclass
class ExportPlan:
    """What goes out, and what does not. `crossings` are by the names of photographs."""

    photographs: list[ExportedPhotograph] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    crossings: dict[str, list[GradedCrossing]] = field(default_factory=lambda: defaultdict(list))
    exams_unsigned: int = 0

    def leave_out(self, image: str, eye: str, reason: str) -> None:
        """Note that a photograph stays here, and why."""
        self.left_out.append({"image": image, "eye": eye, "reason": reason})


def plan_cohort(session: Session, caller: Caller, query: ExportQuery) -> ExportPlan:
    """The photographs of infants whose exams are signed, with the labels of the readings that speak for the exams.

    Raises `NotAllowedError` for technicians, `NotFoundError` for a site of others.
    """
    plan, code = ExportPlan(), _coder(session, caller, query)
    seen: set[tuple[str, int]] = set()
    for exam, patient, readings in _signed_exams(session, caller, query, "infant", plan):
        current = _current(readings)
        eyes = {eye.eye: eye for eye in current.eyes}
        readers = len({each.reader_id for each in readings if each.kind in ("first", "second", "adjudication")})
        for photograph in exam.photographs:
            image = f"photographs/{code('photograph', photograph.id)}.png"
            reason, label = _find_label(photograph, eyes.get(photograph.eye))
            if not reason and (photograph.digest, patient.id) in seen:
                reason = "the same file is in the table already"
            if reason:
                plan.leave_out(image, photograph.eye, reason)
                continue
            seen.add((photograph.digest, patient.id))
            eye = eyes[photograph.eye]
            row = {
                "image": image, "label": label, "treatment_requiring": _word(_treatment(eye, label)),
                "infant": f"infant-{code('patient', patient.id)}", "eye": photograph.eye, "exam": f"exam-{code('exam', exam.id)}",
                "view": photograph.view, "camera": exam.camera, "site": f"site-{code('site', exam.site_id)[:6]}",
                "zone": eye.zone, "stage": eye.stage, "plus": eye.plus, "read_masked": _word(current.masked), "readers": readers,
                **_ages(patient, exam),
            }  # fmt: skip
            plan.photographs.append(ExportedPhotograph(photograph.digest, image, row))
    _record(session, caller, query, "export.cohort", plan)
    return plan


def plan_patches(session: Session, caller: Caller, query: ExportQuery) -> ExportPlan:
    """The photographs of adults of which readers graded crossings, with these grades; errors as `plan_cohort`."""
    plan, code = ExportPlan(), _coder(session, caller, query)
    for exam, patient, readings in _signed_exams(session, caller, query, "adult", plan):
        first, third = _current(readings, but="adjudication"), _of_kind(readings, "adjudication")
        numbers = {photograph.id: photograph for photograph in exam.photographs}
        keys, places = _number_crossings(readings, numbers)
        settled = _grades_of(_current(readings), keys) if third is not None else {}
        one, two = _grades_of(first, keys), _grades_of(_of_kind(readings, "second"), keys)
        for photograph_id, crossing in sorted(places, key=lambda key: (key[0], key[1] < 0, abs(key[1]))):
            photograph, key = numbers.get(photograph_id), (photograph_id, crossing)
            grades = (one.get(key), two.get(key), settled.get(key))
            if photograph is None or photograph.state != "graded" or grades == (None, None, None):
                continue
            image = code("photograph", photograph.id)
            alone = grades[0] if not two and third is None else grades[2]  # of one reader, the grade counts as settled
            listed = plan.crossings[image]
            number = crossing if crossing > 0 else -1 - sum(each.crossing < 0 for each in listed)
            listed.append(GradedCrossing(number, *places[key], grades[0], grades[1], alone))
        for photograph in exam.photographs:
            image = code("photograph", photograph.id)
            if image in plan.crossings:
                row = {"photograph": f"adult-{code('patient', patient.id)}"}
                plan.photographs.append(ExportedPhotograph(photograph.digest, image, row))
            elif photograph.state != "withdrawn":
                plan.leave_out(image, photograph.eye, "no crossing of it was graded by a reader")
    _record(session, caller, query, "export.patches", plan)
    return plan


def stream_cohort(settings: ServerSettings, plan: ExportPlan) -> Iterator[bytes]:
    """The ZIP of a cohort, piece by piece: `photographs/`, `cohort.csv`, `left_out.csv`, `README.md`."""
    archive = _StreamedZip()
    rows = []
    for photograph in plan.photographs:
        try:
            pixels = read(photograph_file(settings, photograph.digest), photograph.image).pixels
        except FundoscopeError:
            plan.leave_out(photograph.image, str(photograph.row["eye"]), "its file could not be read")
            continue
        yield from archive.add(photograph.image, _encode(pixels))
        rows.append(photograph.row)
    yield from archive.add("cohort.csv", write_sheet(COHORT_COLUMNS, rows).encode())
    yield from archive.add("left_out.csv", write_sheet(_LEFT_OUT_COLUMNS, plan.left_out).encode())
    yield from archive.add("README.md", _describe_cohort(rows, plan).encode())
    yield from archive.close()


def stream_patches(settings: ServerSettings, plan: ExportPlan) -> Iterator[bytes]:
    """The ZIP of graded patches, piece by piece: `pictures/`, `patches.csv`, `left_out.csv`, `README.md`.

    Each photograph is mapped again, some seconds each, and its crossings are cut as `fundoscope nicking cut-patches` cuts them.
    """
    from fundoscope.nicking.grade_study.patch_table import WIDE_SPAN
    from fundoscope.nicking.reading.cut import PatchCutter  # loads the bundle's networks

    archive = _StreamedZip()
    rows: list[dict[str, Any]] = []
    cutter = PatchCutter.open() if plan.photographs else None
    for photograph in plan.photographs:
        assert cutter is not None
        try:
            marked = [(one.row, one.col) for one in plan.crossings[photograph.image] if one.crossing < 0]
            graded = cutter.cut(photograph_file(settings, photograph.digest), photograph.image, marked)
        except FundoscopeError:
            plan.leave_out(photograph.image, "", "its file could not be read")
            continue
        found = {row["crossing"]: row for row in map(_as_row, graded.findings)}
        pictures = {picture.crossing: picture for picture in graded.evidence}
        for one in plan.crossings[photograph.image]:
            again = found.get(one.crossing)
            if again is None or math.hypot(again["row"] - one.row, again["col"] - one.col) > APART:
                plan.leave_out(photograph.image, "", f"crossing {one.crossing} is not found again where it was graded")
                continue
            added = one.crossing < 0
            patch = f"pictures/{photograph.image}_{'added_' if added else ''}{abs(one.crossing):02d}.png"
            yield from archive.add(patch, _encode(pictures[one.crossing].wide))
            rows.append({
                "number": len(rows) + 1, "patch": patch, "photograph": photograph.row["photograph"], "row": again["row"],
                "column": again["col"], "reader_1": one.reader_1, "reader_2": one.reader_2, "settled": one.settled,
                "span": WIDE_SPAN, "vein_px": again["vein_px"], "slope": again["slope"],
                "found_by": "reader" if added else "tool",
            })  # fmt: skip
    yield from archive.add("patches.csv", write_sheet(PATCH_COLUMNS, rows).encode())
    yield from archive.add("left_out.csv", write_sheet(_LEFT_OUT_COLUMNS, plan.left_out).encode())
    yield from archive.add("README.md", _describe_patches(rows, plan).encode())
    yield from archive.close()


# --- what goes out


def _coder(session: Session, caller: Caller, query: ExportQuery) -> Callable[[str, int], str]:
    """The function that codes the number of a row: 16 hexadecimal digits that nobody without the room's secret can undo."""
    caller.require(Role.READER, Role.ADMINISTRATOR)
    if query.site is not None:
        caller.require_site(query.site)
    key = session.get_one(RoomSecret, "export")
    return lambda noun, number: key.digest(noun, number).hex()[:16]


def _signed_exams(
    session: Session, caller: Caller, query: ExportQuery, kind: str, plan: ExportPlan
) -> Iterator[tuple[Exam, Patient, list[Reading]]]:
    """The signed exams of that kind of patient, oldest first, with their signed readings; others are counted in the plan."""
    sites = [query.site] if query.site is not None else sorted(caller.sites)
    wanted = [Exam.site_id.in_(sites), Patient.kind == kind, Exam.state != "cancelled"]
    wanted += [Exam.day >= query.day_from] if query.day_from else []
    wanted += [Exam.day <= query.day_to] if query.day_to else []
    exams = session.execute(
        select(Exam, Patient).join(Patient, Exam.patient_id == Patient.id).where(*wanted).order_by(Exam.day, Exam.id)
        .options(selectinload(Exam.photographs))
    ).all()  # fmt: skip
    readings: dict[int, list[Reading]] = defaultdict(list)
    of_exams = select(Exam.id).join(Patient, Exam.patient_id == Patient.id).where(*wanted)
    for reading in session.scalars(
        select(Reading)
        .where(Reading.exam_id.in_(of_exams), Reading.signed_at.is_not(None))
        .options(selectinload(Reading.eyes), selectinload(Reading.crossings), defer(Reading.basis), defer(Reading.due))
        .order_by(Reading.signed_at, Reading.id)
    ):
        readings[reading.exam_id].append(reading)
    for exam, patient in exams:
        if exam.state == "signed" and any(each.kind in DECIDING_KINDS for each in readings[exam.id]):
            yield exam, patient, readings[exam.id]
        else:
            plan.exams_unsigned += 1


def _current(readings: Sequence[Reading], but: str = "") -> Reading:
    """The newest signed reading that speaks for the exam, as `readings.current_reading` finds it; of other kinds than `but`."""
    superseded = {each.supersedes for each in readings if each.kind != but}
    wanted = [each for each in readings if each.kind in DECIDING_KINDS and each.kind != but]
    return next((each for each in reversed(wanted) if each.id not in superseded), wanted[-1])


def _of_kind(readings: Sequence[Reading], kind: str) -> Reading | None:
    return next((each for each in reversed(readings) if each.kind == kind), None)


def _find_label(photograph: ExamPhotograph, eye: EyeReading | None) -> tuple[str, str]:
    """Why a photograph stays here, or blank, and its label: that of its eye."""
    causes = {
        "withdrawn": "it was withdrawn", "refused": "the tool refused it", "failed": "it could not be graded",
        "waiting": "it waits to be judged",
    }  # fmt: skip
    if photograph.state in causes:
        return causes[photograph.state], ""
    if not photograph.eye or not photograph.placed:
        return "nobody has confirmed which eye it shows", ""
    rop = sees_rop(eye) if eye is not None else None
    if rop is None:
        return "the reading does not say whether its eye has ROP", ""
    return "", "rop" if rop else "normal"


def _treatment(eye: EyeReading, label: str) -> bool | None:
    return needs_treatment(classify_eye(eye)) if label == "rop" else False


def _ages(patient: Patient, exam: Exam) -> dict[str, Any]:
    """Ages in weeks and days, the weight rounded: what subgroups need, and no day of a calendar."""
    age, weight = patient.gestational_age, patient.birth_weight
    older = None if age is None or patient.birth_date is None else age + (exam.day - patient.birth_date).days
    days = "" if patient.gestational_age_in_weeks or age is None else f"+{age % 7}"
    return {
        "gestational_age": None if age is None else f"{age // 7}{days}",
        "birth_weight": None if weight is None else round(weight / _WEIGHT_STEP) * _WEIGHT_STEP,
        "postmenstrual_weeks": None if older is None else older // 7,
    }


def _grades_of(reading: Reading | None, keys: Mapping[int, tuple[int, int]]) -> dict[tuple[int, int], int | None]:
    return {} if reading is None else {keys[each.id]: each.grade for each in reading.crossings}


def _number_crossings(
    readings: Sequence[Reading], photographs: Mapping[int, ExamPhotograph]
) -> tuple[dict[int, tuple[int, int]], dict[tuple[int, int], tuple[float, float]]]:
    """Photograph and number of each row of `crossing_readings`, and the place of each crossing.

    What several readings have added at one place of a photograph is one crossing; they are numbered from -1 down.
    """
    keys: dict[int, tuple[int, int]] = {}
    places: dict[tuple[int, int], tuple[float, float]] = {}
    counts = Counter[int]()
    for each in (each for reading in readings for each in reading.crossings):
        key = each.photograph_id, each.crossing
        if each.added:
            photograph = photographs.get(each.photograph_id)
            width = photograph.width if photograph is not None else None
            reach = max(APART, _ONE_MARK * (width or 0))
            near = [
                known for known, (row, col) in places.items()
                if known[0] == each.photograph_id and known[1] < 0 and math.hypot(row - each.row, col - each.col) <= reach
            ]  # fmt: skip
            if not near:
                counts[each.photograph_id] += 1
            key = near[0] if near else (each.photograph_id, -counts[each.photograph_id])
        keys[each.id] = key
        places.setdefault(key, (each.row, each.col))
    return keys, places


def _as_row(finding: Any) -> dict[str, Any]:
    return {name: getattr(finding, name) for name in ("crossing", "row", "col", "vein_px", "slope")}


def _word(value: bool | None) -> str:
    return {True: "yes", False: "no", None: ""}[value]


def _record(session: Session, caller: Caller, query: ExportQuery, action: str, plan: ExportPlan) -> None:
    audit.record(
        session, caller, action, site_id=query.site, photographs=len(plan.photographs), left_out=len(plan.left_out),
        day_from=str(query.day_from or ""), day_to=str(query.day_to or ""),
    )  # fmt: skip


def _encode(pixels: Pixels) -> bytes:
    """A PNG that holds the pixels and nothing else."""
    done, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    assert done
    return encoded.tobytes()


# --- the ZIP and what it says of itself


class _StreamedZip:
    """A ZIP whose bytes are given as they come; one day for all entries, so that it tells no time."""

    def __init__(self) -> None:
        self._buffer = _Drained()
        self._zip = zipfile.ZipFile(self._buffer, "w", zipfile.ZIP_STORED)

    def add(self, name: str, content: bytes) -> Iterator[bytes]:
        """Add a file, and give what has become ready."""
        entry = zipfile.ZipInfo(name)
        entry.external_attr = 0o600 << 16
        if Path(name).suffix != ".png":
            entry.compress_type = zipfile.ZIP_DEFLATED
        self._zip.writestr(entry, content)
        yield from self._buffer.drain()

    def close(self) -> Iterator[bytes]:
        """End the archive."""
        self._zip.close()
        yield from self._buffer.drain()


class _Drained(io.RawIOBase):
    """A file that can only be written on, and gives what was written."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Hold the bytes until they are drained."""
        self._held += data
        return len(data)

    def drain(self) -> Iterator[bytes]:
        """All bytes held, in pieces."""
        held, self._held = bytes(self._held), bytearray()
        for start in range(0, len(held), _STEP):
            yield held[start : start + _STEP]


def _describe_cohort(rows: Sequence[Mapping[str, Any]], plan: ExportPlan) -> str:
    labels = Counter(row["label"] for row in rows)
    infants = len({row["infant"] for row in rows})
    return f"""# Photographs of infants with the labels of readers

{counted(len(rows), "photograph")} of {counted(infants, "infant")}: {labels["rop"]} labelled rop, {labels["normal"]} normal. {_told(plan)}
Made by fundoscope {version("fundoscope")}. Research use only.

## How a photograph got its label
The label is of the EYE in that exam, from the signed reading that speaks for the exam (the first, its correction, or the third reader's
where two differed); every graded photograph of the eye has it, also one that does not show the finding.
rop: stage 1 or more, plus disease, or A-ROP. normal: stage 0, or fully vascularised without plus. An eye that could not be graded, has
regressed, or whose findings leave it open is left out.
treatment_requiring: yes for type 1 of ETROP or A-ROP, no for other findings and for normal eyes, blank where a finding was not said.
read_masked: the reader did not see the tool's answer. Where it is no, the label leans to the tool: judge the tool on masked ones.
readers: how many people read the exam.

## What was taken out
Names, numbers of the hospital, days, notes, names of files, and all data of the photographs' files (they were written anew as PNG).
infant, exam, site and image are coded with a secret of the room, alike in each of its exports; the room alone can lead back. Ages are in
weeks, birth weights are rounded to {_WEIGHT_STEP} g. A photograph of a retina, and an age with a weight, may still tell somebody apart:
this is coded data, not anonymous data. Keep it as such.

## What to do with it
    fundoscope cohort audit cohort.csv
    fundoscope rop evaluate cohort.csv --out evaluation
    fundoscope rop study cohort.csv --out study
`infant` groups: studies never split an infant. left_out.csv names what is not here, and why.
"""


def _describe_patches(rows: Sequence[Mapping[str, Any]], plan: ExportPlan) -> str:
    people = len({row["photograph"] for row in rows})
    return f"""# Crossings of adults with the grades of readers

{counted(len(rows), "patch")} of {counted(people, "adult")}. {_told(plan)}
Made by fundoscope {version("fundoscope")}. Research use only.

The patches are cut as `fundoscope nicking cut-patches` cuts them; `patches.csv` has its columns, and `found_by`: tool, or reader for a
crossing that the tool had missed and a reader has marked by hand, whose middle lies within some pixels. reader_1 is the first reading (as
corrected), reader_2 the masked second one, settled the third reader's, or that of the only reader. 0 to 3; blank where a reader could not
grade it. `photograph` is the coded name of the PATIENT, so that a study never splits one. Names, days and the data of the photographs'
files are taken out; this is coded data, not anonymous data.

    fundoscope nicking agreement patches.csv --out agreement
    fundoscope nicking study-grades patches.csv --out study
"""


def _told(plan: ExportPlan) -> str:
    text = f"{len(plan.left_out)} are left out (left_out.csv)" if plan.left_out else "Nothing is left out"
    return f"{text}; {plan.exams_unsigned} exams are not signed and not here."
