"""The columns of a cohort's table and the words that may stand in them."""

from __future__ import annotations

from difflib import get_close_matches

from fundoscope.cohort.sheet import is_blank
from fundoscope.errors import CohortError

COLUMNS = ("image", "label", "treatment_requiring", "infant", "eye", "exam")

#: In the order of the class numbers: 0 is normal, 1 is rop.
LABELS = ("normal", "rop")

_TREATMENTS = {"yes": True, "no": False}
_EYES = {"left": "left", "l": "left", "os": "left", "right": "right", "r": "right", "od": "right"}


def parse_label(text: str, where: str) -> str:
    """The label, normal or rop, whatever its capital letters; raises `CohortError` for any other word."""
    label = text.casefold()
    if label not in LABELS:
        close = [word for word in get_close_matches(label, LABELS, n=1, cutoff=0.8) if word[0] == label[0]]
        hint = f"; did you mean '{close[0]}'?" if close else "."  # "no rop" is near to rop, and its opposite
        raise CohortError(f"{where}: the label '{text}' is unknown{hint} Write normal or rop.")
    return label


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
