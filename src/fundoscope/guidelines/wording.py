"""A worklist as text: an infant a paragraph, the most urgent first, and the sentences that were followed at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import fill

from fundoscope.errors import counted, printable
from fundoscope.guidelines.ages import format_age
from fundoscope.guidelines.due import DueAnswer
from fundoscope.guidelines.eyes import describe_exam
from fundoscope.guidelines.reasons import DueDecision

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
        return {DueDecision.STOP: "screening may stop"}.get(decision, "not screened by this guideline")
    days = answer.days_left or 0
    left = f", {counted(-days, 'day')} late" if days < 0 else f", {counted(days, 'day')} left"
    if by is None:
        return "treat" if decision is DueDecision.TREAT else "cannot say when"
    if decision is DueDecision.CANNOT_SAY:
        return f"cannot say when, but no later than {by}{left}"
    window = f"by {by}" if answer.due_from is None else f"from {answer.due_from} to {by}"
    return f"{decision.value} {window}{left}"


def _describe_answer(answer: DueAnswer, name: int) -> Iterable[str]:
    age = "age not known" if answer.pma is None else f"{format_age(answer.pma)} weeks"
    yield f"{answer.urgency.value.upper():12}  {printable(answer.infant):{name}}  {age:>13}  {describe_when(answer)}"
    told = [reason.text for reason in answer.reasons]
    if answer.ruling is not None:
        exam = answer.ruling.exam
        described = describe_exam(exam, None if answer.pma is None else answer.pma - (answer.on - exam.day).days)
        told = told if any(text.startswith(described) for text in told) else [f"{described}.", *told]
    if answer.rule is not None:
        told.append(f"Rule: {answer.rule.guideline}, {answer.rule.rule}.")
    if answer.risk.verdict == "examine":
        told.append(f"G-ROP: {answer.risk.text}.")
    yield fill(" ".join(map(printable, told)), _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)


def _list_sources(answers: Iterable[DueAnswer]) -> Iterable[str]:
    """Each rule that was followed, with its sentence and source, once."""
    rules = {(rule.guideline, rule.rule): rule for answer in answers if (rule := answer.rule) is not None}
    for (guideline, name), rule in sorted(rules.items()):
        yield f'{guideline}, {name}: "{rule.sentence}"'
    for guideline, source in sorted({(rule.guideline, rule.source) for rule in rules.values()}):
        yield f"{guideline}: {source}"
