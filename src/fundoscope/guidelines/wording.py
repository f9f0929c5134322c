"""A worklist as text: an infant a paragraph, the most urgent first, and the sentences that were followed at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import fill
from unicodedata import east_asian_width

from fundoscope.errors import printable
from fundoscope.guidelines.ages import format_age
from fundoscope.guidelines.due import DueAnswer
from fundoscope.guidelines.eyes import describe_exam
from fundoscope.guidelines.reasons import DECISION_WORDS, URGENCY_WORDS, DueDecision
from fundoscope.languages import gettext as _
from fundoscope.languages import ngettext

_WIDTH = 110  # letters of a line
_INDENT = "    "


def describe_worklist(answers: Sequence[DueAnswer]) -> str:
    """The worklist for a person to read on a terminal."""
    name = max((len(printable(answer.infant)) for answer in answers), default=0)
    blocks = ["\n".join(_describe_answer(answer, name)) for answer in answers]
    return "\n".join([*blocks, "", *_list_sources(answers)])


def describe_when(answer: DueAnswer) -> str:
    """What is to be done by when, such as "examine from 2024-03-08 to 2024-03-15, 4 days left"."""
    decision, by = answer.decision, answer.due_by
    if decision in (DueDecision.STOP, DueDecision.NOT_SCREENED):
        return _(DECISION_WORDS[decision])
    if by is None:
        return _("treat") if decision is DueDecision.TREAT else _("cannot say when")
    days = abs(answer.days_left or 0)
    late = ngettext("{n} day late", "{n} days late", days), ngettext("{n} day left", "{n} days left", days)
    left = late[(answer.days_left or 0) >= 0].format(n=days)
    if decision is DueDecision.CANNOT_SAY:
        return _("cannot say when, but no later than {by}, {left}").format(by=by, left=left)
    told = _("{action} by {by}, {left}") if answer.due_from is None else _("{action} from {start} to {by}, {left}")
    return told.format(action=_(DECISION_WORDS[decision]), start=answer.due_from, by=by, left=left)


def _describe_answer(answer: DueAnswer, name: int) -> Iterable[str]:
    age = _("age not known") if answer.pma is None else _("{age} weeks").format(age=format_age(answer.pma))
    urgency = _(URGENCY_WORDS[answer.urgency]).upper()
    yield f"{_padded(urgency, 12)}  {_padded(printable(answer.infant), name)}  {_padded(age, -13)}  {describe_when(answer)}"
    told = [reason.sentence.spoken() for reason in answer.reasons]
    if answer.ruling is not None:
        exam = answer.ruling.exam
        described = describe_exam(
            exam, None if answer.pma is None else answer.pma - (answer.on - exam.day).days
        ).spoken()
        told = (
            told if any(text.startswith(described) for text in told) else [_("{exam}.").format(exam=described), *told]
        )
    if answer.rule is not None:
        told.append(_("Rule: {guideline}, {rule}.").format(guideline=answer.rule.guideline, rule=answer.rule.rule))
    if answer.risk.verdict == "examine":
        told.append(_("G-ROP: {criteria}.").format(criteria=answer.risk.sentence.spoken()))
    yield fill(" ".join(map(printable, told)), _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)


def _padded(text: str, width: int) -> str:
    """The text filled up with blanks on its right, on its left where `width` is negative; a Chinese letter is two wide."""
    blanks = " " * (abs(width) - sum(1 + (east_asian_width(letter) in "WF") for letter in text))
    return blanks + text if width < 0 else text + blanks


def _list_sources(answers: Iterable[DueAnswer]) -> Iterable[str]:
    """Each rule that was followed, with its sentence and source, once."""
    rules = {(rule.guideline, rule.rule): rule for answer in answers if (rule := answer.rule) is not None}
    for (guideline, name), rule in sorted(rules.items()):
        yield f'{guideline}, {name}: "{_(rule.sentence)}"'
    for guideline, source in sorted({(rule.guideline, rule.source) for rule in rules.values()}):
        yield f"{guideline}: {source}"
