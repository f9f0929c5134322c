"""Types of what people and programs type: text that can be shown anywhere, days, ages, weights; and faults in words.

Text is brought to one form of Unicode (NFC) and refused where it holds what cannot be seen: control characters, and marks that
turn the direction of writing and so make a name read as another one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import date
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from fundoscope.errors import UsageError
from fundoscope.guidelines import GestationalAge, parse_gestational_age
from fundoscope.languages import gettext as _
from fundoscope.server.errors import InvalidError

M = TypeVar("M", bound=BaseModel)

_JOINERS = "\u200c\u200d"  # Persian and Indian names need them
_FORMULA = "=+-@"  # a spreadsheet works out a cell that begins with one


def check_line(text: str) -> str:
    """One line of text; `ValueError` where it holds a line break or what cannot be seen."""
    return _check_text(text, "")


def check_note(text: str) -> str:
    """Text of several lines; `ValueError` where it holds what cannot be seen."""
    return _check_text(text.replace("\r\n", "\n").replace("\r", "\n"), "\n\t")


def is_unseen(letter: str) -> bool:
    """Whether a character cannot be seen: control characters, marks of direction, halves of pairs, ends of lines and paragraphs."""
    return unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _check_text(text: str, allowed: str) -> str:
    for letter in text:
        if letter in allowed or letter in _JOINERS:
            continue
        if is_unseen(letter):
            shown = f"U+{ord(letter):04X}"
            raise _fault(
                _("This holds a character that cannot be seen ({character}). Type the text anew."), character=shown
            )
    return text


def check_code(text: str) -> str:
    """A number that names a patient: one line that no spreadsheet takes for a formula."""
    check_line(text)
    if not text:
        raise _fault(_("The number is blank. Write the hospital's number, which names the patient."))
    if text[0] in _FORMULA:
        raise _fault(_("A number cannot begin with {letter}: a spreadsheet would work it out."), letter=text[0])
    return text


def check_past_day(day: date) -> date:
    """A day from 1900 to today; `ValueError` for another one."""
    if not date(1900, 1, 1) <= day <= date.today():
        raise _fault(_("{day} is not a day from 1900 to today. Correct it."), day=day.isoformat())
    return day


def read_gestational_age(text: str) -> GestationalAge | None:
    """The age at birth that `check_gestational_age` has let in."""
    return parse_gestational_age(text, "")


def check_gestational_age(text: str) -> str:
    """An age at birth as `fundoscope.guidelines` writes it, 28+3, or 28 where its days are not known; blank stays blank."""
    try:
        age = parse_gestational_age(text, "")
    except (UsageError, ValueError):
        raise _fault(
            _(
                "'{text}' is no gestational age. Write weeks and days, such as 28+3, from 18 to 46 weeks. A number such as 27.5 is not taken: it can mean 27+5, or 27 and a half weeks."
            ),
            text=text[:40],
        ) from None
    return "" if age is None else str(age.days // 7) if age.whole_weeks else str(age)


def _parse_day(value: Any) -> Any:
    """The day of a text YYYY-MM-DD, None for a blank one; `ValueError` for other text and for numbers."""
    if value is None or isinstance(value, date):
        return value
    text = unicodedata.normalize("NFKC", value).strip() if isinstance(value, str) else ""
    if isinstance(value, str) and not text:
        return None
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        with suppress(ValueError):
            return date.fromisoformat(text)
    raise _fault(_("'{text}' is no day. Write year, month and day, such as 2024-03-05."), text=str(value)[:40])


def _normalise(value: Any) -> Any:
    return unicodedata.normalize("NFC", value).strip() if isinstance(value, str) else value


def _blank_to_none(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _fault(message: str, **values: str) -> PydanticCustomError:
    return PydanticCustomError("fundoscope", "{message}", {"message": message.format(**values)})


_One = BeforeValidator(_normalise)
#: One line of text.
Line = Annotated[str, _One, Field(max_length=200), AfterValidator(check_line)]
ShortLine = Annotated[str, _One, Field(max_length=64), AfterValidator(check_line)]
GroupLine = Annotated[str, _One, Field(max_length=100), AfterValidator(check_line)]
#: The hospital's number of a patient.
Code = Annotated[str, _One, Field(max_length=100), AfterValidator(check_code)]
#: Several lines of text.
Note = Annotated[str, _One, Field(max_length=4000), AfterValidator(check_note)]
#: A day, YYYY-MM-DD, not after today; None where it is blank.
PastDay = Annotated[date, AfterValidator(check_past_day)]
OptionalPastDay = Annotated[PastDay | None, BeforeValidator(_parse_day)]
NeededPastDay = Annotated[PastDay, BeforeValidator(_parse_day)]
#: An age at birth: 28+3, or 28 where the days are not known; blank where nothing is known.
GestationalAgeText = Annotated[
    str, _One, Field(max_length=40, examples=["28+3"]), AfterValidator(check_gestational_age)
]
#: Makes a value that a form leaves blank None.
BLANK_IS_NONE = BeforeValidator(_blank_to_none)
#: The number of the last correction of a row that somebody saw; None where it does not matter.
Version = Annotated[Annotated[int, Field(ge=0, le=2**31 - 1)] | None, BLANK_IS_NONE]
OptionalFlag = Annotated[bool | None, BLANK_IS_NONE]
#: The number of a row.
Number = Annotated[int, Field(ge=1, le=2**31 - 1)]


class PeriodQuery(BaseModel):
    """Which site (all of the caller's where it is blank), and how many months back, this one included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    site: Annotated[Number | None, BLANK_IS_NONE] = None
    months: Annotated[int, Field(ge=1, le=120)] = 12


def describe_faults(error: ValidationError | Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The first fault of each field in words, in the language spoken now; a fault of the whole stands under "".

    A field within another one is named with a point: `eyes.0.zone`.
    """
    faults = error.errors() if isinstance(error, ValidationError) else error
    described: dict[str, str] = {}
    for fault in faults:
        place = [str(part) for part in fault["loc"] if part not in ("body", "query", "path", "header")]
        named = (
            []
            if fault["type"] == "json_invalid"
            else [part for part in place if part.isidentifier() or part.isdecimal() or "-" in part]
        )
        described.setdefault(".".join(named), _describe_fault(fault))
    return described


def _describe_fault(fault: Mapping[str, Any]) -> str:
    bounds = fault.get("ctx", {})
    texts = {
        "missing": _("This is missing. Fill it in."),
        "extra_forbidden": _("This field is not known. Leave it out."),
        "string_too_long": _("This is longer than {max_length} characters. Shorten it."),
        "string_too_short": _("This is blank. Fill it in."),
        "int_parsing": _("This is no whole number. Write digits, such as 1250."),
        "int_type": _("This is no whole number. Write digits, such as 1250."),
        "int_from_float": _("This is no whole number. Write digits, such as 1250."),
        "bool_parsing": _("Choose yes or no, or leave it blank."),
        "date_type": _("This is missing. Write year, month and day, such as 2024-03-05."),
        "greater_than_equal": _("This is less than {ge}. Correct it."),
        "less_than_equal": _("This is more than {le}. Correct it."),
        "literal_error": _("Choose one of {expected}."),
        "string_type": _("This is no text. Send it between quotes."),
        "string_pattern_mismatch": _("This is not written as the description asks ({pattern}). Correct it."),
        "float_parsing": _("This is no number. Write digits, such as 0.1."),
        "float_type": _("This is no number. Write digits, such as 0.1."),
        "too_long": _("There are more than {max_length} of these. Send fewer."),
        "list_type": _("This is no list. Send a list, which may be empty."),
        "dict_type": _("Send one JSON object with the fields of the description."),
        "model_type": _("Send one JSON object with the fields of the description."),
        "model_attributes_type": _("Send one JSON object with the fields of the description."),
        "json_invalid": _("The body is not JSON ({error}). Send JSON."),
    }
    if fault["type"] not in texts:
        return str(fault["msg"]).removeprefix("Value error, ")
    return texts[fault["type"]].format(**bounds)


def check_input(model: type[M], values: Mapping[str, Any]) -> M:
    """The model of what was typed; `InvalidError` that names the first field that cannot be taken."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        field, text = next(iter(describe_faults(error).items()))
        raise InvalidError(text, field) from None
