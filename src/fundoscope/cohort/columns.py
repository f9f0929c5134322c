"""The columns of a cohort's table and the words that may stand in them."""

from __future__ import annotations

import math
import re
import unicodedata
from difflib import get_close_matches

from fundoscope.cohort.sheet import is_blank, parse_number
from fundoscope.errors import CohortError

COLUMNS = ("image", "label", "treatment_requiring", "infant", "eye", "exam")

#: Columns of numbers that studies make subgroups of: what is plausible in an infant, and the unit.
MEASURES = {"gestational_age": (18.0, 46.0, "weeks"), "birth_weight": (200.0, 7000.0, "g")}

#: In the order of the class numbers: 0 is normal, 1 is rop.
LABELS = ("normal", "rop")

#: Other words for a label, without spaces and signs. A word that could be meant otherwise (0, yes, negative) is not among them.
_OTHER_WORDS = {
    **dict.fromkeys(("healthy", "norop", "nonrop", "notrop", "withoutrop", "ropabsent", "noretinopathy",
                     "noretinopathyofprematurity", "withoutretinopathy", "withoutretinopathyofprematurity"), "normal"),
    **dict.fromkeys(("retinopathyofprematurity", "withrop"), "rop"),
}  # fmt: skip
_NUMBERS_AND_ANSWERS = frozenset({"yes", "no", "y", "n", "true", "false", "positive", "negative", "+", "pos", "neg"})
_SLIP = 0.8  # likeness from which a word is taken for a misspelt label

_TREATMENTS = {"yes": True, "no": False}
_EYES = {"left": "left", "l": "left", "os": "left", "right": "right", "r": "right", "od": "right"}

# 28+3, 28w3d, 28 weeks 3 days, 28 3/7: weeks and days
_WEEKS_AND_DAYS = re.compile(r"(\d{2})\s*(?:\+|w|wk|weeks|\s)\s*([0-6])\s*(?:/7|d|days)?", re.IGNORECASE)
_UNITS = re.compile(r"\s*(?:weeks?|wks?|w|g|grams?)\.?$", re.IGNORECASE)

# 123456789012 in a spreadsheet's narrow column, saved as 1.23457E+11: other infants' numbers become the same
_ROUNDED = re.compile(r"\d([.,]\d+)?e\+\d{2,}", re.IGNORECASE)
# 3-1 in a spreadsheet, saved as 03-Jan or Jan-03
_MONTH = "(jan|feb|mar|mrz|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)"
_DATED = re.compile(rf"\d{{1,2}}[-. ]+{_MONTH}|{_MONTH}[-. ]+\d{{1,4}}", re.IGNORECASE)


def parse_label(text: str, where: str) -> str:
    """The label, normal or rop, whatever its capital letters; also from plain words for them, such as "no ROP".

    Raises `CohortError` for a blank and for any other word. The opposite label is never proposed: a number, or a word with
    an added "no" or sign, gets no proposal at all.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    word = re.sub(r"(?<=[^\W_])[\s_\-\u2010-\u2015.]+(?=[^\W_])", "", plain)  # not at its end: "ROP -" is no ROP
    if label := word if word in LABELS else _OTHER_WORDS.get(word):
        return label
    if is_blank(text):
        raise CohortError(f"{where}: the label is blank ('{text}'). Write normal or rop, or remove the row.")
    if re.fullmatch(r"[\d.,]+", word) or word in _NUMBERS_AND_ANSWERS:
        number = "" if word in _NUMBERS_AND_ANSWERS else "is a number, which "
        raise CohortError(f"{where}: the label '{text}' {number}can mean either. Write normal or rop in its place.")
    close = [
        label for label in LABELS if abs(len(word) - len(label)) < 2 and get_close_matches(word, [label], 1, _SLIP)
    ]
    sure = plain.isalpha() and close and word[0] == close[0][0]
    hint = f"; did you mean '{close[0]}'?" if sure else "."
    raise CohortError(f"{where}: the label '{text}' is unknown{hint} Write normal or rop.")


def parse_name(text: str, column: str, where: str) -> str | None:
    """The name of an infant or an exam; None where the cell is blank.

    Raises `CohortError` for what a spreadsheet made of a name: a formula, a long number that was rounded, a date.
    """
    if is_blank(text):
        return None
    if _ROUNDED.fullmatch(text):
        raise CohortError(
            f"{where}: the {column} '{text}' is a long number that a spreadsheet has rounded. "
            "Format the column as text, fill it in anew, and save the table again."
        )
    if column == "infant" and _DATED.fullmatch(text):
        raise CohortError(
            f"{where}: the infant '{text}' looks like a name that a spreadsheet took for a date (3-1 becomes 03-Jan). "
            "Format the column as text, fill it in anew, and save the table again."
        )
    if text.startswith("="):
        raise CohortError(f"{where}: the {column} '{text}' is a formula. Write its value.")
    return text


def parse_treatment(text: str, label: str, where: str) -> bool | None:
    """Whether treatment is required, from yes or no; None where the cell is blank. Raises `CohortError` for other words."""
    if is_blank(text):
        return None
    if text.casefold() not in _TREATMENTS:
        raise CohortError(f"{where}: treatment_requiring is '{text}'. Write yes, no, or leave it blank.")
    treatment = _TREATMENTS[text.casefold()]
    if treatment and label == "normal":
        raise CohortError(f"{where}: treatment_requiring is yes, but the label is normal. Correct one of the two.")
    return treatment


def treatment_word(value: bool | None) -> str:
    """The word that `parse_treatment` reads as `value`."""
    return {True: "yes", False: "no", None: ""}[value]


def parse_eye(text: str, where: str) -> str | None:
    """Left or right, also from L, R, OS (left) and OD (right); None where the cell is blank. Raises `CohortError`."""
    if is_blank(text):
        return None
    if text.casefold() not in _EYES:
        raise CohortError(
            f"{where}: the eye '{text}' is unknown. Write left (L, OS), right (R, OD), or leave it blank."
        )
    return _EYES[text.casefold()]


def parse_measure(text: str, column: str, where: str) -> float:
    """The number in a column of `MEASURES`, in its unit; nan where the cell is blank. Weeks may have days: 28+3 is 28.43.

    Raises `CohortError` for other text, and for what no infant has: a weight in kilograms, an age in days.
    """
    low, high, unit = MEASURES[column]
    try:
        if days := _WEEKS_AND_DAYS.fullmatch(text) if unit == "weeks" else None:
            number = int(days[1]) + int(days[2]) / 7
        else:
            number = parse_number(_UNITS.sub("", text))
    except ValueError as fault:
        raise CohortError(f"{where}: {column} {fault}. Write it in {unit}, or leave it blank.") from None
    if not math.isnan(number) and not low <= number <= high:
        raise CohortError(
            f"{where}: {column} '{text}' is not {low:g} to {high:g} {unit}. Write it in {unit}, or leave it blank."
        )
    return number
