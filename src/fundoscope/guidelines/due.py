"""Who is to be examined, when next, and by which rule: pure functions from an infant, a guideline and a day to an answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from fundoscope.guidelines.ages import date_of_age, format_age
from fundoscope.guidelines.eyes import EyeAnswer, cite, decide_eye, describe_exam
from fundoscope.guidelines.infants import ScreenedInfant
from fundoscope.guidelines.reasons import DueCode, DueDecision, DueReason, RuleCitation, Urgency, ask_to_fill_in
from fundoscope.guidelines.risk import RiskAnswer, apply_g_rop
from fundoscope.guidelines.rules import Guideline
from fundoscope.languages import BOTH, SENTENCES, Phrase, join, phrase

#: Keys of a line of JSON, in this order; None is null.
DUE_COLUMNS = (
    "infant", "row", "decision", "urgency", "due_from", "due_by", "days_left", "pma", "reason", "missing", "codes", "eye",
    "exam_date", "exam_pma", "etrop", "referral_warranted", "meets_criteria", "guideline", "rule", "sentence", "source", "g_rop",
    "g_rop_reason",
)  # fmt: skip

_ORDER = list(Urgency)


@dataclass(frozen=True, slots=True)
class DueAnswer:
    """What is next for one infant on the day `on`.

    `due_from` is the first day of the window (None where none is stated) and `due_by` the last. With "cannot say" `due_by` is the
    last day that is known to hold, such as of the other eye. `eye` and `exam_date` are those that rule. `pma` is the
    postmenstrual age on the day, in days. `meets_criteria` is whether the guideline screens the infant, None where it cannot say.
    """

    infant: str
    line: int
    on: date
    decision: DueDecision
    guideline: str
    pma: int | None
    meets_criteria: bool | None
    risk: RiskAnswer
    due_from: date | None = None
    due_by: date | None = None
    rule: RuleCitation | None = None
    reasons: tuple[DueReason, ...] = ()
    eyes: tuple[EyeAnswer, ...] = ()
    ruling: EyeAnswer | None = None

    @property
    def days_left(self) -> int | None:
        """Days until `due_by`; negative once it has gone by."""
        return None if self.due_by is None else (self.due_by - self.on).days

    @property
    def referral_warranted(self) -> bool | None:
        """Whether any eye warrants a referral; None where that is not known."""
        known = {eye.referral_warranted for eye in self.eyes}
        return True if True in known else None if None in known or not known else False

    @property
    def urgency(self) -> Urgency:
        """Its place in the worklist."""
        if self.decision in (DueDecision.TREAT, DueDecision.NOT_SCREENED):
            return Urgency(self.decision.value)
        if self.referral_warranted:
            return Urgency.REFER
        if self.decision is DueDecision.STOP:
            return Urgency.STOPPED
        if self.due_by is not None and self.due_by < self.on:
            return Urgency.OVERDUE
        if self.decision is DueDecision.CANNOT_SAY:
            return Urgency.CANNOT_SAY
        return Urgency.DUE if self.due_from is None or self.due_from <= self.on else Urgency.LATER

    @property
    def codes(self) -> tuple[DueCode, ...]:
        """The codes of the reasons, each once."""
        return tuple(dict.fromkeys(reason.code for reason in self.reasons))

    @property
    def missing(self) -> tuple[str, ...]:
        """The columns and rules that are missing for an answer."""
        return tuple(dict.fromkeys(name for reason in self.reasons for name in reason.missing))

    def as_row(self) -> dict[str, Any]:
        """The values of `DUE_COLUMNS` as plain JSON: days as YYYY-MM-DD, ages as weeks+days, None where blank."""
        eye, rule = self.ruling, self.rule
        values = {
            "infant": self.infant, "row": self.line, "decision": self.decision.value, "urgency": self.urgency.value,
            "due_from": _iso(self.due_from), "due_by": _iso(self.due_by), "days_left": self.days_left,
            "pma": None if self.pma is None else format_age(self.pma),
            "reason": " ".join(reason.text for reason in self.reasons) or None,
            "missing": list(self.missing), "codes": [code.value for code in self.codes],
            "eye": eye.exam.eye if eye else None, "exam_date": _iso(eye.exam.day) if eye else None,
            "exam_pma": None if eye is None or self.pma is None else format_age(self.pma - (self.on - eye.exam.day).days),
            "etrop": eye.etrop or None if eye else None, "referral_warranted": self.referral_warranted,
            "meets_criteria": self.meets_criteria, "guideline": self.guideline,
            "rule": rule.rule if rule else None, "sentence": rule.sentence if rule else None,
            "source": rule.source if rule else None,
            "g_rop": self.risk.verdict, "g_rop_reason": self.risk.text,
        }  # fmt: skip
        return {column: values[column] for column in DUE_COLUMNS}


def make_worklist(infants: Iterable[ScreenedInfant], guideline: Guideline, on: date) -> tuple[DueAnswer, ...]:
    """The answer of every infant, the most urgent first; of equal urgency who may be of type 1, then the earlier last day."""

    def place(answer: DueAnswer) -> tuple[int, bool, date, int]:
        waits = DueCode.POSSIBLE_TYPE_1 not in answer.codes
        return _ORDER.index(answer.urgency), waits, answer.due_by or date.max, answer.line

    return tuple(sorted((decide_infant(infant, guideline, on) for infant in infants), key=place))


def decide_infant(infant: ScreenedInfant, guideline: Guideline, on: date) -> DueAnswer:
    """What is next for an infant on a day: its first exam where it had none, else what its last exams of both eyes lead to."""
    meets, why = meets_criteria(infant, guideline)
    answer = _decide_from_exams if infant.exams else _decide_first_exam
    decision, details = answer(infant, guideline, meets, why)
    reasons = details.pop("reasons", ())
    if infant.gestational_age is not None and infant.gestational_age.whole_weeks:
        text = phrase(
            "The gestational age has no days: {age} is taken, and every age may be up to 6 days more.",
            age=infant.gestational_age,
        )
        reasons = (*reasons, DueReason(DueCode.WHOLE_WEEKS, text))
    return DueAnswer(
        infant.name, infant.line, on, decision, guideline.name, infant.age_on(on), meets, apply_g_rop(infant),
        reasons=reasons, **details,
    )  # fmt: skip


def meets_criteria(infant: ScreenedInfant, guideline: Guideline) -> tuple[bool | None, DueReason | None]:
    """Whether the guideline screens an infant; None with its reason where that cannot be said."""
    criteria = guideline.screening
    if criteria is None:
        text = phrase("{guideline} holds no rule on who is screened.", guideline=guideline.name)
        return None, DueReason(DueCode.MISSING_RULE, text, ("screening",))
    age, weight = infant.gestational_age, infant.birth_weight_g
    by_age = None if age is None else criteria.meets_age(age.days)
    by_weight = None if weight is None else criteria.meets_weight(weight)
    if by_age or by_weight:
        return True, None
    missing = [column for column, value in (("gestational_age", age), ("birth_weight_g", weight)) if value is None]
    if missing:
        text = phrase(
            "Whether the infant is screened depends on {columns}. {remedy}",
            columns=join(missing, BOTH), remedy=ask_to_fill_in(infant.line),
        )  # fmt: skip
        return None, DueReason(DueCode.MISSING_INPUT, text, tuple(missing))
    if by_age is None:
        text = phrase(
            '"{sentence}" can be read in two ways for {age}: {unclear}',
            sentence=Phrase(criteria.sentence), age=age, unclear=Phrase(criteria.unclear),
        )  # fmt: skip
        return None, DueReason(DueCode.UNCLEAR_RULE, text, ("screening",))
    rule = join((Phrase(each) for each in (criteria.sentence, criteria.beyond) if each), SENTENCES)
    grams = f"{weight:g}"
    text = phrase("{age} weeks and {weight} g are outside: {rule}", age=age, weight=grams, rule=rule)
    return False, DueReason(DueCode.OUTSIDE_CRITERIA, text)


def _decide_first_exam(
    infant: ScreenedInfant, guideline: Guideline, meets: bool | None, why: DueReason | None
) -> tuple[DueDecision, dict[str, Any]]:
    """Of an infant without exams."""
    if meets is None or meets is False:
        assert why is not None
        rule = cite(guideline, "screening", guideline.screening) if guideline.screening else None
        decision = DueDecision.CANNOT_SAY if meets is None else DueDecision.NOT_SCREENED
        return decision, {"reasons": (why,), "rule": rule}
    first = guideline.first_exam
    if first is None or infant.birth_date is None:
        text = phrase("The infant is to be screened, but {name} holds no rule on the first exam.", name=guideline.name)
        if first is not None:
            text = phrase(
                "The infant is to be screened, but {name} counts from birth_date, which is blank.", name=guideline.name
            )
        code = DueCode.MISSING_RULE if first is None else DueCode.MISSING_INPUT
        missing = "first_exam" if first is None else "birth_date"
        return DueDecision.CANNOT_SAY, {"reasons": (DueReason(code, text, (missing,)),)}
    start, end = (infant.birth_date + timedelta(weeks=weeks) for weeks in first.weeks_after_birth)
    low, high = first.postmenstrual_weeks
    told = phrase(
        "{first} to {last} weeks after birth are {start} to {end}",
        first=first.weeks_after_birth[0], last=first.weeks_after_birth[1], start=start, end=end,
    )  # fmt: skip
    if infant.gestational_age is None:
        text = phrase(
            "{told}; {low} to {high} weeks of postmenstrual age depend on gestational_age, which is blank.",
            told=told, low=low, high=high,
        )  # fmt: skip
        reason = DueReason(DueCode.MISSING_INPUT, text, ("gestational_age",))
    else:
        early, late = (date_of_age(infant.birth_date, infant.gestational_age, weeks * 7) for weeks in (low, high))
        reason = DueReason(
            DueCode.TWO_WINDOWS,
            phrase(
                "{told}; {low} to {high} weeks of postmenstrual age are {early} to {late}. The rule does not say which counts: a day in either meets it, and overdue is after both.",
                told=told, low=low, high=high, early=early, late=late,
            ),
        )  # fmt: skip
        if late >= infant.birth_date:
            start, end = max(min(start, early), infant.birth_date), max(end, late)
    rule = cite(guideline, "first_exam", first)
    return DueDecision.EXAMINE, {"due_from": start, "due_by": end, "rule": rule, "reasons": (reason,)}


def _decide_from_exams(
    infant: ScreenedInfant, guideline: Guideline, meets: bool | None, why: DueReason | None
) -> tuple[DueDecision, dict[str, Any]]:
    """Of an infant with exams: the more urgent eye rules, and an eye of which nothing is known leaves the answer open."""
    age_from = "birth_date" if infant.birth_date is None else "gestational_age"
    eyes = tuple(decide_eye(exam, infant.age_on(exam.day), guideline, age_from) for exam in infant.latest_exams())
    treat = [eye for eye in eyes if eye.decision is DueDecision.TREAT]
    open_ = [eye for eye in eyes if eye.decision is DueDecision.CANNOT_SAY]
    dated = sorted((eye for eye in eyes if eye.due_by is not None), key=lambda eye: eye.due_by or date.max)
    gaps = _name_missing_eyes(infant)
    if treat:
        ruling = min(treat, key=lambda eye: eye.due_by or date.max)
        return DueDecision.TREAT, _details(eyes, ruling, ruling, gaps)
    if open_ or gaps:
        ruling = next(iter(open_ or dated or eyes))  # of an open eye, with what is known of the other
        bound = dated[0] if dated else None
        return DueDecision.CANNOT_SAY, _details(eyes, ruling, bound, gaps) | {"due_from": None}
    if dated:
        return DueDecision.EXAMINE, _details(eyes, dated[0], dated[0], gaps)
    ending = (DueReason(DueCode.PHOTOGRAPHS_CANNOT_END, phrase("Photographs alone cannot end screening (AAP 2015).")),)
    return DueDecision.STOP, _details(eyes, eyes[0], eyes[0], ending)


def _details(
    eyes: tuple[EyeAnswer, ...], ruling: EyeAnswer, dated: EyeAnswer | None, more: tuple[DueReason, ...]
) -> dict[str, Any]:
    """The fields of an answer by the eye that rules it and the eye that gives its days."""
    others = [reason for eye in eyes if eye is not ruling for reason in eye.reasons]
    return {
        "eyes": eyes, "ruling": ruling, "rule": (dated or ruling).rule,
        "due_from": dated.due_from if dated else None, "due_by": dated.due_by if dated else None,
        "reasons": tuple(dict.fromkeys((*ruling.reasons, *more, *others))),
    }  # fmt: skip


def _name_missing_eyes(infant: ScreenedInfant) -> tuple[DueReason, ...]:
    """Why the answer stays open where an eye has no exam, or an exam no eye."""
    exams = infant.latest_exams()
    unnamed = next((exam for exam in exams if exam.eye is None), None)
    if unnamed is not None:
        told = describe_exam(unnamed, infant.age_on(unnamed.day))
        text = phrase("{exam}: write in row {line} which eye it was.", exam=told, line=unnamed.line)
        return (DueReason(DueCode.MISSING_INPUT, text, ("eye",)),)
    gone = [eye for eye in ("right", "left") if eye not in {exam.eye for exam in exams}]
    texts = {
        "right": phrase("The right eye has no exam: it may be due sooner."),
        "left": phrase("The left eye has no exam: it may be due sooner."),
    }
    return tuple(DueReason(DueCode.OTHER_EYE, texts[eye], (f"{eye} eye",)) for eye in gone)


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
