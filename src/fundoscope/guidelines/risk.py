"""The rule G-ROP, which tells by birth and growth whom to examine; other rules of its kind are not given in full anywhere we could read."""

from __future__ import annotations

from dataclasses import dataclass

from fundoscope.guidelines.infants import RISK_COLUMNS, ScreenedInfant
from fundoscope.guidelines.rules import RiskCriteria, risk_rules
from fundoscope.languages import Phrase, gettext_noop, join, phrase

_DAYS = (phrase("10 to 19"), phrase("20 to 29"), phrase("30 to 39"))
CRITERIA = gettext_noop("{one}; {two}")


@dataclass(frozen=True, slots=True)
class RiskAnswer:
    """What a risk rule says: `verdict` is "examine", "no criterion met" or "cannot say"; `sentence` names the criterion or what is missing."""

    rule: str
    verdict: str
    sentence: Phrase
    missing: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The sentence in English."""
        return str(self.sentence)


def apply_g_rop(infant: ScreenedInfant) -> RiskAnswer:
    """Whether a criterion of G-ROP holds (PMID 31725856): one is enough, and none only where all are known."""
    criteria = next(rule.criteria for rule in risk_rules() if rule.name == "G-ROP")
    assert criteria is not None
    held = [told for told, holds, _ in _list_criteria(infant, criteria) if holds]
    missing = tuple(column for _, holds, column in _list_criteria(infant, criteria) if holds is None)
    if held:
        return RiskAnswer("G-ROP", "examine", join(held, CRITERIA))
    if missing:
        return RiskAnswer("G-ROP", "cannot say", phrase("not known: {columns}", columns=join(missing)), missing)
    return RiskAnswer("G-ROP", "no criterion met", phrase("none of the criteria holds"))


def _list_criteria(infant: ScreenedInfant, criteria: RiskCriteria) -> list[tuple[Phrase, bool | None, str]]:
    """Each criterion in words, whether it holds (None: not known), and its column."""
    age, weight = infant.gestational_age, infant.birth_weight_g
    weeks, grams = criteria.gestational_age_below // 7, criteria.birth_weight_below_g
    rows: list[tuple[Phrase, bool | None, str]] = [
        (
            phrase("gestational age below {weeks} weeks", weeks=weeks),
            None if age is None else age.days < weeks * 7,
            "gestational_age",
        ),
        (
            phrase("birth weight below {grams} g", grams=grams),
            None if weight is None else weight < grams,
            "birth_weight_g",
        ),
    ]
    limits = zip(_DAYS, criteria.weight_gain_below_g, infant.weight_gains, RISK_COLUMNS[:3], strict=True)
    for days, limit, gain, column in limits:
        told = phrase("weight gain below {limit} g on days {days}", limit=limit, days=days)
        rows.append((told, None if gain is None else gain < limit, column))
    rows.append((phrase("hydrocephalus"), infant.hydrocephalus, RISK_COLUMNS[3]))
    return rows
