"""The tables of the reading room.

people     sites, accounts, sessions, tokens
clinic     patients -> exams -> photographs -> gradings; corrections
readings   readings of exams, who is to read again, signed reports
traffic    destinations of answers, sources of photographs, what was sent, found and refused there
work       jobs, audit log, secrets of the room
"""

from fundoscope.server.models.base import Base, OfSite, Recorded, UtcTime, now
from fundoscope.server.models.clinic import (
    EYES,
    VIEWS,
    Correction,
    Exam,
    ExamPhotograph,
    Grading,
    IdempotencyKey,
    Patient,
)
from fundoscope.server.models.people import ApiToken, Membership, OneTimeLink, SignInSession, Site, User
from fundoscope.server.models.readings import CrossingReading, EyeReading, Reading, ReadingTask, SignedReport
from fundoscope.server.models.traffic import (
    CommitmentRequest,
    DicomDestination,
    DicomSource,
    RefusedArrival,
    SentObject,
    SourceItem,
)
from fundoscope.server.models.work import AuditEntry, Job, RoomSecret

__all__ = [
    "EYES",
    "VIEWS",
    "ApiToken",
    "AuditEntry",
    "Base",
    "CommitmentRequest",
    "Correction",
    "CrossingReading",
    "DicomDestination",
    "DicomSource",
    "Exam",
    "ExamPhotograph",
    "EyeReading",
    "Grading",
    "IdempotencyKey",
    "Job",
    "Membership",
    "OfSite",
    "OneTimeLink",
    "Patient",
    "Reading",
    "ReadingTask",
    "Recorded",
    "RefusedArrival",
    "RoomSecret",
    "SentObject",
    "SignInSession",
    "SignedReport",
    "Site",
    "SourceItem",
    "User",
    "UtcTime",
    "now",
]
