"""Guidelines as data: TOML files in `data/`, each dated and cited, read into frozen models.

A file holds what its source states and nothing else. What it does not state is absent, and an absent rule is an answer
"cannot say". A file of your own has the same sections: `read_guideline("OURS.toml")`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from fundoscope.errors import UsageError, nearest
from fundoscope.guidelines.ages import parse_age

DATA = Path(__file__).parent / "data"
DEFAULT_GUIDELINE = "china-2014"  # the only one whose intervals were found in a source that could be read

Zone = Literal["I", "II", "III"]
Stage = Literal["0", "1", "2", "3", "4", "5", "A-ROP"]
Plus = Literal["no", "pre-plus", "plus"]
Regression = Literal["no", "regressing", "regressed", "reactivated"]
ZONES: tuple[Zone, ...] = ("I", "II", "III")
STAGES: tuple[Stage, ...] = ("0", "1", "2", "3", "4", "5", "A-ROP")
PLUS: tuple[Plus, ...] = ("no", "pre-plus", "plus")
REGRESSIONS: tuple[Regression, ...] = ("no", "regressing", "regressed", "reactivated")

AgeInDays = Annotated[int, BeforeValidator(lambda text: parse_age(str(text)))]
WeekRange = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
M = TypeVar("M", bound=BaseModel)


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CitedRule(_Data):
    """A rule with the sentence that it follows."""

    sentence: str


class ScreeningCriteria(CitedRule):
    """Who is screened: an infant below (or at) one of the two limits; ages in days, weights in g.

    From `gestational_age_at_most` to `gestational_age_unclear_to` the sentence can be read in two ways, and `unclear` says which.
    `beyond` says what else may be a reason to examine an infant outside the limits.
    """

    gestational_age_below: AgeInDays | None = None
    gestational_age_at_most: AgeInDays | None = None
    gestational_age_unclear_to: AgeInDays | None = None
    birth_weight_below_g: int | None = None
    birth_weight_at_most_g: int | None = None
    unclear: str = ""
    beyond: str = ""

    @model_validator(mode="after")
    def _check_limits(self) -> ScreeningCriteria:
        for kind in ("gestational_age_{}", "birth_weight_{}_g"):
            names = [kind.format(word) for word in ("below", "at_most")]
            if sum(getattr(self, name) is not None for name in names) != 1:
                raise ValueError(f"needs one of {' and '.join(names)}")
        return self

    def meets_age(self, days: int) -> bool | None:
        """Whether the gestational age is within the limit; None where the sentence can be read in two ways."""
        limit = self.gestational_age_at_most
        if self.gestational_age_below is not None:
            limit = self.gestational_age_below - 1
        assert limit is not None
        if days > limit and self.gestational_age_unclear_to is not None and days <= self.gestational_age_unclear_to:
            return None
        return days <= limit

    def meets_weight(self, grams: float) -> bool:
        """Whether the birth weight is within the limit."""
        if self.birth_weight_below_g is not None:
            return grams < self.birth_weight_below_g
        assert self.birth_weight_at_most_g is not None
        return grams <= self.birth_weight_at_most_g


class FirstExamRule(CitedRule):
    """The two windows of the first exam, in whole weeks from their start to their end."""

    weeks_after_birth: WeekRange
    postmenstrual_weeks: WeekRange


class FindingPattern(CitedRule):
    """Which findings of an eye a rule is about; all values of a finding that the rule does not name."""

    id: str
    zones: tuple[Zone, ...] = ZONES
    stages: tuple[Stage, ...] = STAGES
    plus: tuple[Plus, ...] = PLUS
    regression: tuple[Regression, ...] = ("no", "regressing", "reactivated")

    def fits(self, zone: Zone, stage: Stage, plus: Plus, regression: Regression = "no") -> bool:
        """Whether an eye with these findings is meant."""
        return zone in self.zones and stage in self.stages and plus in self.plus and regression in self.regression


class NextExamRule(FindingPattern):
    """When an eye with these findings is examined again: `weeks` after the exam, from and to; from 0 is "within"."""

    weeks: WeekRange


class StopRule(FindingPattern):
    """When the exams of an eye may end: fully vascularised, regressed, or these findings from a postmenstrual age on (days)."""

    vascularised: bool = False
    regressed: bool = False
    postmenstrual_age_from: AgeInDays | None = None


class TreatmentRule(CitedRule):
    """How soon type 1 is to be treated, in hours from the exam."""

    within_hours: Annotated[int, Field(gt=0, multiple_of=24)]


class _Cited(_Data):
    name: str
    title: str
    year: int
    citation: str
    read_in: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Guideline(_Cited):
    """One guideline: the rules that its source states; a section is None or empty where none was found."""

    country: str
    screening: ScreeningCriteria | None = None
    first_exam: FirstExamRule | None = None
    next_exam: tuple[NextExamRule, ...] = ()
    stop: tuple[StopRule, ...] = ()
    treatment: TreatmentRule | None = None


class FindingClasses(_Cited):
    """Named classes of findings, such as the types of ETROP: the first pattern that fits gives the class."""

    classes: tuple[FindingPattern, ...] = Field(alias="class")

    def classify(self, zone: Zone, stage: Stage, plus: Plus) -> FindingPattern | None:
        """The first class that an eye with these findings belongs to; None where it is in none."""
        return next((each for each in self.classes if each.fits(zone, stage, plus)), None)


class RiskCriteria(_Data):
    """The criteria of G-ROP: one that holds is enough. `weight_gain_below_g` is for days 10 to 19, 20 to 29, 30 to 39."""

    gestational_age_below: AgeInDays
    birth_weight_below_g: int
    weight_gain_below_g: tuple[int, int, int]
    hydrocephalus: bool


class RiskRule(_Data):
    """A published rule on who will have ROP, whether it is implemented, and why not."""

    name: str
    state: Literal["implemented", "not given in full"]
    citation: str
    read_in: str
    why: str
    criteria: RiskCriteria | None = None


class _RiskRules(_Data):
    rule: tuple[RiskRule, ...]


def shipped_guidelines() -> tuple[Guideline, ...]:
    """The guidelines that come with the program, by name."""
    return tuple(read_guideline(name) for name in guideline_names())


@cache
def guideline_names() -> tuple[str, ...]:
    """The names that `read_guideline` knows."""
    return tuple(path.stem for path in sorted(DATA.glob("*.toml")) if "country" in _read_toml(path))


@cache
def _shipped(name: str) -> Guideline:
    return _check(DATA / f"{name}.toml", Guideline)


def read_guideline(name: str) -> Guideline:
    """The shipped guideline of that name, or the one in a TOML file of that path; `UsageError` for another name or a fault."""
    if name in guideline_names():
        return _shipped(name)
    if not name.endswith(".toml"):
        known = guideline_names()
        near = nearest(name, known)
        raise UsageError(
            f"There is no guideline '{name}': {near} Give one of {', '.join(known)}, or a file of your own, FILE.toml."
        )
    return _check(Path(name), Guideline)  # not kept: the file may change while a program runs


@cache
def etrop_types() -> FindingClasses:
    """The types 1 and 2 of ETROP."""
    return _check(DATA / "etrop-2003.toml", FindingClasses)


@cache
def referral_classes() -> FindingClasses:
    """What warrants a referral in telemedicine (AAP 2015)."""
    return _check(DATA / "aap-telemedicine-2015.toml", FindingClasses)


@cache
def risk_rules() -> tuple[RiskRule, ...]:
    """The rules on who will have ROP that the literature cites, implemented or not."""
    return _check(DATA / "risk_rules.toml", _RiskRules).rule


def _check(path: Path, model: type[M]) -> M:
    try:
        return model.model_validate(_read_toml(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        keys: Iterable[str] = model.model_fields
        near = f" ({nearest(place, keys)})" if first["type"] == "extra_forbidden" and "." not in place else ""
        raise UsageError(f"{path}: {place}: {first['msg']}{near}. Correct this key of the guideline.") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}). Give the path of a guideline's file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: is not TOML ({error}). Correct the line that it names.") from error
