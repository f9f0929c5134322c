"""Guidelines of ROP screening as dated, cited data, and the pure functions that apply them to infants.

`data/` holds the files, `rules` reads them. `infants` reads the table of infants with `ages` (gestational and postmenstrual
age to the day). `eyes` says what follows from one eye's exam, `due` what is next for an infant and who comes first, each with the
rule behind it and with codes of `reasons`. `risk` holds the rule G-ROP. `page` writes the reference page from the files.

What no file states is "cannot say", with the input or the rule that is missing; nothing is guessed.
"""

from fundoscope.guidelines.ages import GestationalAge, format_age, parse_date, parse_gestational_age, postmenstrual_age
from fundoscope.guidelines.due import DUE_COLUMNS, DueAnswer, decide_infant, make_worklist
from fundoscope.guidelines.eyes import EyeAnswer, decide_eye
from fundoscope.guidelines.infants import EyeExam, ScreenedInfant, carry_treatment, read_infants
from fundoscope.guidelines.page import guidelines_page
from fundoscope.guidelines.reasons import DueCode, DueDecision, DueReason, RuleCitation, Urgency
from fundoscope.guidelines.rules import (
    DEFAULT_GUIDELINE,
    Guideline,
    etrop_types,
    read_guideline,
    referral_classes,
    risk_rules,
    shipped_guidelines,
)
from fundoscope.guidelines.wording import describe_worklist

__all__ = [
    "DEFAULT_GUIDELINE",
    "DUE_COLUMNS",
    "DueAnswer",
    "DueCode",
    "DueDecision",
    "DueReason",
    "EyeAnswer",
    "EyeExam",
    "GestationalAge",
    "Guideline",
    "RuleCitation",
    "ScreenedInfant",
    "Urgency",
    "carry_treatment",
    "decide_eye",
    "decide_infant",
    "describe_worklist",
    "etrop_types",
    "format_age",
    "guidelines_page",
    "make_worklist",
    "parse_date",
    "parse_gestational_age",
    "postmenstrual_age",
    "read_guideline",
    "read_infants",
    "referral_classes",
    "risk_rules",
    "shipped_guidelines",
]
