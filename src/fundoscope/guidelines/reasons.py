"""Codes of what an answer rests on and of why it cannot be given; the text beside each code names the rule or the input."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fundoscope.languages import Phrase, gettext_noop, phrase


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


DECISION_WORDS = {
    DueDecision.TREAT: gettext_noop("treat"),
    DueDecision.EXAMINE: gettext_noop("examine"),
    DueDecision.STOP: gettext_noop("screening may stop"),
    DueDecision.NOT_SCREENED: gettext_noop("not screened by this guideline"),
    DueDecision.CANNOT_SAY: gettext_noop("cannot say"),
}
URGENCY_WORDS = {
    Urgency.TREAT: gettext_noop("treat"),
    Urgency.REFER: gettext_noop("refer"),
    Urgency.OVERDUE: gettext_noop("overdue"),
    Urgency.CANNOT_SAY: gettext_noop("cannot say"),
    Urgency.DUE: gettext_noop("due"),
    Urgency.LATER: gettext_noop("later"),
    Urgency.STOPPED: gettext_noop("stopped"),
    Urgency.NOT_SCREENED: gettext_noop("not screened"),
}


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
    sentence: Phrase
    missing: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The sentence in English."""
        return str(self.sentence)


@dataclass(frozen=True, slots=True)
class RuleCitation:
    """The rule that an answer follows: its guideline, its name in the guideline's file, its sentence and its source."""

    guideline: str
    rule: str
    sentence: str
    source: str


def ask_to_fill_in(line: int) -> Phrase:
    """The remedy for what is missing: it names the row of the table; not where the infant comes from no table (`line` 0)."""
    return phrase("Fill in row {line}.", line=line) if line else phrase("Fill it in.")
