"""The columns of a cohort's table and the words that may stand in them."""

from __future__ import annotations

import difflib

from fundoscope.errors import CohortError, nearest

COLUMNS = ("image", "label", "treatment_requiring", "infant", "eye", "exam")

#: In the order of the class numbers: 0 is normal, 1 is rop.
LABELS = ("normal", "rop")

_TREATMENT = {"yes": True, "no": False, "": None}
_EYES = {"left": "left", "l": "left", "os": "left", "right": "right", "r": "right", "od": "right", "": None}
_ALIKE = 0.8  # a column whose name is this like one of ours, which is absent, is a slip: infants, infant_id, eyes


def match_header(header: list[str], name: str, needed: tuple[str, ...] = COLUMNS[:2]) -> dict[str, int]:
    """Where each known column stands; capital letters, spaces and hyphens in its name do not matter.

    Raises `CohortError` when a `needed` one is missing, a column stands twice, or a name is nearly one of
    ours: a column `infants` kept as an unknown one would let an infant stand on two sides of a split.
    """
    words = [word.strip().casefold().replace(" ", "_").replace("-", "_") for word in header]
    for word in filter(None, words):
        if words.count(word) > 1:
            raise CohortError(f"{name}: the column '{word}' stands twice. Remove or rename one of them.")
    place = {column: words.index(column) for column in COLUMNS if column in words}
    for column in needed:
        if column not in place:
            hint = nearest(column, [word for word in words if word and word not in place])
            raise CohortError(f"{name}: there is no column '{column}'; {hint} Name it '{column}' in the header.")
    absent = [column for column in COLUMNS if column not in place]
    for word in words:
        if word not in place and (close := difflib.get_close_matches(word, absent, n=1, cutoff=_ALIKE)):
            raise CohortError(
                f"{name}: the column '{word}' is unknown; did you mean '{close[0]}'? Rename it to that, "
                "or to something less alike."
            )
    return place


def parse_label(text: str, where: str) -> str:
    """The label, normal or rop, whatever its capital letters."""
    label = text.casefold()
    if label not in LABELS:
        raise CohortError(f"{where}: the label '{text}' is unknown; {nearest(label, LABELS)} Write normal or rop.")
    return label


def parse_treatment(text: str, label: str, where: str) -> bool | None:
    """Whether treatment is required; None where the cell is blank."""
    word = text.casefold()
    if word not in _TREATMENT:
        raise CohortError(f"{where}: treatment_requiring is '{text}'. Write yes, no, or leave it blank.")
    if _TREATMENT[word] and label == "normal":
        raise CohortError(f"{where}: treatment_requiring is yes, but the label is normal. Correct one of the two.")
    return _TREATMENT[word]


def treatment_word(value: bool | None) -> str:
    """The word that `treatment_of` reads."""
    return {True: "yes", False: "no", None: ""}[value]


def parse_eye(text: str, where: str) -> str | None:
    """left, right, or None where the cell is blank; L, R, OS (left) and OD (right) are read too."""
    word = text.casefold()
    if word not in _EYES:
        raise CohortError(
            f"{where}: the eye '{text}' is unknown. Write left (L, OS), right (R, OD), or leave it blank."
        )
    return _EYES[word]
