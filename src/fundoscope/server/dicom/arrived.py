"""What a source keeps of each file that arrived: which were seen before, and what became of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import select

from fundoscope.server.database import Database
from fundoscope.server.dicom.intake import ArrivalOutcome, Intake
from fundoscope.server.models import DicomSource, SourceItem
from fundoscope.server.services.uploads import clean_name


def intake_of(source: DicomSource) -> Intake:
    """Whose photographs come from a source."""
    kind = "adult" if source.patients == "adult" else "infant"
    return Intake(source.site_id, kind, source.issuer, source.adds_patients, who=f"source {source.id}")


def find_seen(database: Database, source_id: int, keys: Iterable[str]) -> set[str]:
    """Those of these keys that the source has shown before."""
    with database.reading() as session:
        query = select(SourceItem.key).where(SourceItem.source_id == source_id, SourceItem.key.in_(list(keys)))
        return set(session.scalars(query))


def remember(database: Database, source_id: int, became: dict[str, ArrivalOutcome]) -> None:
    """Keep what became of photographs by their keys, so that they are not taken again."""
    with database.transaction() as session:
        known = set(session.scalars(select(SourceItem.key).where(SourceItem.source_id == source_id, SourceItem.key.in_(list(became)))))  # fmt: skip
        session.add_all(
            SourceItem(
                source_id=source_id, key=key[:64], name=clean_name(one.file), outcome=one.outcome, reason=one.reason or one.remark,
                exam_id=one.exam_id,
            )
            for key, one in became.items()
            if key not in known
        )  # fmt: skip


def file_digest(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest
