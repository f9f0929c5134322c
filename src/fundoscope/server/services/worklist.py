"""The worklist: who comes first, and why."""

from __future__ import annotations

from fundoscope.languages import gettext as _
from fundoscope.server.services.exam_state import UrgencyReason


def describe_reason(code: str) -> str:
    """Why an exam comes where it comes, in a few words; blank where there is nothing to say of it."""
    return {
        UrgencyReason.TYPE_1: _("Type 1 ROP: treat"),
        UrgencyReason.AGGRESSIVE: _("Aggressive ROP (A-ROP)"),
        UrgencyReason.REFERRAL: _("Referral-warranted ROP"),
        UrgencyReason.POSSIBLE_TYPE_1: _("May be type 1: a finding is missing"),
        UrgencyReason.SUSPECTED: _("ROP suspected by the tool"),
        UrgencyReason.REFUSED_VIEWS: _("A photograph was refused and not repeated"),
        UrgencyReason.MISSING_VIEWS: _("Views are missing"),
    }.get(UrgencyReason(code), "")
