"""Names that differ only in how they are written: 007, 7 and 7.0, or Ab-01 and AB 01.

Spreadsheets drop zeros and add decimals, and two people write one infant's name in two ways. Taken as two infants, they would
stand on two sides of a fold, or in two rows of a table of eyes.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping

#: What counts as a separator between the parts of a name, also the apostrophe by which a spreadsheet marks text; other signs (A+, A*) tell names apart.
_SEPARATORS = re.compile(r"[\s'‘’`\"“”_\-\u2010-\u2015\u2212.,/\\:;|#()\[\]]+")
_SURE_DIGITS = 6  # a number of so many digits, written once with and once without separators, is no chance


def spelling_key(name: str) -> tuple[str, ...]:
    """The parts of a name that tell it from others: equal for two spellings of one name.

    Width of letters and digits, capital letters, accents taken apart, zeros before a number, `.0` at the end, and separators
    leave no trace. A separator between two numbers parts them: 1-1 is not 11.
    """
    text = unicodedata.normalize("NFKC", name).casefold()
    text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")  # marks without width
    text = re.sub(r"(?<=\d)[.,]0+$", "", text.strip())
    words: list[str] = []
    last_is_number = True
    for part in re.findall(r"\d+|[^\d\s]+", _SEPARATORS.sub(" ", text)):
        is_number = part[0].isdecimal()
        if is_number:
            part = "".join(str(unicodedata.decimal(digit)) for digit in part).lstrip("0") or "0"
        if words and not is_number and not last_is_number:
            words[-1] += part
        else:
            words.append(part)
        last_is_number = is_number
    return tuple(words)


def find_two_spellings(names: Iterable[str | None]) -> list[dict[str, list[int]]]:
    """Each name that is written in several ways: by spelling, the indices at which it stands. None is no name."""
    rows: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        if name is not None:
            rows[name].append(index)
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in rows:
        alike[spelling_key(name) or (name,)].append(name)
    for key in [key for key in alike if len(key) > 1 and all(word.isdecimal() for word in key)]:
        digits = "".join(re.findall(r"\d", unicodedata.normalize("NFKC", alike[key][0])))  # 2024-0012 and 20240012
        whole = (digits.lstrip("0"),)
        if len(digits) >= _SURE_DIGITS and whole in alike:
            alike[whole] += alike.pop(key)
    groups = [sorted(spellings, key=lambda name: rows[name][0]) for spellings in alike.values() if len(spellings) > 1]
    return [{name: rows[name] for name in spellings} for spellings in groups]


def describe_spellings(noun: str, spellings: Mapping[str, list[int]], line_of: Mapping[int, int]) -> str:
    """A sentence with every spelling and the row where it first stands, and what to do.

    `noun` says what is named (infant); `line_of` maps each index to its row as a spreadsheet counts.
    """
    named = [f"'{name}' (row {line_of[indices[0]]})" for name, indices in spellings.items()]
    listed = f"{', '.join(named[:-1])} and {named[-1]}"
    return (
        f"the {noun} is written {listed}: these differ only in zeros, capital letters, spaces or separators. "
        f"If they are one {noun}, write it alike in all rows; if not, give names that differ more."
    )
