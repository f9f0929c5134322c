"""What is due for an infant, in words of the language spoken now: from the answer as it is kept (`due.describe_answer`)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from babel.dates import format_date

from fundoscope.guidelines import DueCode, DueDecision, Urgency
from fundoscope.languages import current_language
from fundoscope.languages import gettext as _

_PATTERNS = {"zh": ("zh_Hans_CN", "y年M月d日")}
_ENGLISH = ("en_GB", "d MMM y")


def write_plain_day(day: date | str) -> str:
    """A day as people write it, as plain text; ISO 8601 is read, too."""
    day = date.fromisoformat(day) if isinstance(day, str) else day
    locale, pattern = _PATTERNS.get(current_language(), _ENGLISH)
    return format_date(day, pattern, locale)


def describe_when(answer: Mapping[str, Any]) -> str:
    """What is to be done by when, such as "Next exam from 8 Mar 2024 to 15 Mar 2024"."""
    first, last = answer.get("due_from"), answer.get("due_by")
    days = {"first": first and write_plain_day(first), "last": last and write_plain_day(last)}
    match answer.get("decision"):
        case DueDecision.TREAT:
            return _("Treat by {last}").format(**days) if last else _("Treat")
        case DueDecision.EXAMINE if first and last:
            return _("Next exam from {first} to {last}").format(**days)
        case DueDecision.EXAMINE:
            return _("Next exam by {last}").format(**days)
        case DueDecision.STOP:
            return _("Screening may stop")
        case DueDecision.NOT_SCREENED:
            return _("Not screened by this guideline")
        case _ if last:
            return _("The guideline cannot say when; no later than {last}").format(**days)
    return _("The guideline cannot say when")


def describe_reasons(answer: Mapping[str, Any]) -> list[str]:
    """Why the answer is as it is, a sentence each."""
    names = {
        "zone": _("zone"), "stage": _("stage"), "plus": _("plus disease"), "birth_date": _("date of birth"),
        "gestational_age": _("gestational age"), "birth_weight_g": _("birth weight"), "right eye": _("right eye"),
        "left eye": _("left eye"), "eye": _("eye"),
    }  # fmt: skip
    missing = ", ".join(names.get(name, name) for name in answer.get("missing") or ())
    words = {
        DueCode.MISSING_INPUT: _("It depends on what was not said: {missing}.").format(missing=missing),
        DueCode.MISSING_RULE: _("The guideline holds no rule for this; a person decides."),
        DueCode.TREATED_EYE: _("An eye was treated, and the guideline holds no rule for eyes after treatment."),
        DueCode.CONTRADICTION: _("Findings of an eye contradict each other."),
        DueCode.UNCLEAR_RULE: _("The guideline's sentence can be read in two ways."),
        DueCode.OTHER_EYE: _("The other eye has no reading: it may be due sooner."),
        DueCode.POSSIBLE_TYPE_1: _("An eye may be of type 1 (treat): look at it first."),
        DueCode.TYPE_1: _("Type 1 of ETROP: treat."),
        DueCode.TYPE_2: _("Type 2 of ETROP: wait and watch."),
        DueCode.REFERRAL_WARRANTED: _("Referral-warranted (AAP 2015)."),
        DueCode.PRE_PLUS: _("Pre-plus is not named in the rule; you may want the exam sooner."),
        DueCode.WHOLE_WEEKS: _("The gestational age has no days: every age may be up to 6 days more."),
        DueCode.TWO_WINDOWS: _("A day in either window of the first exam meets the rule."),
        DueCode.OUTSIDE_CRITERIA: _("The infant is outside the guideline's criteria."),
        DueCode.PHOTOGRAPHS_CANNOT_END: _("Photographs alone cannot end screening (AAP 2015)."),
    }
    return [words[DueCode(code)] for code in answer.get("codes") or ()]


def describe_urgency(urgency: str) -> tuple[str, str]:
    """The kind of a tag on a page, and its word."""
    return {
        Urgency.TREAT: ("urgent", _("Type 1: treat")),
        Urgency.REFER: ("urgent", _("Referral-warranted")),
        Urgency.OVERDUE: ("overdue", _("Overdue")),
        Urgency.CANNOT_SAY: ("incomplete", _("A person decides")),
        Urgency.DUE: ("ready", _("Due now")),
        Urgency.LATER: ("waiting", _("Due later")),
        Urgency.STOPPED: ("signed", _("May stop")),
        Urgency.NOT_SCREENED: ("plain", _("Not screened")),
    }[Urgency(urgency)]
