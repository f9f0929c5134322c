"""What a guideline says of one eye after its last exam: a pure function of findings, age and rules.

A finding that was not written down is not guessed. The rules are asked for every value that it can have; where all give the same
answer it stands, and else the answer is "cannot say" and names the finding.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta

from fundoscope.guidelines.ages import format_age
from fundoscope.guidelines.infants import EyeExam
from fundoscope.guidelines.reasons import DueCode, DueDecision, DueReason, RuleCitation, ask_to_fill_in
from fundoscope.guidelines.rules import (
    PLUS,
    STAGES,
    ZONES,
    CitedRule,
    FindingPattern,
    Guideline,
    NextExamRule,
    Plus,
    Stage,
    StopRule,
    Zone,
    etrop_types,
    referral_classes,
)
from fundoscope.languages import BOTH, Phrase, join, phrase

_AGES = (0, 100 * 7)  # stand for an unknown postmenstrual age: before and after any limit
_INPUTS = ("zone", "stage", "plus")

#: Values that the findings of one exam may have: zone, stage, plus, postmenstrual age in days.
Findings = tuple[Zone, Stage, Plus, int]


@dataclass(frozen=True, slots=True)
class EyeAnswer:
    """What is next for one eye: `due_from` None where no first day is stated, `due_by` None where no last day is known.

    `etrop` is "type 1", "type 2" or "" for neither, `referral_warranted` as in AAP 2015; both None where the findings that are
    known leave it open.
    """

    exam: EyeExam
    decision: DueDecision
    etrop: str | None
    referral_warranted: bool | None
    due_from: date | None = None
    due_by: date | None = None
    rule: RuleCitation | None = None
    reasons: tuple[DueReason, ...] = ()


def decide_eye(exam: EyeExam, age: int | None, guideline: Guideline, age_from: str = "gestational_age") -> EyeAnswer:
    """What is next for an eye, from its last exam at the postmenstrual age `age` in days.

    `age` is None where it is not known; `age_from` is the column that is then blank.
    """
    possible = list(possible_findings(exam, age))
    types = {found.id if (found := etrop_types().classify(*each[:3])) else "" for each in possible}
    referrals = {referral_classes().classify(*each[:3]) is not None for each in possible}
    etrop = types.pop() if len(types) == 1 else None
    referral = referrals.pop() if len(referrals) == 1 else None
    reasons = _describe_classes(exam, etrop, referral)
    if exam.treated:
        text = phrase(
            "{exam}: the eye was treated, and {guideline} holds no rule for eyes after treatment.",
            exam=describe_exam(exam, age), guideline=guideline.name,
        )  # fmt: skip
        reasons.append(DueReason(DueCode.TREATED_EYE, text, ("rule for treated eyes",)))
        return EyeAnswer(exam, DueDecision.CANNOT_SAY, etrop, referral, reasons=tuple(reasons))
    if exam.vascularised or exam.regression == "regressed":
        decision, rule, reason = _decide_settled(exam, age, guideline)
        if decision is DueDecision.STOP:  # a stage that is written was the stage before
            return EyeAnswer(exam, decision, "", False, rule=rule)
        return EyeAnswer(exam, decision, etrop, referral, reasons=(*reasons, *reason))
    outcomes = {each: _apply(exam, each, guideline) for each in possible}
    eye = EyeAnswer(exam, DueDecision.CANNOT_SAY, etrop, referral, reasons=tuple(reasons))
    answers = [_answer(eye, outcome, age, guideline) for outcome in outcomes.values()]
    if len(set(map(_kind, outcomes.values()))) == 1:
        return answers[0]
    # whatever the missing finding is, the latest of the days at which all would be due holds
    last = (
        None if any(answer.due_by is None for answer in answers) else max(answers, key=lambda a: a.due_by or date.min)
    )
    missing = (*reasons, *_name_missing_inputs(exam, age, outcomes, age_from))
    return replace(eye, due_by=last and last.due_by, rule=last and last.rule, reasons=missing)


def possible_findings(exam: EyeExam, age: int | None) -> Iterable[Findings]:
    """Every combination of findings that the exam leaves possible; one where all were written down."""
    return itertools.product(
        ZONES if exam.zone is None else (exam.zone,),
        STAGES if exam.stage is None else (exam.stage,),
        PLUS if exam.plus is None else (exam.plus,),
        _AGES if age is None else (age,),
    )


def describe_exam(exam: EyeExam, age: int | None) -> Phrase:
    """The exam in words, such as "Right eye, exam of 2024-03-01 at 36+2 weeks: zone II, stage 2, no plus"."""
    stages = {None: phrase("stage not given"), "0": phrase("no ROP"), "A-ROP": phrase("A-ROP")}
    pluses = {
        None: phrase("plus not given"), "no": phrase("no plus"), "plus": phrase("plus disease"), "pre-plus": phrase("pre-plus"),
    }  # fmt: skip
    regressions = {
        "regressing": phrase("regressing"), "regressed": phrase("regressed"), "reactivated": phrase("reactivated"),
    }  # fmt: skip
    findings = [
        phrase("zone {zone}", zone=exam.zone) if exam.zone else phrase("zone not given"),
        stages.get(exam.stage) or phrase("stage {stage}", stage=exam.stage),
        pluses[exam.plus],
    ]
    findings += [phrase("fully vascularised")] if exam.vascularised else []
    findings += [regressions[exam.regression]] if exam.regression != "no" else []
    eyes = {"right": phrase("Right eye"), "left": phrase("Left eye"), None: phrase("Unnamed eye")}
    at = Phrase("") if age is None else phrase(" at {age} weeks", age=format_age(age))
    return phrase(
        "{eye}, exam of {day}{at}: {findings}", eye=eyes[exam.eye], day=exam.day, at=at, findings=join(findings)
    )


_Outcome = tuple[DueDecision, FindingPattern | None]


def _apply(exam: EyeExam, findings: Findings, guideline: Guideline) -> _Outcome:
    """The rule that findings without a gap meet: treatment, then stopping, then the next exam."""
    zone, stage, plus, age = findings
    etrop = etrop_types().classify(zone, stage, plus)
    if etrop is not None and etrop.id == "type 1":
        return DueDecision.TREAT, etrop
    for stop in guideline.stop:
        limit = stop.postmenstrual_age_from
        if limit is not None and age >= limit and stop.fits(zone, stage, plus, exam.regression):
            return DueDecision.STOP, stop
    for rule in guideline.next_exam:
        if rule.fits(zone, stage, plus, exam.regression):
            return DueDecision.EXAMINE, rule
    return DueDecision.CANNOT_SAY, None


def _kind(outcome: _Outcome) -> tuple[DueDecision, tuple[int, int] | None]:
    """What makes two outcomes one: the decision and its weeks."""
    decision, rule = outcome
    return decision, rule.weeks if isinstance(rule, NextExamRule) else None


def _decide_settled(
    exam: EyeExam, age: int | None, guideline: Guideline
) -> tuple[DueDecision, RuleCitation | None, tuple[DueReason, ...]]:
    """Of an eye whose retina is fully vascularised or whose ROP has regressed: it may stop, unless a finding contradicts."""
    stages = ("0",) if exam.vascularised and exam.regression != "regressed" else ("0", "1", "2")
    told = describe_exam(exam, age)
    if exam.plus == "plus" or (exam.stage is not None and exam.stage not in stages):
        text = phrase(
            "{exam}: these contradict each other. Write the stage and plus disease that are seen now, or correct the rest.",
            exam=told,
        )
        return DueDecision.CANNOT_SAY, None, (DueReason(DueCode.CONTRADICTION, text),)
    for stop in guideline.stop:
        if (stop.vascularised and exam.vascularised) or (stop.regressed and exam.regression == "regressed"):
            return DueDecision.STOP, cite(guideline, stop.id, stop), ()
    text = phrase("{exam}: {guideline} holds no rule on when screening may stop.", exam=told, guideline=guideline.name)
    return DueDecision.CANNOT_SAY, None, (DueReason(DueCode.MISSING_RULE, text, ("stop",)),)


def _answer(eye: EyeAnswer, outcome: _Outcome, age: int | None, guideline: Guideline) -> EyeAnswer:
    """The eye's answer with the days and the citation of the rule that it meets."""
    decision, rule = outcome
    eye, told, day = replace(eye, decision=decision), describe_exam(eye.exam, age), eye.exam.day
    if decision is DueDecision.TREAT:
        if guideline.treatment is None:
            text = phrase(
                "{guideline} holds no time to treatment; the eye is of type 1 all the same.", guideline=guideline.name
            )
            missing = DueReason(DueCode.MISSING_RULE, text, ("treatment",))
            etrop = etrop_types()
            citation = RuleCitation(etrop.name, "type 1", rule.sentence if rule else "", etrop.citation)
            return replace(eye, rule=citation, reasons=(*eye.reasons, missing))
        by = day + timedelta(hours=guideline.treatment.within_hours)
        return replace(eye, due_by=by, rule=cite(guideline, "treatment", guideline.treatment))
    if isinstance(rule, StopRule):
        return replace(eye, rule=cite(guideline, rule.id, rule))
    if isinstance(rule, NextExamRule):
        first, last = rule.weeks
        reasons = eye.reasons
        if eye.exam.plus == "pre-plus":
            text = phrase("Pre-plus is not named in the rule; whoever reads the eye may want it sooner.")
            reasons = (*reasons, DueReason(DueCode.PRE_PLUS, text))
        due_from = day + timedelta(weeks=first) if first else None
        due_by = day + timedelta(weeks=last)
        return replace(eye, due_from=due_from, due_by=due_by, rule=cite(guideline, rule.id, rule), reasons=reasons)
    text = phrase("{exam}: {guideline} holds no rule on the next exam.", exam=told, guideline=guideline.name)
    if guideline.next_exam:
        text = phrase(
            "{exam}: {guideline} holds no rule for the next exam of such an eye.", exam=told, guideline=guideline.name
        )
    missing = DueReason(DueCode.MISSING_RULE, text, ("next_exam",))
    return replace(eye, reasons=(*eye.reasons, missing))


def cite(guideline: Guideline, name: str, rule: CitedRule) -> RuleCitation:
    """The citation of a rule of a guideline."""
    return RuleCitation(guideline.name, name, rule.sentence, guideline.citation)


def _describe_classes(exam: EyeExam, etrop: str | None, referral: bool | None) -> list[DueReason]:
    """Reasons for the type of ETROP and for a referral, where they are certain."""
    reasons = []
    known = (exam.zone or "III", exam.stage or "0", exam.plus or "no")
    if etrop:
        code = DueCode.TYPE_1 if etrop == "type 1" else DueCode.TYPE_2
        pattern = etrop_types().classify(*known)
        certain = pattern is not None and pattern.id == etrop
        text = Phrase(pattern.sentence) if certain and pattern else Phrase(f"{etrop.capitalize()}.")
        reasons.append(DueReason(code, phrase("{sentence} (ETROP)", sentence=text)))
    if referral:
        pattern = referral_classes().classify(*known)
        text = Phrase(pattern.sentence) if pattern is not None else phrase("Referral-warranted.")
        reasons.append(DueReason(DueCode.REFERRAL_WARRANTED, phrase("{sentence} (AAP 2015)", sentence=text)))
    return reasons


def _name_missing_inputs(
    exam: EyeExam, age: int | None, outcomes: Mapping[Findings, _Outcome], age_from: str
) -> tuple[DueReason, ...]:
    """The findings that are not known and on which the answer hangs; also whether the eye could be of type 1."""
    missing = []
    for at, name in enumerate((*_INPUTS, age_from)):
        by_others: dict[tuple[object, ...], set[object]] = {}
        for findings, outcome in outcomes.items():
            by_others.setdefault(findings[:at] + findings[at + 1 :], set()).add(_kind(outcome))
        if any(len(kinds) > 1 for kinds in by_others.values()):
            missing.append(name)
    told = phrase(
        "{exam}: the answer depends on {columns}. {remedy}",
        exam=describe_exam(exam, age), columns=join(missing, BOTH), remedy=ask_to_fill_in(exam.line),
    )  # fmt: skip
    reasons = [DueReason(DueCode.MISSING_INPUT, told, tuple(missing))]
    if any(decision is DueDecision.TREAT for decision, _ in outcomes.values()):
        reasons.append(
            DueReason(DueCode.POSSIBLE_TYPE_1, phrase("The eye may be of type 1 (treat): look at it first."))
        )
    return tuple(reasons)
