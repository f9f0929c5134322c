"""Codes of what an answer rests on and of why it cannot be given; the text beside each code names the rule or the input."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DueDecision(StrEnum):
    """What is to be done next for an infant."""

    TREAT = "treat"
    EXAMINE = "examine"
    STOP = "stop"
    NOT_SCREENED = "not screened"
    CANNOT_SAY = "cannot say"


class Urgency(StrEnum):
    """Who comes first, in this order."""

    TREAT = "treat"  # type 1 of ETROP
    REFER = "refer"  # referral-warranted
    OVERDUE = "overdue"  # the last day has gone by
    CANNOT_SAY = "cannot say"  # a person must look
    DUE = "due"
    LATER = "later"
    STOPPED = "stopped"
    NOT_SCREENED = "not screened"


class DueCode(StrEnum):
    """Why an answer is as it is; programs read these, people the texts."""

    MISSING_INPUT = "missing-input"
    MISSING_RULE = "missing-rule"
    TREATED_EYE = "treated-eye"
    CONTRADICTION = "contradiction"
    UNCLEAR_RULE = "unclear-rule"
    OTHER_EYE = "other-eye"
    POSSIBLE_TYPE_1 = "possible-type-1"
    TYPE_1 = "type-1"
    TYPE_2 = "type-2"
    REFERRAL_WARRANTED = "referral-warranted"
    PRE_PLUS = "pre-plus"
    WHOLE_WEEKS = "whole-weeks"
    TWO_WINDOWS = "two-windows"
    OUTSIDE_CRITERIA = "outside-criteria"
    PHOTOGRAPHS_CANNOT_END = "photographs-cannot-end"


@dataclass(frozen=True, slots=True)
class DueReason:
    """A code with its sentence; `missing` names the columns or the rules that are not there."""

    code: DueCode
    text: str
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleCitation:
    """The rule that an answer follows: its guideline, its name in the guideline's file, its sentence and its source."""

    guideline: str
    rule: str
    sentence: str
    source: str


def ask_to_fill_in(line: int) -> str:
    """The remedy for what is missing: it names the row of the table; not where the infant comes from no table (`line` 0)."""
    return f"Fill in row {line}." if line else "Fill it in."
