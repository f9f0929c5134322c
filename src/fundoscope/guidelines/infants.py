"""The table of infants: one row an infant without exams, or a row an exam of an eye, read into immutable records."""

from __future__ import annotations

import math
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TypeVar

from fundoscope.cohort.columns import MEASURES, parse_eye, parse_name
from fundoscope.cohort.sheet import Sheet, SheetRow, is_blank, parse_number, read_sheet
from fundoscope.cohort.spellings import describe_spellings, find_two_spellings
from fundoscope.errors import CohortError, FundoscopeError, UsageError
from fundoscope.guidelines.ages import GestationalAge, parse_date, parse_gestational_age, postmenstrual_age
from fundoscope.guidelines.rules import Plus, Regression, Stage, Zone

NEEDED_COLUMNS = ("infant", "birth_date", "gestational_age", "birth_weight_g")
EXAM_COLUMNS = ("exam_date", "eye", "zone", "stage", "plus", "vascularised", "treated", "regression")
#: For the rule G-ROP; gains of weight in g on days 10 to 19, 20 to 29, 30 to 39.
RISK_COLUMNS = ("weight_gain_10_19_g", "weight_gain_20_29_g", "weight_gain_30_39_g", "hydrocephalus")

T = TypeVar("T")
_TOLD = 5  # faults that one message names

_ZONES: dict[str, Zone] = {"i": "I", "1": "I", "ii": "II", "2": "II", "posterior ii": "II", "iii": "III", "3": "III"}
_STAGES: dict[str, Stage] = {
    **dict.fromkeys(("0", "no", "no rop", "immature"), "0"),
    "1": "1", "2": "2", "3": "3",
    **dict.fromkeys(("4", "4a", "4b"), "4"),
    **dict.fromkeys(("5", "5a", "5b", "5c"), "5"),
    **dict.fromkeys(("a-rop", "arop", "ap-rop", "aprop"), "A-ROP"),
}  # fmt: skip
_PLUS: dict[str, Plus] = {
    **dict.fromkeys(("no", "0", "no plus", "absent"), "no"),
    **dict.fromkeys(("pre-plus", "preplus", "pre plus"), "pre-plus"),
    **dict.fromkeys(("plus", "yes", "+", "present"), "plus"),
}
_REGRESSIONS: dict[str, Regression] = {word: word for word in ("no", "regressing", "regressed", "reactivated")}
_YES_NO = {"yes": True, "y": True, "no": False, "n": False}


@dataclass(frozen=True, slots=True)
class EyeExam:
    """What one exam found in one eye; None where it was not written down.

    `line` is the row of the table. `treated` is whether the eye was treated by then. An eye without ROP has stage 0, and `zone`
    is then how far its vessels reach.
    """

    line: int
    day: date
    eye: str | None
    zone: Zone | None = None
    stage: Stage | None = None
    plus: Plus | None = None
    vascularised: bool = False
    treated: bool = False
    regression: Regression = "no"


@dataclass(frozen=True, slots=True)
class ScreenedInfant:
    """One infant with its exams, oldest first; None where something is not known. Weights in g.

    `weight_gains` are those on days 10 to 19, 20 to 29 and 30 to 39. `line` is the first row that names the infant.
    """

    name: str
    line: int
    birth_date: date | None
    gestational_age: GestationalAge | None
    birth_weight_g: float | None
    exams: tuple[EyeExam, ...] = ()
    weight_gains: tuple[float | None, float | None, float | None] = (None, None, None)
    hydrocephalus: bool | None = None

    def age_on(self, day: date) -> int | None:
        """Postmenstrual age on a day, in days; None where birth date or gestational age are not known."""
        if self.birth_date is None or self.gestational_age is None:
            return None
        return postmenstrual_age(self.birth_date, self.gestational_age, day)

    def latest_exams(self) -> tuple[EyeExam, ...]:
        """The last exam of each eye that has one; an eye that was treated once stays treated."""
        last = {exam.eye: exam for exam in self.exams}
        return tuple(last.values())


def read_infants(path: str | Path, on: date) -> tuple[ScreenedInfant, ...]:
    """The infants of a table, in the order in which they are first named, as known on the day `on`.

    Raises `UsageError` that names the rows and what to do: for cells that cannot be read, what no infant has, days after `on`,
    exams before birth, rows of one infant that contradict each other, and names in two spellings. Nothing is left out.
    """
    sheet = read_sheet(path, NEEDED_COLUMNS)
    sheet.check_columns(NEEDED_COLUMNS, (*EXAM_COLUMNS, *RISK_COLUMNS))
    if not len(sheet):
        raise UsageError(f"{sheet.name}: the table has no rows. Write a row for each infant.")
    faults: list[FundoscopeError] = []
    named = [_attempt(faults, parse_infant_name, row) for row in sheet]
    lines = {at: row.line for at, row in enumerate(sheet)}
    for spellings in find_two_spellings(named):
        faults.append(UsageError(f"{sheet.name}: {describe_spellings('infant', spellings, lines)}"))
    rows: dict[str, list[SheetRow]] = defaultdict(list)
    for name, row in zip(named, sheet, strict=True):
        if name is not None:
            rows[name].append(row)
    infants = [_attempt(faults, lambda name=name: read_infant(name, rows[name], on)) for name in rows]
    _raise_faults(faults, sheet)
    return tuple(infant for infant in infants if infant is not None)


def read_infant(name: str, rows: Sequence[SheetRow], on: date) -> ScreenedInfant:
    """One infant from its rows, with all their faults in one `UsageError`."""
    faults: list[FundoscopeError] = []

    def one(column: str, parse: Callable[[str, str, str], T | None]) -> T | None:
        return _attempt(faults, lambda: _agree(rows, column, parse))

    birth = one("birth_date", parse_date)
    age = one("gestational_age", lambda text, _, where: parse_gestational_age(text, where))
    weight = one("birth_weight_g", _parse_weight)
    first, second, third = (one(column, _parse_gain) for column in RISK_COLUMNS[:3])
    hydrocephalus = one("hydrocephalus", _parse_yes_no)
    exams = [exam for row in rows for exam in _attempt(faults, read_exams, row) or ()]
    where = {row.line: row.where for row in rows}
    if birth is not None and birth > on:
        remedy = "Correct it, or give a later day with --on."
        faults.append(UsageError(f"{rows[0].where}: birth_date {birth} is after {on}. {remedy}"))
    exams.sort(key=lambda exam: exam.day)
    faults += [fault for exam in exams if (fault := _find_day_fault(exam, birth, on, where[exam.line]))]
    faults += _find_contradictions(exams, where)
    if faults:
        raise UsageError(" ".join(map(str, faults)))
    return ScreenedInfant(
        name, rows[0].line, birth, age, weight, carry_treatment(exams), (first, second, third), hydrocephalus
    )


def parse_infant_name(row: SheetRow) -> str:
    """The infant of a row; `UsageError` where the cell is blank or a spreadsheet has spoilt the name."""
    name = parse_name(row["infant"], "infant", row.where)
    if name is None:
        raise UsageError(f"{row.where}: the infant is blank. Write its name or number in each of its rows.")
    return name


def read_exams(row: SheetRow) -> tuple[EyeExam, ...]:
    """The exam in a row, of one eye or (`both`, `OU`) of two; none where all its cells are blank."""
    filled = [column for column in EXAM_COLUMNS if not is_blank(row[column]) or row[column].casefold() == "none"]
    if not filled:
        return ()
    day = parse_date(row["exam_date"], "exam_date", row.where)
    if day is None:
        raise UsageError(
            f"{row.where}: exam_date is blank, but {', '.join(filled)} is filled. Write the day of the exam."
        )
    both = row["eye"].casefold() in ("both", "ou")
    exam = EyeExam(
        row.line,
        day,
        "right" if both else parse_eye(row["eye"], row.where),
        _parse_word(row, "zone", _ZONES, "I, II or III"),
        _parse_word(row, "stage", _STAGES, "0 for no ROP, 1 to 5, or A-ROP"),
        _parse_word(row, "plus", _PLUS, "no, pre-plus or plus"),
        _parse_yes_no(row["vascularised"], "vascularised", row.where) or False,
        _parse_yes_no(row["treated"], "treated", row.where) or False,
        _parse_word(row, "regression", _REGRESSIONS, "no, regressing, regressed or reactivated") or "no",
    )
    return (exam, replace(exam, eye="left")) if both else (exam,)


def _find_day_fault(exam: EyeExam, birth: date | None, on: date, where: str) -> UsageError | None:
    if birth is not None and exam.day < birth:
        return UsageError(f"{where}: exam_date {exam.day} is before the birth_date {birth}. Correct one of the two.")
    if exam.day > on:
        return UsageError(f"{where}: exam_date {exam.day} is after {on}. Correct it, or give a later day with --on.")
    return None


def _find_contradictions(exams: Iterable[EyeExam], where: dict[int, str]) -> list[UsageError]:
    """Two rows for one eye on one day."""
    faults: list[UsageError] = []
    seen: dict[tuple[str | None, date], EyeExam] = {}
    for exam in exams:
        other = seen.setdefault((exam.eye, exam.day), exam)
        if other is not exam:
            eye = exam.eye or "unnamed"
            faults.append(
                UsageError(
                    f"{where[exam.line]}: the {eye} eye has another row for {exam.day}, row {other.line}. Keep one of the two."
                )
            )
    return faults


def carry_treatment(exams: Iterable[EyeExam]) -> tuple[EyeExam, ...]:
    """The exams, an eye's later ones than a treatment marked as treated too; an unnamed eye may be either."""
    treated: set[str | None] = set()
    carried = []
    for exam in exams:
        if exam.treated:
            treated.add(exam.eye)
        carried.append(replace(exam, treated=exam.eye in treated or None in treated))
    return tuple(carried)


def _parse_word(row: SheetRow, column: str, words: dict[str, T], allowed: str) -> T | None:
    text = row[column]
    if text.casefold() == "none":  # of two meanings, and one of them would let an eye wait
        raise UsageError(
            f"{row.where}: {column} 'none' can mean that there is none, or that it was not written down. Write {allowed}, or leave it blank."
        )
    if is_blank(text):
        return None
    word = unicodedata.normalize("NFKC", text).casefold().strip(" 区期").removesuffix(".0")
    word = word if word in words else word.removeprefix(column).strip()  # zone II, stage 2
    if word not in words:
        raise UsageError(f"{row.where}: {column} '{text}' is unknown. Write {allowed}, or leave it blank.")
    return words[word]


def _parse_yes_no(text: str, column: str, where: str) -> bool | None:
    if is_blank(text):
        return None
    if text.casefold() not in _YES_NO:
        raise UsageError(f"{where}: {column} '{text}' is unknown. Write yes or no, or leave it blank.")
    return _YES_NO[text.casefold()]


def _parse_weight(text: str, column: str, where: str) -> float | None:
    low, high, _ = MEASURES["birth_weight"]
    return _parse_grams(text, column, where, low, high)


def _parse_gain(text: str, column: str, where: str) -> float | None:
    return _parse_grams(text, column, where, -1000, 2000)


def _parse_grams(text: str, column: str, where: str, low: float, high: float) -> float | None:
    try:
        grams = parse_number(text.removesuffix("g").strip())
    except ValueError as fault:
        raise UsageError(f"{where}: {column} {fault}. Write it in g, such as 1250, or leave it blank.") from None
    if math.isnan(grams):
        return None
    if not low <= grams <= high:
        raise UsageError(
            f"{where}: {column} '{text}' is not {low:g} to {high:g} g. Write it in g, such as 1250, or leave it blank."
        )
    return grams


def _agree(rows: Iterable[SheetRow], column: str, parse: Callable[[str, str, str], T | None]) -> T | None:
    """The one value of a column in all rows of an infant, blanks left out."""
    found: T | None = None
    first = None
    for row in rows:
        value = parse(row[column], column, row.where)
        if value is None:
            continue
        if first is not None and value != found:
            raise UsageError(
                f"{row.where}: {column} is '{row[column]}', but row {first.line} of the same infant says '{first[column]}'. Correct one of the two."
            )
        found, first = value, first or row
    return found


def _attempt(faults: list[FundoscopeError], work: Callable[..., T], *arguments: object) -> T | None:
    """The result, or None and one more fault."""
    try:
        return work(*arguments)
    except (UsageError, CohortError) as fault:
        faults.append(fault)
        return None


def _raise_faults(faults: Sequence[Exception], sheet: Sheet) -> None:
    if faults:
        more = (
            f" And {len(faults) - _TOLD} more infants or rows of {sheet.name} have faults."
            if len(faults) > _TOLD
            else ""
        )
        raise UsageError(" ".join(map(str, faults[:_TOLD])) + more)
