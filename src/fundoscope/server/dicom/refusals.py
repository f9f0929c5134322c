"""What came by C-STORE and was refused: kept for the administrator, who alone can have it put right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from fundoscope.languages import gettext as _
from fundoscope.server.dicom.troubles import Refusal
from fundoscope.server.errors import ConflictError, NotFoundError
from fundoscope.server.models import ExamPhotograph, RefusedArrival, now
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.services import audit
from fundoscope.server.settings import ServerSettings

SHOWN_DAYS = 30  # that a refusal is shown
#: Where a room keeps what was received, answered for and is not taken yet, and within it what was refused after all.
RECEIVED, ASIDE = "received", "refused"


@dataclass(frozen=True, slots=True)
class ShownRefusal:
    """A refusal, and whether the room holds the photograph meanwhile."""

    row: RefusedArrival
    came_later: bool


def write_refusal(session: Session, caller: Caller, site_id: int, refusal: Refusal) -> None:
    """Write a refusal down; one of the same instance by the same sender is brought up to date."""
    sender = {"caller": refusal.caller[:64], "address": refusal.address[:64], "sop_instance": refusal.sop_instance[:64]}
    row = session.scalar(select(RefusedArrival).filter_by(site_id=site_id, **sender).with_for_update())
    if row is None:
        row = RefusedArrival(site_id=site_id, **sender)
        session.add(row)
    row.at, row.reason, row.patient = now(), refusal.why[:2000], refusal.patient[:100]
    row.file = refusal.file or row.file
    audit.record(session, caller, "photograph.refuse", site_id=site_id, sop_instance=refusal.sop_instance[:64])


def find_refusals(session: Session, caller: Caller, most: int = 50) -> Sequence[ShownRefusal]:
    """What was refused for the caller's sites in the last month, the newest first; for administrators."""
    caller.require(Role.ADMINISTRATOR)
    there = exists().where(
        ExamPhotograph.site_id == RefusedArrival.site_id, ExamPhotograph.sop_instance == RefusedArrival.sop_instance
    )
    query = (
        select(RefusedArrival, there)
        .where(RefusedArrival.site_id.in_(caller.sites), RefusedArrival.at >= now() - timedelta(days=SHOWN_DAYS))
        .order_by(RefusedArrival.at.desc())
        .limit(most)
    )
    return [ShownRefusal(row, came_later) for row, came_later in session.execute(query)]


def take_again(session: Session, caller: Caller, settings: ServerSettings, number: int) -> None:
    """Have a photograph that was put aside taken once more, as if it had just come."""
    caller.require(Role.ADMINISTRATOR)
    row = session.get(RefusedArrival, number)
    if row is None or row.site_id not in caller.sites:
        raise NotFoundError("photograph", number)
    place = settings.data / RECEIVED
    try:
        if not row.file:
            raise FileNotFoundError
        (place / ASIDE / Path(row.file).name).replace(place / Path(row.file).name)
    except FileNotFoundError:
        raise ConflictError(_("The photograph is not kept here. Have it sent again.")) from None
    row.file = ""
    audit.record(session, caller, "photograph.again", site_id=row.site_id, sop_instance=row.sop_instance)
