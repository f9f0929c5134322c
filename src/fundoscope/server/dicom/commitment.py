"""Storage commitment (PS3.4, annex J): who stores is asked to answer for what it was sent, and reports later.

The report comes on the association of the question, or on one that the other side opens to our receiver. Whoever waits for it and
whoever hears it meet in a `CommitmentReports`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pydicom.dataset import Dataset

#: Class and instance of the push model, to which all questions go.
PUSH_MODEL, PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
REQUEST_COMMITMENT = 1  # type of the action


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What a report says of a question: the instances (UIDs) that are committed, and those that are not, each with the reason."""

    transaction: str
    committed: frozenset[str]
    failed: Mapping[str, int] = field(default_factory=dict)


class CommitmentReports(Protocol):
    """Where reports are waited for."""

    def expect(self, transaction: str, instances: Mapping[str, str], peer: str) -> None:
        """A question is about to be asked: its UID, and the instances with their classes."""
        ...

    def take(self, report: CommitmentReport) -> bool:
        """A report has come; False where nobody asked for it."""
        ...

    def wait(self, transaction: str, seconds: float) -> CommitmentReport | None:
        """The report, which is waited for; None where it has not come by then."""
        ...


class HeardReports:
    """Reports of this process, kept while it runs."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._expected: set[str] = set()
        self._heard: dict[str, CommitmentReport] = {}

    def expect(self, transaction: str, instances: Mapping[str, str], peer: str) -> None:
        """See `CommitmentReports`."""
        with self._changed:
            self._expected.add(transaction)

    def take(self, report: CommitmentReport) -> bool:
        """See `CommitmentReports`."""
        with self._changed:
            if report.transaction not in self._expected:
                return False
            self._heard[report.transaction] = report
            self._changed.notify_all()
            return True

    def wait(self, transaction: str, seconds: float) -> CommitmentReport | None:
        """See `CommitmentReports`."""
        with self._changed:
            self._changed.wait_for(lambda: transaction in self._heard, seconds)
            return self._heard.get(transaction)


def ask_for(transaction: str, instances: Mapping[str, str]) -> Dataset:
    """What is sent with the question: its UID, and the instances with their classes (PS3.4, table J.3-1)."""
    asked = Dataset()
    asked.TransactionUID = transaction
    asked.ReferencedSOPSequence = [_reference(sop_class, instance) for instance, sop_class in instances.items()]
    return asked


def _reference(sop_class: str, instance: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
    return item


def read_report(told: Dataset) -> CommitmentReport:
    """The report of an N-EVENT-REPORT (PS3.4, table J.3-2); what it does not mention is in neither list."""
    committed = {str(item.ReferencedSOPInstanceUID) for item in told.get("ReferencedSOPSequence") or ()}
    failed = {
        str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason") or 0)
        for item in told.get("FailedSOPSequence") or ()
    }
    return CommitmentReport(str(told.get("TransactionUID", "")), frozenset(committed - failed.keys()), failed)
