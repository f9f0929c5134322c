"""Gestational and postmenstrual ages to the day, and dates, read from the ways in which people write them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import date, timedelta

from fundoscope.cohort.columns import MEASURES
from fundoscope.cohort.sheet import is_blank
from fundoscope.errors import UsageError

_WEEK = r"\s*(?:weeks?|wks?|w|周)\.?"
_WEEKS_AND_DAYS = re.compile(
    rf"(\d+)(?:\s*\+\s*|{_WEEK}\s*(?:\+|and)?\s*|\s+)(\d+)\s*(?:/\s*7)?\s*(?:days?|d|天)?\.?", re.IGNORECASE
)
_WEEKS = re.compile(rf"(\d+)(?:[.,](\d+))?(?:{_WEEK})?", re.IGNORECASE)
_ISO_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")


@dataclass(frozen=True, slots=True)
class GestationalAge:
    """Age at birth in days since the last menstrual period; `whole_weeks` where the days beyond the week were not given."""

    days: int
    whole_weeks: bool = False

    def __str__(self) -> str:
        return format_age(self.days)


def format_age(days: int) -> str:
    """An age in days as weeks+days: 199 is 28+3."""
    return f"{days // 7}+{days % 7}"


def parse_age(text: str) -> int:
    """The days of an age written as weeks+days, as the files of guidelines have it; `ValueError` for other text."""
    match = re.fullmatch(r"(\d{2})\+([0-6])", text)
    if not match:
        raise ValueError(f"'{text}' is no age. Write weeks+days, such as 28+3")
    return int(match[1]) * 7 + int(match[2])


def parse_gestational_age(text: str, where: str) -> GestationalAge | None:
    """The gestational age in a cell; None where it is blank.

    Read are 28+3, 28w3d, 28 weeks 3 days, 28 3/7, 28周3天; whole weeks (28 is 28+0, and `whole_weeks` says so); and weeks with
    two or more decimals to the nearest day, a half day counted down (28.43 is 28+3, 27.50 is 27+3).

    One decimal from 1 to 6 is refused, since 27.5 is written for 27+5 and for 27 and a half weeks. Raises `UsageError` for
    that, for other text and for what no infant has.
    """
    if is_blank(text):
        return None
    plain = unicodedata.normalize("NFKC", text).strip()
    remedy = "Write weeks and days, such as 28+3."
    if match := _WEEKS_AND_DAYS.fullmatch(plain):
        weeks, days = int(match[1]), int(match[2])
        if days > 6:
            raise UsageError(f"{where}: gestational_age '{text}' has {days} days; a week has 0 to 6. {remedy}")
        age = GestationalAge(weeks * 7 + days)
    elif match := _WEEKS.fullmatch(plain):
        age = _parse_weeks(int(match[1]), match[2], text, where)
    else:
        raise UsageError(f"{where}: gestational_age '{text}' is no age. {remedy}")
    low, high, _ = MEASURES["gestational_age"]
    if not low * 7 <= age.days <= high * 7:
        raise UsageError(f"{where}: gestational_age '{text}' is not {low:g} to {high:g} weeks. {remedy}")
    return age


def _parse_weeks(weeks: int, decimals: str | None, text: str, where: str) -> GestationalAge:
    """The age of a number of weeks with its digits behind the point, if it has any."""
    if decimals is None:
        return GestationalAge(weeks * 7, whole_weeks=True)
    parts, scale = int(decimals) * 7, 10 ** len(decimals)
    day = -((scale - 2 * parts) // (2 * scale))  # rounded, a half down
    if len(decimals) == 1 and decimals in "123456":
        raise UsageError(
            f"{where}: gestational_age '{text}' can mean {weeks} weeks and {decimals} days ({weeks}+{decimals}), or "
            f"{weeks}.{decimals} weeks ({weeks}+{day}). Write it as weeks+days; a number with two decimals ({weeks}.{decimals}0) "
            "is read as weeks."
        )
    return GestationalAge(weeks * 7 + day, whole_weeks=parts == 0)


def parse_date(text: str, column: str, where: str) -> date | None:
    """The date in a cell, YYYY-MM-DD; None where it is blank. Raises `UsageError` for any other way of writing it."""
    if is_blank(text):
        return None
    match = _ISO_DATE.fullmatch(unicodedata.normalize("NFKC", text).strip())
    try:
        if match:
            return date(int(match[1]), int(match[2]), int(match[3]))
        cause = "is not written as YYYY-MM-DD"
        if re.fullmatch(r"\d{5}(\.\d+)?", text):
            cause = "is a spreadsheet's number of days"
        elif parts := re.fullmatch(r"(0?\d|1[0-2])[./-](0?\d|1[0-2])[./-](\d{2}|\d{4})", text):
            cause = f"can mean day {parts[1]} of month {parts[2]}, or day {parts[2]} of month {parts[1]}"
    except ValueError:
        cause = "is no day of the calendar"
    raise UsageError(f"{where}: {column} '{text}' {cause}. Write year, month and day, such as 2024-03-05.")


def postmenstrual_age(birth_date: date, gestational_age: GestationalAge, day: date) -> int:
    """Postmenstrual age on a day, in days: gestational age at birth + days since birth."""
    return gestational_age.days + (day - birth_date).days


def date_of_age(birth_date: date, gestational_age: GestationalAge, days: int) -> date:
    """The day on which the infant reaches a postmenstrual age in days; before its birth where it was born older."""
    return birth_date + timedelta(days=days - gestational_age.days)
