"""The reference page of the guidelines, written from their files: what is held, what is not, and where it was read."""

from __future__ import annotations

from collections.abc import Iterable

from fundoscope.guidelines.ages import format_age
from fundoscope.guidelines.rules import (
    DEFAULT_GUIDELINE,
    FindingClasses,
    Guideline,
    RiskRule,
    ScreeningCriteria,
    etrop_types,
    referral_classes,
    risk_rules,
    shipped_guidelines,
)

_HEAD = """# Guidelines

This page is written from the files of the guidelines (`fundoscope/guidelines/data`), and a test compares the two. Each file holds
what its source states and nothing else; what is not held is "cannot say" in every answer. Research use only: whoever is
responsible for the infant decides.

`fundoscope rop due` takes `{default}` unless `--guideline` names another. [How to work with it](../how-to/who-is-due.md).
"""

_SECTIONS = {
    "screening": "who is screened",
    "first_exam": "first exam",
    "next_exam": "next exam",
    "stop": "when screening may stop",
    "treatment": "time to treatment",
}


def guidelines_page() -> str:
    """The page `docs/reference/guidelines.md` as Markdown."""
    parts = [_HEAD.format(default=DEFAULT_GUIDELINE), "## What is held\n", _overview(shipped_guidelines())]
    parts += [_describe_guideline(each) for each in shipped_guidelines()]
    parts += [_describe_classes(each) for each in (etrop_types(), referral_classes())]
    parts += ["## Rules on who will have ROP\n", _risk_table(risk_rules())]
    return "\n".join(parts)


def _overview(guidelines: Iterable[Guideline]) -> str:
    rows = [["guideline", *_SECTIONS.values()]]
    rows += [
        [f"`{each.name}`", *("yes" if getattr(each, key) else "cannot say" for key in _SECTIONS)] for each in guidelines
    ]
    return _table(rows)


def _describe_guideline(guideline: Guideline) -> str:
    rows = [["rule", "sentence", "as data"]]
    if guideline.screening:
        rows.append(["screening", guideline.screening.sentence, _describe_criteria(guideline.screening)])
    if first := guideline.first_exam:
        after, age = (" to ".join(map(str, weeks)) for weeks in (first.weeks_after_birth, first.postmenstrual_weeks))
        rows.append(["first_exam", first.sentence, f"{after} weeks after birth, or {age} weeks of postmenstrual age"])
    for rule in guideline.next_exam:
        low, high = (weeks * 7 for weeks in rule.weeks)
        rows.append(
            [rule.id, rule.sentence, f"day {low} to {high} after the exam" if low else f"by day {high} after the exam"]
        )
    for stop in guideline.stop:
        age = stop.postmenstrual_age_from
        rows.append([stop.id, stop.sentence, "stop" if age is None else f"stop, from {format_age(age)} on"])
    if treatment := guideline.treatment:
        rows.append(["treatment", treatment.sentence, f"by day {treatment.within_hours // 24} after the exam"])
    return "\n".join([f"## {guideline.title}\n", _describe_source(guideline), _table(rows), _list(guideline.notes)])


def _describe_criteria(criteria: ScreeningCriteria) -> str:
    age = criteria.gestational_age_below or criteria.gestational_age_at_most or 0
    weight = criteria.birth_weight_below_g or criteria.birth_weight_at_most_g
    told = [f"age {'below' if criteria.gestational_age_below else 'up to'} {format_age(age)}"]
    if unclear := criteria.gestational_age_unclear_to:
        told.append(f"from there to {format_age(unclear)} cannot say, unless by weight")
    told.append(f"or weight {'below' if criteria.birth_weight_below_g else 'up to'} {weight} g")
    return ", ".join(told)


def _describe_classes(classes: FindingClasses) -> str:
    rows = [["class", "sentence"], *([each.id, each.sentence] for each in classes.classes)]
    return "\n".join([f"## {classes.title}\n", _describe_source(classes), _table(rows), _list(classes.notes)])


def _describe_source(source: Guideline | FindingClasses) -> str:
    return f"`{source.name}`. {source.citation}.\n\nRead in: {'; '.join(source.read_in)}.\n"


def _risk_table(rules: Iterable[RiskRule]) -> str:
    rows = [["rule", "state", "what it says, or what is missing", "source", "read in"]]
    rows += [[rule.name, rule.state, rule.why, rule.citation, rule.read_in] for rule in rules]
    return _table(rows)


def _table(rows: Iterable[Iterable[str]]) -> str:
    head, *body = [f"| {' | '.join(cells)} |" for cells in map(list, rows)]
    return "\n".join([head, "|---" * (head.count(" | ") + 1) + "|", *body]) + "\n"


def _list(notes: Iterable[str]) -> str:
    return "".join(f"- {note}\n" for note in notes)
