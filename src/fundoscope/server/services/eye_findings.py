"""What a reader enters: findings of an eye in ICROP3's words (Ophthalmology 2021;128:e51), grades of crossings, and what speaks against them.

Stages 4A to 5C are kept as they are written; the rules know them as 4 and 5 (`services.due`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from fundoscope.guidelines.rules import REGRESSIONS, Plus, Regression, Zone
from fundoscope.languages import gettext as _
from fundoscope.languages import ngettext
from fundoscope.server.errors import InvalidError
from fundoscope.server.models import EYES, EyeReading
from fundoscope.server.services.inputs import Note, Number

Eye = Literal["right", "left"]
ReadStage = Literal["0", "1", "2", "3", "4", "4A", "4B", "5", "5A", "5B", "5C"]
NotGradable = Literal["not_photographed", "views_missing", "blurred", "dark", "media", "pupil", "other"]
Quality = Literal["good", "limited"]

READ_STAGES: tuple[ReadStage, ...] = ("0", "1", "2", "3", "4", "4A", "4B", "5", "5A", "5B", "5C")
#: Why an eye cannot be graded; "other" asks for a note.
NOT_GRADABLE: tuple[NotGradable, ...] = (
    "not_photographed", "views_missing", "blurred", "dark", "media", "pupil", "other",
)  # fmt: skip
#: Findings of an infant's eye; of an adult's none of them is entered.
INFANT_FINDINGS = ("zone", "posterior", "notch", "stage", "plus", "aggressive", "regression", "vascularised", "treated")


class EyeFindings(BaseModel):
    """Findings of one eye; None where it was not said."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    eye: Eye
    gradable: bool = True
    reason: NotGradable | Literal[""] = Field("", description="Why the eye cannot be graded.")
    quality: Quality | Literal[""] = Field("", description="Of the photographs of this eye, as the reader finds it.")
    zone: Zone | None = None
    posterior: bool = Field(False, description="Posterior zone II: within 2 disc diameters of zone I.")
    notch: bool = Field(False, description="The zone is that of a notch of 1 to 2 clock hours (secondary to notch).")
    stage: ReadStage | None = None
    plus: Plus | None = None
    aggressive: bool | None = Field(None, description="A-ROP.")
    regression: Regression | None = None
    vascularised: bool | None = None
    treated: bool | None = None
    note: Note = ""


class CrossingGrade(BaseModel):
    """A grade of nicking of one crossing of the tool's list; None where it cannot be graded."""

    model_config = ConfigDict(extra="forbid")

    photograph_id: Number
    crossing: int = Field(ge=1, le=100_000)
    grade: int | None = Field(None, ge=0, le=3)


class AddedCrossing(BaseModel):
    """A crossing that the tool has missed, with its grade of nicking; null where it cannot be graded.

    `row` and `col` are pixels of the photograph from its top and its left, 0-based.
    """

    model_config = ConfigDict(extra="forbid")

    photograph_id: Number
    row: float = Field(ge=0, le=100_000, allow_inf_nan=False)
    col: float = Field(ge=0, le=100_000, allow_inf_nan=False)
    grade: int | None = Field(ge=0, le=3)


class ReadingContent(BaseModel):
    """What one reading says: at most one entry an eye; for adults grades crossing by crossing.

    `crossings` are those that the tool found, `added` those that it missed.
    """

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    eyes: tuple[EyeFindings, ...] = Field((), max_length=2)
    crossings: tuple[CrossingGrade, ...] = Field((), max_length=5000)
    added: tuple[AddedCrossing, ...] = Field((), max_length=500)
    note: Note = ""


def check_content(content: ReadingContent, kind: str) -> None:
    """Raise `InvalidError` for what cannot be kept, of a patient of that kind (`infant`, `adult`)."""
    if len({one.eye for one in content.eyes}) < len(content.eyes):
        raise InvalidError(_("An eye is named twice. Give each eye once."), "eyes")
    if len({(one.photograph_id, one.crossing) for one in content.crossings}) < len(content.crossings):
        raise InvalidError(_("A crossing is graded twice. Grade each once."), "crossings")
    if kind == "infant" and content.added:
        raise InvalidError(_("Crossings are graded in adults only. Take this one away."), "added")
    for one in content.eyes:
        fault = next(_find_faults(one, kind), None)
        if fault is not None:
            field, message = fault
            raise InvalidError(f"{eye_name(one.eye)}: {message}", f"{one.eye}.{field}")


def _find_faults(one: EyeFindings, kind: str) -> Iterator[tuple[str, str]]:
    said = [name for name in INFANT_FINDINGS if getattr(one, name) not in (None, False)]
    if kind == "adult" and said:
        yield said[0], _("this finding is one of infants. Leave it blank.")
    if not one.gradable and not one.reason:
        yield "reason", _("say why it cannot be graded.")
    if not one.gradable and one.reason == "other" and not one.note:
        yield "note", _("say in the note why it cannot be graded.")
    if not one.gradable and [name for name in said if name != "treated"]:
        yield said[0], _("it cannot be graded, and findings are entered. Take one of the two back.")
    if one.gradable and one.reason:
        yield "reason", _("a reason why it cannot be graded is given, but it is graded. Take one of the two back.")
    if one.posterior and one.zone != "II":
        yield "posterior", _("posterior belongs to zone II only.")
    if one.notch and one.zone is None:
        yield "notch", _("a notch needs its zone.")
    if one.aggressive and one.stage == "0":
        yield "stage", _("A-ROP and no ROP contradict each other. Correct one of the two.")


def find_gaps(content: ReadingContent, kind: str) -> list[str]:
    """What must be entered before a reading can be signed, a sentence each; none where it is whole.

    An eye needs at least one finding, or the reason why it cannot be graded. What else was not said is no gap: the rules then
    answer "cannot say". Contradictions that the rules would stumble on are gaps.
    """
    by_eye: dict[str, EyeFindings] = {one.eye: one for one in content.eyes}
    gaps = []
    for eye in EYES if kind == "infant" else ():
        one, name = by_eye.get(eye), eye_name(eye)
        if one is None or (one.gradable and not says_something(one)):
            gaps.append(_("{eye}: enter a finding, or why it cannot be graded.").format(eye=name))
        elif one.vascularised and (one.plus == "plus" or (one.stage or "0") != "0") and one.regression != "regressed":
            gaps.append(
                _("{eye}: fully vascularised and a stage or plus disease contradict each other.").format(eye=name)
            )
    if (
        kind == "adult"
        and not content.crossings
        and not content.added
        and not any(not one.gradable or one.note for one in content.eyes)
        and not content.note
    ):
        gaps.append(_("Grade the crossings, say why an eye cannot be graded, or write a note."))
    return gaps


def says_something(one: EyeFindings) -> bool:
    """Whether anything was said of an infant's eye from which a rule may follow."""
    return bool(one.zone or one.stage or one.plus or one.aggressive or one.vascularised) or one.regression not in (
        None,
        "no",
    )


def describe_findings(eye: EyeReading | EyeFindings, kind: str = "infant") -> str:
    """The findings of an eye in one line of words, such as "zone II (posterior), stage 2, pre-plus"."""
    if not eye.gradable:
        reason = not_gradable_words().get(eye.reason)
        return _("cannot be graded: {reason}").format(reason=reason) if reason else _("cannot be graded")
    words = []
    if eye.zone:
        details = [
            text for text, said in ((_("posterior"), eye.posterior), (_("secondary to notch"), eye.notch)) if said
        ]
        words.append(_("zone {zone}").format(zone=eye.zone) + (f" ({', '.join(details)})" if details else ""))
    if eye.stage:
        words.append(stage_words(eye.stage))
    if eye.plus:
        words.append(plus_words()[eye.plus])
    words += [text for text, said in (
        ("A-ROP", eye.aggressive), (_("fully vascularised"), eye.vascularised), (_("treated"), eye.treated),
    ) if said]  # fmt: skip
    if eye.regression and eye.regression != "no":
        words.append(regression_words()[eye.regression])
    if eye.quality == "limited":
        words.append(_("limited quality"))
    return ", ".join(words) or (_("no findings entered") if kind == "infant" else _("graded by crossings"))


def describe_grades(grades: Sequence[int | None]) -> str:
    """The grades of an adult's eye in one line: how many crossings, the worst grade, how many could not be graded."""
    given = [grade for grade in grades if grade is not None]
    if not grades:
        return _("no crossing graded")
    words = ngettext("{n} crossing graded", "{n} crossings graded", len(given)).format(n=len(given))
    worst = _("worst grade {grade}").format(grade=max(given)) if given else ""
    not_graded = len(grades) - len(given)
    other = (
        ngettext("{n} cannot be graded", "{n} cannot be graded", not_graded).format(n=not_graded) if not_graded else ""
    )
    return ", ".join(filter(None, (words, worst, other)))


def eye_name(eye: str) -> str:
    """The eye in words."""
    return {"right": _("Right eye"), "left": _("Left eye")}[eye]


def stage_words(stage: str) -> str:
    """A stage in words; 0 is never called healthy."""
    return _("no ROP seen") if stage == "0" else _("stage {stage}").format(stage=stage)


def plus_words() -> dict[str, str]:
    """Plus disease in words, by code."""
    return {"no": _("no plus"), "pre-plus": _("pre-plus"), "plus": _("plus disease")}


def regression_words() -> dict[str, str]:
    """Regression in words, by code."""
    words = {
        "no": _("no regression"),
        "regressing": _("regressing"),
        "regressed": _("regressed"),
        "reactivated": _("reactivated"),
    }
    return {code: words[code] for code in REGRESSIONS}


def not_gradable_words() -> dict[str, str]:
    """Why an eye cannot be graded, by code."""
    return {
        "not_photographed": _("not photographed"), "views_missing": _("views are missing"), "blurred": _("out of focus"),
        "dark": _("too dark or too bright"), "media": _("cloudy media"), "pupil": _("small pupil"), "other": _("see the note"),
    }  # fmt: skip
