"""What people saw: readings, who is to read again, reports. Readings are only ever added."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, ClassVar

from sqlalchemy import Date, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fundoscope.server.models.base import Base, OfSite, Recorded


class Reading(OfSite, Recorded):
    """One reading of an exam by one person; once it is signed nothing of it changes.

    `kind`: `first`, `second` (masked), `repeat` (hidden, by the same reader), `adjudication`, `correction`, `addendum`; the last two
    supersede the reading `supersedes`, and say `why`. `masked` is True where the tool's answer was hidden while it was made.
    `basis` names the photographs and gradings that were there when it was signed; `digest` is SHA-256 of its content as signed.
    Triggers of the database refuse every change of a signed reading, its eyes and its crossings.
    """

    __tablename__ = "readings"
    noun: ClassVar[str] = "reading"

    exam_id: Mapped[int] = mapped_column(ForeignKey("exams.id"), index=True)
    reader_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    kind: Mapped[str] = mapped_column(String(20), default="first")
    supersedes: Mapped[int | None] = mapped_column(ForeignKey("readings.id"))
    masked: Mapped[bool] = mapped_column(default=False)
    note: Mapped[str] = mapped_column(Text, default="")
    why: Mapped[str] = mapped_column(Text, default="")
    basis: Mapped[dict[str, Any] | None]
    signed_at: Mapped[datetime | None]
    digest: Mapped[str] = mapped_column(String(64), default="")
    due: Mapped[dict[str, Any] | None]  # what `guidelines` said when it was signed, with its rule
    due_by: Mapped[date | None] = mapped_column(Date)
    eyes: Mapped[list[EyeReading]] = relationship(back_populates="reading", order_by="EyeReading.eye.desc()")
    crossings: Mapped[list[CrossingReading]] = relationship(back_populates="reading", order_by="CrossingReading.id")


class EyeReading(Base):
    """Findings of one eye in ICROP3's words (`fundoscope.guidelines.rules`); None where it was not said.

    `reason` says why an eye that is not `gradable` is not (a code of `services.eye_findings`). `posterior` is posterior zone II,
    `notch` that the zone is that of a notch.
    """

    __tablename__ = "eye_readings"
    __table_args__ = (UniqueConstraint("reading_id", "eye"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    reading_id: Mapped[int] = mapped_column(ForeignKey("readings.id"))
    eye: Mapped[str] = mapped_column(String(10))  # right, left
    gradable: Mapped[bool] = mapped_column(default=True)
    reason: Mapped[str] = mapped_column(String(20), default="")
    quality: Mapped[str] = mapped_column(String(10), default="")  # good, limited
    zone: Mapped[str | None] = mapped_column(String(5))
    posterior: Mapped[bool] = mapped_column(default=False)
    notch: Mapped[bool] = mapped_column(default=False)
    stage: Mapped[str | None] = mapped_column(String(5))  # "0" to "5", with 4A to 5C as the reader wrote it
    plus: Mapped[str | None] = mapped_column(String(10))
    aggressive: Mapped[bool | None]  # A-ROP
    regression: Mapped[str | None] = mapped_column(String(15))
    vascularised: Mapped[bool | None]
    treated: Mapped[bool | None]
    note: Mapped[str] = mapped_column(Text, default="")
    reading: Mapped[Reading] = relationship(back_populates="eyes")


class CrossingReading(Base):
    """A reader's grade of nicking, 0 to 3, at one crossing of one photograph; None: cannot be graded.

    A crossing that the tool has missed and the reader has `added` has a number below 0, -1 for the first of the photograph. Such
    numbers belong to this reading alone: what another reader added as -1 may stand elsewhere.
    """

    __tablename__ = "crossing_readings"
    __table_args__ = (UniqueConstraint("reading_id", "photograph_id", "crossing"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    reading_id: Mapped[int] = mapped_column(ForeignKey("readings.id"))
    photograph_id: Mapped[int] = mapped_column(ForeignKey("photographs.id"))
    crossing: Mapped[int]  # its number in the grading, or below 0
    row: Mapped[float]
    col: Mapped[float]
    grade: Mapped[int | None]
    reading: Mapped[Reading] = relationship(back_populates="crossings")

    @property
    def added(self) -> bool:
        """Whether the reader has added it."""
        return self.crossing < 0


class ReadingTask(OfSite, Recorded):
    """That an exam is to be read again: `second`, `repeat` or `adjudication`; by `reader_id`, or by any reader who has not read it.

    An exam has at most one of each kind.
    """

    __tablename__ = "reading_tasks"
    __table_args__ = (UniqueConstraint("exam_id", "kind"),)
    noun: ClassVar[str] = "reading task"

    exam_id: Mapped[int] = mapped_column(ForeignKey("exams.id"), index=True)
    kind: Mapped[str] = mapped_column(String(20))
    reader_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    open_from: Mapped[date | None] = mapped_column(Date)  # a hidden repeat comes later
    reading_id: Mapped[int | None] = mapped_column(ForeignKey("readings.id"))  # that did it
    done_at: Mapped[datetime | None]


class SignedReport(OfSite, Recorded):
    """The report of a signed reading, as it was given out; `digest` is SHA-256 of the PDF.

    `superseded_by` is the reading that superseded its own when it was made; the report then says so on every page.
    """

    __tablename__ = "reports"
    noun: ClassVar[str] = "report"

    reading_id: Mapped[int] = mapped_column(ForeignKey("readings.id"), index=True)
    language: Mapped[str] = mapped_column(String(10))
    superseded_by: Mapped[int | None] = mapped_column(ForeignKey("readings.id"))
    html: Mapped[str] = mapped_column(Text)
    file: Mapped[str] = mapped_column(String(100), default="")  # of the PDF, in the room's pictures
    digest: Mapped[str] = mapped_column(String(64), default="")
