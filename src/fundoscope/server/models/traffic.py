"""Traffic with the hospital's systems: where answers go, where photographs come from, and what was sent and found there.

The answers that wait to be sent stand in `jobs`; see `fundoscope.server.dicom.outbox`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from fundoscope.server.dicom.settings import peer_address
from fundoscope.server.models.base import Base, OfSite, Recorded, now


class DicomDestination(OfSite, Recorded):
    """A system to which the answers to the exams of a site are sent, by DICOMweb (`url`, `user`) or DIMSE (`host`, titles).

    `content` is what is sent: `tool` (the unsigned answer), `signed` (the reader's), `both`, `nothing`; `moment` is when the tool's
    goes: `judged` (as soon as all photographs are) or `signed` (with the reader's). `password` is sealed (`security.sealing`).
    """

    __tablename__ = "dicom_destinations"
    noun: ClassVar[str] = "destination"

    name: Mapped[str] = mapped_column(String(100))
    active: Mapped[bool] = mapped_column(default=True)
    content: Mapped[str] = mapped_column(String(10), default="both")
    moment: Mapped[str] = mapped_column(String(10), default="judged")
    protocol: Mapped[str] = mapped_column(String(10))  # dicomweb, dimse
    url: Mapped[str] = mapped_column(String(500), default="")
    user: Mapped[str] = mapped_column(String(200), default="")
    password: Mapped[str] = mapped_column(Text, default="")
    host: Mapped[str] = mapped_column(String(255), default="")
    port: Mapped[int | None]
    called_title: Mapped[str] = mapped_column(String(16), default="")
    calling_title: Mapped[str] = mapped_column(String(16), default="FUNDOSCOPE")
    tls: Mapped[bool] = mapped_column(default=False)  # of DIMSE; of DICOMweb the URL says it
    commitment: Mapped[bool] = mapped_column(default=False)  # storage commitment is asked for
    authority_file: Mapped[str] = mapped_column(String(500), default="")  # PEM; blank: those that the computer trusts
    certificate_file: Mapped[str] = mapped_column(String(500), default="")  # our own, where the other side asks for one
    key_file: Mapped[str] = mapped_column(String(500), default="")

    @property
    def address(self) -> str:
        """Where it is: the URL of DICOMweb, or TITLE@HOST:PORT."""
        return self.url if self.protocol == "dicomweb" else peer_address(self.called_title, self.host, self.port or 0)


class DicomSource(OfSite, Recorded):
    """Where photographs of a site come from: a PACS that is searched by DICOMweb, or a folder into which a camera writes.

    `patients` (`infant`, `adult`) says which grader judges them. `issuer` is who gives the hospital's own numbers: a patient of
    another issuer has it behind its number, in brackets. `next_look_at` is when somebody is to look again: whoever takes the turn
    moves it on.
    """

    __tablename__ = "dicom_sources"
    noun: ClassVar[str] = "source"

    name: Mapped[str] = mapped_column(String(100))
    active: Mapped[bool] = mapped_column(default=True)
    kind: Mapped[str] = mapped_column(String(10))  # dicomweb, folder
    patients: Mapped[str] = mapped_column(String(10), default="infant")
    adds_patients: Mapped[bool] = mapped_column(default=True)  # False: photographs of unknown patients are refused
    issuer: Mapped[str] = mapped_column(String(64), default="")
    url: Mapped[str] = mapped_column(String(500), default="")
    user: Mapped[str] = mapped_column(String(200), default="")
    password: Mapped[str] = mapped_column(Text, default="")
    authority_file: Mapped[str] = mapped_column(String(500), default="")
    certificate_file: Mapped[str] = mapped_column(String(500), default="")
    key_file: Mapped[str] = mapped_column(String(500), default="")
    modalities: Mapped[list[str]] = mapped_column(default=list)
    days: Mapped[int] = mapped_column(default=2)  # that the search goes back
    folder: Mapped[str] = mapped_column(String(500), default="")
    pattern: Mapped[str] = mapped_column(String(200), default="")  # of names in the folder: {patient}/*
    interval: Mapped[int] = mapped_column(default=60)  # seconds between two looks
    next_look_at: Mapped[datetime | None]
    looked_at: Mapped[datetime | None]  # the last look that came to its end
    trouble: Mapped[str] = mapped_column(Text, default="")  # of the last look; blank: none


class SourceItem(Base):
    """What became of one photograph that a source held, so that nothing is taken twice.

    `key` is the SOP Instance UID, or SHA-256 of a file that is no DICOM. `outcome`: `taken`, `already` (the room held it), `refused`.
    """

    __tablename__ = "dicom_source_items"
    __table_args__ = (UniqueConstraint("source_id", "key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    source_id: Mapped[int] = mapped_column(ForeignKey("dicom_sources.id"))
    key: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(255))
    outcome: Mapped[str] = mapped_column(String(10))
    reason: Mapped[str] = mapped_column(Text, default="")
    exam_id: Mapped[int | None] = mapped_column(ForeignKey("exams.id"))
    at: Mapped[datetime] = mapped_column(default=now)


class SentObject(Base):
    """An object that a destination has taken; it is not sent there again. `digest` is SHA-256 of its file."""

    __tablename__ = "dicom_sent_objects"
    __table_args__ = (
        UniqueConstraint("destination_id", "sop_instance"),
        Index("ix_dicom_sent_objects_job", "job_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    destination_id: Mapped[int] = mapped_column(ForeignKey("dicom_destinations.id"))
    sop_instance: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(10))  # SR, KO, PDF, overlay
    exam_id: Mapped[int] = mapped_column(ForeignKey("exams.id"))
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"))
    digest: Mapped[str] = mapped_column(String(64))
    sent_at: Mapped[datetime] = mapped_column(default=now)


class CommitmentRequest(Base):
    """A question to a PACS whether it answers for what it was sent, and its answer, whichever process hears it.

    `instances` are UIDs with their classes; `committed` a list of UIDs, `failed` the others with the reasons that it gave.
    """

    __tablename__ = "dicom_commitments"

    id: Mapped[int] = mapped_column(primary_key=True)
    transaction: Mapped[str] = mapped_column(String(64), unique=True)
    peer: Mapped[str] = mapped_column(String(300))
    instances: Mapped[dict[str, Any]]
    committed: Mapped[list[str]] = mapped_column(default=list)
    failed: Mapped[dict[str, Any]] = mapped_column(default=dict)
    asked_at: Mapped[datetime] = mapped_column(default=now)
    answered_at: Mapped[datetime | None]


class RefusedArrival(Base):
    """An object that came by C-STORE and was refused, for `reason` (English, whole sentences); once for each instance and sender.

    `patient` is the number in its header. `file` names it in the room's folder `received/refused`, where its sender had been told
    before that it was taken; blank: the sender has it still.
    """

    __tablename__ = "dicom_refused_arrivals"
    __table_args__ = (UniqueConstraint("site_id", "sop_instance", "caller", "address"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("sites.id"))
    at: Mapped[datetime] = mapped_column(default=now, index=True)
    caller: Mapped[str] = mapped_column(String(64))
    address: Mapped[str] = mapped_column(String(64))
    sop_instance: Mapped[str] = mapped_column(String(64))
    patient: Mapped[str] = mapped_column(String(100), default="")
    reason: Mapped[str] = mapped_column(Text)
    file: Mapped[str] = mapped_column(String(255), default="")
